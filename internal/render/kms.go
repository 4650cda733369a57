package render

import (
	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// KMSList, KMS, OnChain and AppIDs are answers of the API as docs/kms.md describes them: what the API said, whatever
// its version, with addresses in EIP-55 and ids of 32 bytes as 0x and lower-case digits. Other texts are as sent. What
// the API left out is left out, lists are never null.

// KMSList is the list of KMS.
type KMSList struct {
	KMS []KMS `json:"kms"`
}

// KMS is one KMS.
type KMS struct {
	ID           string  `json:"id"`
	Slug         string  `json:"slug,omitempty"`
	Label        string  `json:"label,omitempty"`
	ChainID      uint64  `json:"chain_id"` // 0: off chain
	Contract     string  `json:"contract,omitempty"`
	GatewayAppID *string `json:"gateway_app_id,omitempty"` // "": the API has the field, and nothing in it
	K256Pubkey   string  `json:"k256_pubkey,omitempty"`
	CAPubkey     string  `json:"ca_pubkey,omitempty"`
	NodeCount    *uint64 `json:"node_count,omitempty"`
	Version      string  `json:"version,omitempty"`
	URL          string  `json:"url,omitempty"`
}

// OnChain is what the API says of the contracts of a chain.
type OnChain struct {
	Chain     string     `json:"chain"`
	ChainID   uint64     `json:"chain_id"`
	Contracts []Contract `json:"contracts"`
}

// Contract is one contract of a chain.
type Contract struct {
	Contract        string  `json:"contract"`
	Chain           string  `json:"chain"`
	ChainID         uint64  `json:"chain_id"`
	K256Pubkey      string  `json:"k256_pubkey,omitempty"`
	CAPubkey        string  `json:"ca_pubkey,omitempty"`
	GatewayContract string  `json:"gateway_contract,omitempty"`
	Entries         []Claim `json:"entries"` // devices, then images, in the API's order
}

// Claim is what the API says of one id. ID is empty for an image without a hash.
type Claim struct {
	List    audit.List       `json:"list"`
	ID      string           `json:"id"`
	Name    string           `json:"name,omitempty"`
	Version string           `json:"version,omitempty"`
	Claim   audit.ClaimState `json:"claim"`
}

// AppIDs are ids that the API has reserved.
type AppIDs struct {
	AppIDs []AppID `json:"app_ids"`
}

// AppID is one of them.
type AppID struct {
	ID    string `json:"app_id"`
	Nonce uint64 `json:"nonce"`
}

// NewKMSList is l for readers.
func NewKMSList(l *kmsapi.List) KMSList {
	out := KMSList{KMS: []KMS{}}
	for _, k := range l.KMS {
		out.KMS = append(out.KMS, NewKMS(k))
	}
	return out
}

// NewKMS is k for readers.
func NewKMS(k kmsapi.KMS) KMS {
	out := KMS{
		ID: k.ID, Slug: k.Slug, Label: k.Label, ChainID: k.ChainID, K256Pubkey: k.K256Pubkey, CAPubkey: k.CAPubkey,
		Version: k.Version, URL: k.URL,
	}
	if k.Contract != nil {
		out.Contract = k.Contract.Hex()
	}
	if k.HasGatewayAppID {
		out.GatewayAppID = &k.GatewayAppID
	}
	if k.PerContract {
		out.NodeCount = &k.NodeCount
	}
	return out
}

// NewOnChain is d for readers.
func NewOnChain(d *kmsapi.OnChainDetail) OnChain {
	out := OnChain{Chain: d.ChainName, ChainID: d.ChainID, Contracts: []Contract{}}
	for _, c := range d.Contracts {
		row := Contract{
			Contract: c.Address.Hex(), Chain: c.ChainName, ChainID: c.ChainID,
			K256Pubkey: c.K256Pubkey, CAPubkey: c.CAPubkey, GatewayContract: c.GatewayContractAddress, Entries: []Claim{},
		}
		for _, e := range c.Devices {
			row.Entries = append(row.Entries, Claim{audit.Device, spelled(e.ID), e.NodeName, "", claims[e.Allowed]})
		}
		for _, e := range c.OSImages {
			row.Entries = append(row.Entries, Claim{audit.OSImage, spelled(e.Hash), e.Name, e.Version, claims[e.Allowed]})
		}
		out.Contracts = append(out.Contracts, row)
	}
	return out
}

// NewAppIDs is ids for readers.
func NewAppIDs(ids []kmsapi.AppID) AppIDs {
	out := AppIDs{AppIDs: []AppID{}}
	for _, id := range ids {
		out.AppIDs = append(out.AppIDs, AppID(id))
	}
	return out
}

var claims = map[kmsapi.Allowed]audit.ClaimState{
	kmsapi.AllowedTrue: audit.ClaimAllowed, kmsapi.AllowedFalse: audit.ClaimDenied, kmsapi.AllowedUnknown: audit.ClaimUnknown,
}

// spelled gives an id as everywhere here; what is malformed stays as it is.
func spelled(s string) string {
	if id, err := sanitize.ParseID(s); err == nil {
		return id.Hex()
	}
	return s
}
