package audit

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/quote"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// Lister gives the API's list of KMS. Its errors carry no secret.
type Lister interface {
	List(ctx context.Context, f kmsapi.Filter) (*kmsapi.List, error)
}

// crossCheck holds the API's list of KMS against its on-chain detail, and against what the contracts say of themselves.
func (p *pass) crossCheck() {
	if p.chain.KMS == nil || p.detail == nil || p.detail.ChainID != p.chain.ChainID {
		return
	}
	if p.list == nil {
		for _, t := range p.targets {
			t.reasons = append(t.reasons, "the API's list of KMS could not be read, so nothing was held against it")
		}
		return
	}
	listed := map[common.Address][]kmsapi.KMS{}
	var order []common.Address
	for _, k := range p.list.KMS {
		if k.Contract == nil || k.ChainID != p.chain.ChainID {
			continue
		}
		if listed[*k.Contract] == nil {
			order = append(order, *k.Contract)
		}
		listed[*k.Contract] = append(listed[*k.Contract], k)
	}
	p.crossed = true
	for _, t := range p.targets {
		t.crossed = []Kind{KMSContractMismatch}
		if t.listed && t.foreign == 0 && listed[t.address] == nil {
			t.fault(KMSContractMismatch, "the API's on-chain detail lists the contract, its list of KMS does not")
		}
		if t.audited() && !t.faulty(ChainMismatch) && p.state != nil {
			t.speaksOf(listed[t.address], p.detail, p.state)
		}
	}
	for _, a := range order {
		i := slices.IndexFunc(p.targets, func(t *target) bool { return t.address == a })
		if i < 0 {
			i = len(p.targets)
			p.targets = append(p.targets, &target{address: a, completeness: Unchecked, named: true, reasons: []string{"the contract was not audited"}})
		}
		if t := p.targets[i]; !t.listed {
			t.fault(KMSContractMismatch, "the API's list of KMS names the contract %s (%s), its on-chain detail does not", a, quote.Cut(listed[a][0].ID))
		}
	}
}

// speaksOf holds what the API says of the KMS of a contract against what the contract says.
func (t *target) speaksOf(listed []kmsapi.KMS, detail *kmsapi.OnChainDetail, state *ethrpc.State) {
	says, known := state.Control[t.address]
	if !known || says.Err != nil {
		return
	}
	told := map[string]bool{} // one finding for all rows that say the same
	differ := func(k Kind, what, claim, is string) {
		if claim != "" && !slices.Contains(t.crossed, k) {
			t.crossed = append(t.crossed, k)
		}
		if claim == "" || bare(claim) == bare(is) || told[what+bare(claim)] {
			return
		}
		told[what+bare(claim)] = true
		t.fault(k, "the API says that the %s is %s, the contract says %s", what, quote.Cut(claim), quote.Cut(orNone(is)))
	}
	keys := func(k256, ca string) {
		if says.K256Pubkey != nil {
			differ(KMSPubkeyMismatch, "k256_pubkey", k256, hex.EncodeToString(says.K256Pubkey))
			differ(KMSPubkeyMismatch, "ca_pubkey", ca, hex.EncodeToString(says.CAPubkey))
		}
	}
	for _, row := range detail.Contracts {
		if row.Address == t.address {
			keys(row.K256Pubkey, row.CAPubkey)
		}
	}
	for _, k := range listed {
		keys(k.K256Pubkey, k.CAPubkey)
		if says.GatewayAppID != nil {
			differ(GatewayAppIDMismatch, "gateway_app_id", k.GatewayAppID, *says.GatewayAppID)
		}
	}
}

// bare is a hex text without its prefix, in lower case.
func bare(s string) string { return strings.TrimPrefix(strings.ToLower(strings.TrimSpace(s)), "0x") }

// absent tells whether the chain is to be left out of the report: the API names no KMS on it, neither in its list nor in
// its on-chain detail, or does not know the chain.
func (p *pass) absent() bool {
	return p.chain.Discovered && p.list != nil && (p.nowhere || p.detail != nil && len(p.detail.Contracts) == 0) &&
		!slices.ContainsFunc(p.list.KMS, func(k kmsapi.KMS) bool { return k.Contract != nil && k.ChainID == p.chain.ChainID })
}
