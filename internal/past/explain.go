package past

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/hexid"
	"github.com/kms-auditor/kms-auditor/internal/history"
	"github.com/kms-auditor/kms-auditor/internal/memory"
	"github.com/kms-auditor/kms-auditor/internal/quote"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

// minPrefix is the number of hex digits that name an id, if only one begins so.
const minPrefix = 8

// maxAmbiguous bounds how many ids an error names.
const maxAmbiguous = 8

// Find returns the id that s means: an id in any spelling, the first digits of one that is known, or what the API calls
// it. An id that nobody knows is returned as it is; empty: s is neither known nor an id.
func (p *Past) Find(s string, f Filter) (string, error) {
	if id, err := hexid.ParseID(s); err == nil {
		return id.Hex(), nil
	}
	prefix := "0x" + strings.ToLower(strings.TrimPrefix(strings.TrimPrefix(s, "0x"), "0X"))
	found, nameless := map[string]bool{}, false
	consider := func(id string, names ...string) {
		if len(prefix) >= 2+minPrefix && strings.HasPrefix(id, prefix) || slices.Contains(names, s) {
			found[id] = true
		}
	}
	for _, c := range p.Chains {
		for _, t := range c.Targets {
			if !f.row(c.ChainID, t.Contract) {
				continue
			}
			for _, e := range t.Entries {
				if e.ID == "" {
					nameless = nameless || e.Name == s
					continue
				}
				consider(e.ID, e.ID, e.Name)
			}
		}
	}
	for _, t := range p.Store.Targets() {
		for list, keys := range p.Store.Known(t) {
			for _, key := range keys {
				if list != apps && f.target(t) {
					consider(key.Hex())
				}
			}
		}
	}
	ids := make([]string, 0, len(found))
	for id := range found {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	switch {
	case len(ids) == 1:
		return ids[0], nil
	case len(ids) > 1:
		more := ""
		if n := len(ids) - maxAmbiguous; n > 0 {
			ids, more = ids[:maxAmbiguous], fmt.Sprintf(" and %d more", n)
		}
		return "", fmt.Errorf("%s may be %s%s: give more digits", quote.Cut(s), strings.Join(ids, ", "), more)
	case nameless:
		return "", fmt.Errorf("the API lists %s without a hash: it has no id", quote.Cut(s))
	}
	return "", nil
}

func (f Filter) row(chainID uint64, contract string) bool {
	return (f.ChainID == 0 || f.ChainID == chainID) && (f.Contract == common.Address{} || f.Contract.Hex() == contract)
}

// place is where an id is known.
type place struct {
	chain    uint64
	contract string
	list     string
}

// Explain tells all that is known of an id. Wanted tells what the operator wants of it where no report does, and may
// be nil. Events of blocks after the audited one are left out, as the report does not know them.
func (p *Past) Explain(id string, f Filter, wanted func(chainID uint64, contract string, list audit.List) audit.PolicyState) render.Explanation {
	x := explanation{p: p, id: id, at: map[place]*render.Place{}}
	for i := range p.Chains {
		c := &p.Chains[i]
		for j := range c.Targets {
			if t := &c.Targets[j]; f.row(c.ChainID, t.Contract) {
				x.entries(c, t)
			}
		}
	}
	x.events(f)
	for _, k := range p.Found {
		x.finding(k, f, nil)
	}
	for _, k := range slices.Backward(p.Gone) {
		x.finding(k.Tracked, f, &k)
	}
	if wanted != nil {
		x.policy(f, wanted)
	}
	out := render.Explanation{ID: id, Places: []render.Place{}, Failed: p.failed()}
	for _, at := range x.at {
		x.elsewhere(at)
		out.Places = append(out.Places, *at)
	}
	slices.SortFunc(out.Places, func(a, b render.Place) int {
		return cmp.Or(cmp.Compare(a.ChainID, b.ChainID), cmp.Compare(a.Contract, b.Contract), cmp.Compare(a.List, b.List))
	})
	return out
}

// failed tells why a chain could never be compared.
func (p *Past) failed() []string {
	out := []string{}
	for _, c := range p.Chains {
		for _, e := range c.Errors {
			if !c.Compared() {
				out = append(out, c.Chain.Chain+": "+e.Source+": "+e.Message)
			}
		}
	}
	return out
}

type explanation struct {
	p  *Past
	id string
	at map[place]*render.Place
}

func (x *explanation) place(chainID uint64, contract, list string) *render.Place {
	k := place{chainID, contract, list}
	if x.at[k] == nil {
		x.at[k] = &render.Place{
			Chain: x.p.chain(chainID), ChainID: chainID, Contract: contract, List: list,
			Findings: []render.Known{}, Events: []render.Event{},
		}
	}
	return x.at[k]
}

func (x *explanation) entries(c *memory.Chain, t *audit.Target) {
	for _, e := range t.Entries {
		if e.ID != x.id {
			continue
		}
		at := x.place(c.ChainID, t.Contract, string(e.List))
		at.Name, at.Version, at.Claim, at.OnChain, at.Policy = e.Name, e.Version, e.Claim, e.OnChain, e.Policy
		at.Verdict, at.Kind, at.Reason, at.Accepted, at.Assurance = e.Verdict, e.Kind, e.Reason, e.Accepted, e.Assurance
		at.Completeness, at.Audit = t.Completeness, x.audited(c)
	}
}

func (x *explanation) audited(c *memory.Chain) *render.Audited {
	a := &render.Audited{AuditID: c.AuditID, FinishedAt: c.FinishedAt, Block: c.Block}
	if later, failed := x.p.Later[c.Chain.Chain]; failed {
		a.Later = &later.FinishedAt
	}
	return a
}

func (x *explanation) events(f Filter) {
	key, err := hexid.ParseID(x.id)
	if err != nil {
		return
	}
	for _, t := range x.p.Store.Targets() {
		if !f.target(t) {
			continue
		}
		last := x.lastBlock(t)
		for _, e := range x.p.Store.Events(t) {
			if e.Key == key && e.List != apps && e.Block <= last {
				at := x.place(t.ChainID, t.Contract.Hex(), e.List)
				at.Events = append(at.Events, x.p.event(t, e, nil))
			}
		}
	}
}

// lastBlock is the block that t was audited at; without one, all that was read counts.
func (x *explanation) lastBlock(t history.Target) uint64 {
	for _, c := range x.p.Chains {
		if c.ChainID == t.ChainID && c.Block != nil && slices.ContainsFunc(c.Targets, func(o audit.Target) bool { return o.Contract == t.Contract.Hex() }) {
			return c.Block.Number
		}
	}
	return ^uint64(0)
}

func (x *explanation) finding(k audit.Tracked, f Filter, gone *memory.Resolved) {
	if k.Finding.ID != x.id || k.Finding.List == "" {
		return
	}
	chainID, ok := x.p.id(k.Chain)
	if !ok || !f.row(chainID, k.Contract) {
		return
	}
	known := render.NewKnown(k.Finding)
	known.FirstSeen, known.LastSeen = &k.FirstSeen, &k.LastSeen
	if gone != nil {
		known.ResolvedAt = &gone.ResolvedAt
	} else {
		known.Abandoned = !slices.Contains(slices.Collect(maps.Values(x.p.Names)), k.Chain)
	}
	at := x.place(chainID, k.Contract, string(k.Finding.List))
	at.Findings = append(at.Findings, known)
}

// id is that of a chain that was audited, or is configured.
func (p *Past) id(chain string) (uint64, bool) {
	for _, c := range p.Chains {
		if c.Chain.Chain == chain {
			return c.ChainID, true
		}
	}
	for id, name := range p.Names {
		if name == chain {
			return id, true
		}
	}
	return 0, false
}

// policy says what is wanted where no report does.
func (x *explanation) policy(f Filter, wanted func(uint64, string, audit.List) audit.PolicyState) {
	for _, c := range x.p.Chains {
		for _, t := range c.Targets {
			for _, l := range audit.Lists {
				if w := wanted(c.ChainID, t.Contract, l); w == audit.PolicyAllowed && f.row(c.ChainID, t.Contract) {
					x.place(c.ChainID, t.Contract, string(l))
				}
			}
		}
	}
	for k, at := range x.at {
		if at.Policy == "" {
			at.Policy = wanted(k.chain, k.contract, audit.List(k.list))
		}
	}
}

// elsewhere completes a place that has no entry, but was audited: the API does not list the id there. Where all that
// the contract stores is accounted for, it is not allowed either.
func (x *explanation) elsewhere(at *render.Place) {
	if at.Audit != nil || !slices.Contains(audit.Lists, audit.List(at.List)) {
		return
	}
	for i := range x.p.Chains {
		c := &x.p.Chains[i]
		for _, t := range c.Targets {
			if c.ChainID != at.ChainID || t.Contract != at.Contract {
				continue
			}
			at.Claim, at.OnChain, at.Audit, at.Completeness = audit.ClaimUnlisted, audit.ChainUnknown, x.audited(c), t.Completeness
			if t.Completeness == audit.Complete {
				at.OnChain, at.Assurance = audit.ChainDenied, audit.Proven
			}
			if !c.Compared() {
				at.Claim = audit.ClaimUnknown
			}
		}
	}
}
