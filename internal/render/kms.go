package render

import (
	"bytes"
	"cmp"
	"fmt"
	"strconv"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// KMSList, KMS, OnChain and AppIDs are answers of any version of the API, as docs/kms.md describes them. Addresses are in EIP-55,
// and ids of 32 bytes are 0x and lower-case digits; other strings are as sent. Fields that the API omitted are omitted, and
// lists are never null.

type KMSList struct {
	KMS []KMS `json:"kms"`
}

type KMS struct {
	ID           string  `json:"id"`
	Slug         string  `json:"slug,omitempty"`
	Label        string  `json:"label,omitempty"`
	ChainID      uint64  `json:"chain_id"` // 0: off chain
	Contract     string  `json:"contract,omitempty"`
	GatewayAppID *string `json:"gateway_app_id,omitempty"` // "" if the field is empty, nil if the API has no such field
	K256Pubkey   string  `json:"k256_pubkey,omitempty"`
	CAPubkey     string  `json:"ca_pubkey,omitempty"`
	NodeCount    *uint64 `json:"node_count,omitempty"`
	Version      string  `json:"version,omitempty"`
	URL          string  `json:"url,omitempty"`
}

// OnChain is what the API claims about the contracts of a chain.
type OnChain struct {
	Chain     string     `json:"chain"`
	ChainID   uint64     `json:"chain_id"`
	Contracts []Contract `json:"contracts"`
}

type Contract struct {
	Contract        string  `json:"contract"`
	Chain           string  `json:"chain"`
	ChainID         uint64  `json:"chain_id"`
	K256Pubkey      string  `json:"k256_pubkey,omitempty"`
	CAPubkey        string  `json:"ca_pubkey,omitempty"`
	GatewayContract string  `json:"gateway_contract,omitempty"`
	Entries         []Claim `json:"entries"` // devices, then images, in the API's order
}

// Claim is what the API claims about one id. ID is empty for an image without a hash.
type Claim struct {
	List    audit.List       `json:"list"`
	ID      string           `json:"id"`
	Name    string           `json:"name,omitempty"`
	Version string           `json:"version,omitempty"`
	Claim   audit.ClaimState `json:"claim"`
}

// AppIDs are ids that the API reserved.
type AppIDs struct {
	AppIDs []AppID `json:"app_ids"`
}

type AppID struct {
	ID    string `json:"app_id"`
	Nonce uint64 `json:"nonce"`
}

func NewKMSList(l *kmsapi.List) KMSList { return KMSList{each(l.KMS, NewKMS)} }

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

func NewOnChain(d *kmsapi.OnChainDetail) OnChain {
	return OnChain{Chain: d.ChainName, ChainID: d.ChainID, Contracts: each(d.Contracts, newContract)}
}

func newContract(c kmsapi.Contract) Contract {
	devices := each(c.Devices, func(e kmsapi.Device) Claim {
		return Claim{audit.Device, spelled(e.ID), e.NodeName, "", claims[e.Allowed]}
	})
	images := each(c.OSImages, func(e kmsapi.OSImage) Claim {
		return Claim{audit.OSImage, spelled(e.Hash), e.Name, e.Version, claims[e.Allowed]}
	})
	return Contract{
		Contract: c.Address.Hex(), Chain: c.ChainName, ChainID: c.ChainID,
		K256Pubkey: c.K256Pubkey, CAPubkey: c.CAPubkey, GatewayContract: c.GatewayContractAddress, Entries: append(devices, images...),
	}
}

func NewAppIDs(ids []kmsapi.AppID) AppIDs {
	return AppIDs{each(ids, func(id kmsapi.AppID) AppID { return AppID(id) })}
}

// each converts a list. The result is never nil, which JSON would write as null.
func each[A, B any](list []A, convert func(A) B) []B {
	out := make([]B, len(list))
	for i, a := range list {
		out[i] = convert(a)
	}
	return out
}

var claims = map[kmsapi.Allowed]audit.ClaimState{
	kmsapi.AllowedTrue: audit.ClaimAllowed, kmsapi.AllowedFalse: audit.ClaimDenied, kmsapi.AllowedUnknown: audit.ClaimUnknown,
}

// spelled normalizes an id. A malformed one stays as it is.
func spelled(s string) string {
	if id, err := sanitize.ParseID(s); err == nil {
		return id.Hex()
	}
	return s
}

func (l KMSList) WriteText(b *bytes.Buffer, opt TextOptions) {
	g := Table{
		Heads: []string{"ID", "SLUG", "LABEL", "CHAIN ID", "CONTRACT", "NODES", "VERSION", "URL"},
		Drop:  []string{"URL", "VERSION", "NODES", "LABEL", Shorten, "URL", "VERSION", "NODES", "LABEL", "SLUG"},
	}
	for _, k := range l.KMS {
		g.Add(k.ID, k.Slug, k.Label, k.chain(), k.Contract, k.nodes(), k.Version, k.URL)
	}
	g.Write(b, opt, "", "the API lists no KMS\n")
}

func (k KMS) WriteText(b *bytes.Buffer, opt TextOptions) {
	pairs := [][2]string{
		{"id", k.ID}, {"slug", k.Slug}, {"label", k.Label}, {"chain id", k.chain()}, {"contract", k.Contract},
		{"k256 pubkey", k.K256Pubkey}, {"ca pubkey", k.CAPubkey}, {"nodes", k.nodes()}, {"version", k.Version}, {"url", k.URL},
	}
	if k.GatewayAppID != nil {
		pairs = append(pairs, [2]string{"gateway app id", cmp.Or(*k.GatewayAppID, "none")})
	}
	list(b, opt, "", pairs)
}

func (k KMS) chain() string {
	if k.ChainID == 0 {
		return "off chain"
	}
	return strconv.FormatUint(k.ChainID, 10)
}

func (k KMS) nodes() string {
	if k.NodeCount == nil {
		return ""
	}
	return strconv.FormatUint(*k.NodeCount, 10)
}

func (o OnChain) WriteText(b *bytes.Buffer, opt TextOptions) {
	fmt.Fprintf(b, "%s (chain id %d): %s\n", sanitize.Plain(o.Chain), o.ChainID, plural(len(o.Contracts), "contract"))
	for _, c := range o.Contracts {
		fmt.Fprintf(b, "\n%s on %s (chain id %d)\n", c.Contract, sanitize.Plain(c.Chain), c.ChainID)
		list(b, opt, "  ", [][2]string{{"k256 pubkey", c.K256Pubkey}, {"ca pubkey", c.CAPubkey}, {"gateway contract", c.GatewayContract}})
		g := Table{Heads: []string{"LIST", "CLAIM", "ID", "NAME", "VERSION"}, Drop: []string{"VERSION", Shorten, "VERSION", "NAME"}}
		for _, e := range c.Entries {
			g.Add(string(e.List), string(e.Claim), e.ID, e.Name, e.Version)
		}
		g.Write(b, opt, "  ", "  no entries\n")
	}
}

func (a AppIDs) WriteText(b *bytes.Buffer, opt TextOptions) {
	g := Table{Heads: []string{"APP ID", "NONCE"}, Drop: []string{Shorten}}
	for _, id := range a.AppIDs {
		g.Add(id.ID, strconv.FormatUint(id.Nonce, 10))
	}
	g.Write(b, opt, "", "the API reserved no app ids\n")
}
