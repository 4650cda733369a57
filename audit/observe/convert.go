package observe

import (
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"unicode/utf8"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// Record is everything that the judgement on one chain is based on, with its proofs.
type Record struct {
	Intent audit.Intent
	Prior  audit.Prior
	Looks  audit.Looks
	Raw    Raw
}

// Raw has the proofs of a Record's looks.
type Raw struct{ First, Second, Head RawLook }

// RawLook has the proofs of one look. Those that were not available are nil.
type RawLook struct {
	Claim   *kmsapi.Source
	Listing []kmsapi.Source // one per page
	Queries []ethrpc.Query
	Witness *ethrpc.Witness
	Anchor  *Anchoring
	L1      *L1Raw
}

// Anchoring proves that the anchor vouches for a look's block.
type Anchoring struct {
	Documents anchor.Documents
	Headers   [][]byte // RLP, in the order of anchor.Head.WalkTo
}

// ClaimOf converts the API's answer.
func ClaimOf(d *kmsapi.OnChainDetail) *audit.APIClaim {
	out := &audit.APIClaim{Claim: SourceOf(&d.Source), ChainID: d.ChainID}
	for _, c := range d.Contracts {
		row := audit.ClaimedContract{Address: c.Address, ChainID: c.ChainID, K256Pubkey: c.K256Pubkey, CAPubkey: c.CAPubkey}
		row.Entries = make([]audit.ClaimedEntry, 0, len(c.Devices)+len(c.OSImages))
		for _, d := range c.Devices {
			row.Entries = append(row.Entries, audit.NewClaimedEntry(audit.Device, d.ID, d.NodeName, "", claimState(d.Allowed)))
		}
		for _, i := range c.OSImages {
			row.Entries = append(row.Entries, audit.NewClaimedEntry(audit.OSImage, i.Hash, i.Name, i.Version, claimState(i.Allowed)))
		}
		slices.SortFunc(row.Entries, func(a, b audit.ClaimedEntry) int { return a.Compare(&b) })
		out.Contracts = append(out.Contracts, row)
	}
	return out
}

// claimOf is ClaimOf and claimedIDs. It reuses the last results if the API's answer is unchanged.
func (c *observer) claimOf(d *kmsapi.OnChainDetail) (*audit.APIClaim, idsByContract) {
	same := c.claim != nil && len(d.Contracts) > 0 && len(c.detail.Contracts) > 0 && &d.Contracts[0] == &c.detail.Contracts[0]
	if !same {
		c.claim = ClaimOf(d)
		c.claimed = claimedIDs(c.claim, c.Intent.ChainID)
	}
	claim := *c.claim
	c.detail, claim.Claim = d, SourceOf(&d.Source)
	return &claim, c.claimed
}

// SourceOf converts the source of an answer of the API.
func SourceOf(s *kmsapi.Source) audit.Claim {
	return audit.Claim{FetchedAt: s.FetchedAt.UTC(), SHA256: s.SHA256, APIVersion: s.APIVersion, RequestID: s.RequestID}
}

func claimState(a kmsapi.Allowed) audit.ClaimState {
	switch a {
	case kmsapi.AllowedTrue:
		return audit.ClaimAllowed
	case kmsapi.AllowedFalse:
		return audit.ClaimDenied
	default:
		return audit.ClaimUnknown
	}
}

// ListingOf converts the part of the API's list of KMS that is about a chain.
func ListingOf(all []kmsapi.KMS, chainID uint64) []audit.ListedKMS {
	out := []audit.ListedKMS{}
	for _, k := range all {
		if k.Contract != nil && k.ChainID == chainID {
			out = append(out, audit.ListedKMS{ID: k.ID, Contract: *k.Contract, K256Pubkey: k.K256Pubkey, CAPubkey: k.CAPubkey, GatewayAppID: k.GatewayAppID})
		}
	}
	return out
}

func blockOf(b ethrpc.Block) *audit.Block {
	return &audit.Block{Number: b.Number, Hash: b.Hash.Hex(), Time: b.Time}
}

// take converts a State into the look's readings. A provider's lie makes no finding if another provider answered correctly.
func (c *observer) take(l *look, state *ethrpc.State, queries []ethrpc.Query, scans map[common.Address]*audit.EventScan) {
	l.addStateFailures(state)
	if c.opt.Record {
		l.raw.Queries, l.raw.Witness = queries, state.Witness()
	}
	for i := range state.Readings {
		r := &state.Readings[i]
		l.Readings = append(l.Readings, ReadingOf(r, queries[i], scans[r.Contract]))
		if r.Err != nil {
			l.addLies(r.Failed, &r.Contract)
		}
	}
}

// addStateFailures adds the failures of providers.
func (l *look) addStateFailures(state *ethrpc.State) {
	l.addFailures(state.Failed)
	for i := range state.Readings {
		l.addFailures(state.Readings[i].Failed)
	}
}

// ReadingOf converts a contract's reading. The answers are in the order of the query.
func ReadingOf(r *ethrpc.Reading, q ethrpc.Query, scan *audit.EventScan) audit.Reading {
	out := audit.Reading{Contract: r.Contract, Provider: r.Provider, HasCode: r.HasCode, Events: scan, Unaccounted: r.Unaccounted}
	if r.Err != nil {
		out.Err = r.Err.Error()
		return out
	}
	switch {
	case r.Proven:
		out.Assurance = audit.Proven
	case r.Agreed > 1:
		out.Assurance = audit.Agreed
	default:
		out.Assurance = audit.Single
	}
	if s := r.Storage; s != nil {
		out.Storage, out.Complete = &audit.Storage{Root: s.Root.Hex(), CodeHash: s.CodeHash.Hex(), Slots: s.Slots}, s.Complete
	}
	if !r.HasCode {
		return out
	}
	if r.Refused != nil {
		out.Refused = r.Refused.Error()
	}
	out.Answers = make([]audit.Answer, 0, len(q.Devices)+len(q.OSImages)+len(q.AggregatedMRs))
	add := func(list audit.List, ids []common.Hash, answers map[common.Hash]ethrpc.Answer) {
		for _, id := range ids {
			a := audit.Answer{List: list, ID: id}
			got, ok := answers[id]
			if a.Allowed = got.Allowed; got.Err != nil {
				a.Err = got.Err.Error()
			} else if !ok {
				a.Err = "it was not answered"
			}
			out.Answers = append(out.Answers, a)
		}
	}
	add(audit.Device, q.Devices, r.Devices)
	add(audit.OSImage, q.OSImages, r.OSImages)
	add(audit.AggregatedMR, q.AggregatedMRs, r.AggregatedMRs)
	if q.Control {
		out.Control = controlsOf(&r.Control)
	}
	return out
}

func controlsOf(c *ethrpc.Control) audit.Controls {
	pending := c.PendingOwner
	pending.Present = pending.Present && pending.Value != (common.Address{})
	app := c.AppImplementation
	app.Present = app.Present && app.Value != (common.Address{})
	out := audit.Controls{
		Owner:             fieldOf(c.Owner, common.Address.Hex),
		PendingOwner:      fieldOf(pending, common.Address.Hex),
		Implementation:    fieldOf(c.Implementation, common.Address.Hex),
		Code:              c.Code,
		GatewayAppID:      fieldOf(c.GatewayAppID, bounded),
		K256Pubkey:        fieldOf(c.K256Pubkey, func(b []byte) string { return bounded(hex.EncodeToString(b)) }),
		CAPubkey:          fieldOf(c.CAPubkey, func(b []byte) string { return bounded(hex.EncodeToString(b)) }),
		AppImplementation: fieldOf(app, common.Address.Hex),
	}
	if c.CodeErr != nil {
		out.CodeErr = c.CodeErr.Error()
	}
	return out
}

// maxField is the most bytes that are kept of a text from a contract.
const maxField = 1024

// bounded returns a text as it is or, if it is too long or not UTF-8, its hash, length and beginning.
func bounded(s string) string {
	if len(s) <= maxField && utf8.ValidString(s) {
		return s
	}
	return fmt.Sprintf("keccak-256 %s of %d bytes: %s", crypto.Keccak256Hash([]byte(s)), len(s), sanitize.Plain(s))
}

func fieldOf[T any](f ethrpc.Field[T], text func(T) string) audit.Field {
	switch {
	case f.Err != nil:
		return audit.Field{Err: f.Err.Error()}
	case !f.Present:
		return audit.Field{Known: true}
	default:
		return audit.Field{Known: true, Value: text(f.Value)}
	}
}

// fail adds the failures, including lies, that prevented reading the chain.
func (l *look) fail(err error) {
	all := []ethrpc.ProviderError{{Provider: "rpc", Err: err}}
	if one, ok := err.(ethrpc.ProviderError); ok {
		all[0] = one
	} else if several, ok := errors.AsType[*ethrpc.ReadError](err); ok {
		all = several.Failures
	}
	l.addFailures(all)
	l.addLies(all, nil)
}

func (l *look) addFailures(all []ethrpc.ProviderError) {
	for _, p := range all {
		l.add(failed(audit.StageRPC, p.Provider, p.Err))
	}
}

// addLies adds lies that providers were caught in, about one contract or, if that is nil, about the chain.
func (l *look) addLies(all []ethrpc.ProviderError, contract *common.Address) {
	for _, p := range all {
		lie := func(k audit.Kind, message string) {
			f := failed(audit.StageRPC, p.Provider, p.Err)
			f.Contract, f.Kind, f.Finding = contract, k, message
			l.add(f)
		}
		if e, ok := errors.AsType[*ethrpc.ChainIDError](p.Err); ok {
			lie(audit.ChainMismatch, "the provider's "+e.Error())
		}
		if e, ok := errors.AsType[*ethrpc.DisagreementError](p.Err); ok {
			lie(audit.ProviderDisagreement, e.Error())
		}
		if e, ok := errors.AsType[*anchor.Contradiction](p.Err); ok {
			lie(audit.BlockContradicted, e.Error())
		}
		if e, ok := errors.AsType[*ethrpc.GetterError](p.Err); ok {
			lie(audit.GetterDisagrees, e.Error())
		}
		if errors.Is(p.Err, proof.ErrInvalid) {
			lie(audit.ProofInvalid, "a provider's proof does not verify against the block's header; the chain's errors name the provider")
		}
	}
}

// add adds a failure once.
func (l *look) add(f audit.Failure) {
	if !slices.ContainsFunc(l.Failures, func(o audit.Failure) bool { return reflect.DeepEqual(o, f) }) {
		l.Failures = append(l.Failures, f)
	}
}
