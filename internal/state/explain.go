package state

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

const (
	minPrefix    = 8 // hex digits that name an id, if only one begins so
	maxAmbiguous = 8 // ids that an error names
)

// ReplaceWith puts a report in the place of what was audited before, and drops the findings of other audits.
func (s *State) ReplaceWith(r *audit.Report) {
	next := map[string]audit.Prior{}
	for _, c := range r.Chains {
		var p audit.Prior
		for _, t := range c.Targets {
			for _, f := range t.Findings {
				p.Open = append(p.Open, audit.OpenFinding{Contract: t.Contract, Finding: f})
			}
		}
		next[c.Chain] = p
	}
	s.mu.Lock()
	s.resolved = nil
	for _, c := range s.chains {
		c.Prior, c.Last, c.Compared = audit.Prior{}, nil, nil
	}
	s.mu.Unlock()
	s.Record(r, next, nil)
}

// Find returns the id that name means: an id in any spelling, the first digits of one that is known, or what the API calls
// it. An id that nobody knows is returned as it is; empty: name is neither known nor an id.
func (s *State) Find(name string, f Filter) (string, error) {
	if id, err := sanitize.ParseID(name); err == nil {
		return id.Hex(), nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	prefix := "0x" + strings.ToLower(strings.TrimPrefix(strings.TrimPrefix(name, "0x"), "0X"))
	found, nameless := map[string]bool{}, false
	consider := func(id string, names ...string) {
		if len(prefix) >= 2+minPrefix && strings.HasPrefix(id, prefix) || slices.Contains(names, name) {
			found[id] = true
		}
	}
	for _, c := range s.chains {
		for _, t := range c.filtered(f) {
			for _, e := range t.Entries {
				if e.ID == "" {
					nameless = nameless || e.Name == name
					continue
				}
				consider(e.ID, e.ID, e.Name)
			}
		}
		for contract, known := range c.scans {
			for it := range known.last {
				if it.list != apps && f.matches(c.Name, contract) {
					consider(it.key.Hex())
				}
			}
		}
	}
	switch ids := slices.Sorted(maps.Keys(found)); {
	case len(ids) == 1:
		return ids[0], nil
	case len(ids) > 1:
		more := ""
		if n := len(ids) - maxAmbiguous; n > 0 {
			ids, more = ids[:maxAmbiguous], fmt.Sprintf(" and %d more", n)
		}
		return "", fmt.Errorf("%s may be %s%s: give more digits", sanitize.Quote(name), strings.Join(ids, ", "), more)
	case nameless:
		return "", fmt.Errorf("the API lists %s without a hash: it has no id", sanitize.Quote(name))
	}
	return "", nil
}

// filtered are the targets of the audit that is shown.
func (c *chain) filtered(f Filter) []audit.Target {
	return slices.DeleteFunc(slices.Clone(targetsOf(c.shown())), func(t audit.Target) bool {
		contract, err := sanitize.ParseAddress(t.Contract)
		return err != nil || !f.matches(c.Name, contract)
	})
}

// Wants returns what the operator wants of an id in a list of a contract.
type Wants func(chain, contract string, list audit.List) audit.PolicyState

// place is where an id is known.
type place struct{ chain, contract, list string }

type explanation struct {
	id string
	f  Filter
	at map[place]*render.Place
}

// Explain gathers all that is known of an id. configured names the chains of the configuration, and wants tells what the
// operator wants of the id where no report does; it is optional. Events after the audited block are left out, as the report
// does not know them.
func (s *State) Explain(id string, f Filter, configured []string, wants Wants) render.Explanation {
	s.mu.RLock()
	defer s.mu.RUnlock()
	x := explanation{id: id, f: f, at: map[place]*render.Place{}}
	out := render.Explanation{ID: id, Places: []render.Place{}, Failed: []string{}}
	for _, c := range s.chains {
		x.entries(c)
		x.events(c)
		for _, o := range c.Prior.Open {
			x.finding(c, o.Contract, o.Finding, nil, !slices.Contains(configured, c.Name))
		}
		for _, r := range slices.Backward(s.resolved) {
			if r.Chain == c.Name {
				x.finding(c, r.Contract, r.Finding, &r, false)
			}
		}
		if wants != nil {
			x.policy(c, wants)
		}
		x.unlisted(c)
		if last := c.shown(); last != nil && !last.compared() {
			for _, e := range last.Errors {
				out.Failed = append(out.Failed, c.Name+": "+e.Source+": "+e.Message)
			}
		}
	}
	for _, at := range x.at {
		out.Places = append(out.Places, *at)
	}
	slices.SortFunc(out.Places, func(a, b render.Place) int {
		return cmp.Or(cmp.Compare(a.ChainID, b.ChainID), cmp.Compare(a.Chain, b.Chain), cmp.Compare(a.Contract, b.Contract), cmp.Compare(a.List, b.List))
	})
	return out
}

func (x *explanation) place(c *chain, contract, list string) *render.Place {
	k := place{c.Name, contract, list}
	if x.at[k] == nil {
		x.at[k] = &render.Place{Chain: c.Name, ChainID: c.ID, Contract: contract, List: list, Findings: []render.Known{}, Events: []render.Event{}}
	}
	return x.at[k]
}

func (x *explanation) entries(c *chain) {
	for _, t := range c.filtered(x.f) {
		for _, e := range t.Entries {
			if e.ID != x.id {
				continue
			}
			at := x.place(c, t.Contract, string(e.List))
			at.Name, at.Version, at.Claim, at.OnChain, at.Policy = e.Name, e.Version, e.Claim, e.OnChain, e.Policy
			at.Verdict, at.Kind, at.Reason, at.Accepted, at.Assurance = e.Verdict, e.Kind, e.Reason, e.Accepted, e.Assurance
			at.Completeness, at.Audit = t.Completeness, c.audited()
		}
	}
}

func (c *chain) audited() *render.Audited {
	last := c.shown()
	a := &render.Audited{AuditID: last.AuditID, FinishedAt: last.FinishedAt, Block: last.Block}
	if last != c.Last {
		a.Later = &c.Last.FinishedAt
	}
	return a
}

func (x *explanation) events(c *chain) {
	key, err := sanitize.ParseID(x.id)
	if err != nil {
		return
	}
	for contract, known := range c.scans {
		if !x.f.matches(c.Name, contract) {
			continue
		}
		last := c.lastBlock(contract)
		for _, e := range known.events {
			if e.Key == key && e.List != apps && e.Block <= last {
				at := x.place(c, contract.Hex(), e.List)
				at.Events = append(at.Events, c.event(contract, e, nil))
			}
		}
	}
}

// lastBlock is the block that the contract was audited at; without one, all that was read counts.
func (c *chain) lastBlock(contract common.Address) uint64 {
	for _, t := range c.filtered(Filter{Contract: contract}) {
		if block := c.shown().Block; block != nil && t.Contract == contract.Hex() {
			return block.Number
		}
	}
	return ^uint64(0)
}

func (x *explanation) finding(c *chain, contract string, f audit.Finding, over *Resolved, abandoned bool) {
	address, err := sanitize.ParseAddress(contract)
	if f.ID != x.id || f.List == "" || err != nil || !x.f.matches(c.Name, address) {
		return
	}
	known := render.NewKnown(f)
	if known.Abandoned = abandoned; over != nil {
		known.ResolvedAt = &over.ResolvedAt
	}
	at := x.place(c, contract, string(f.List))
	at.Findings = append(at.Findings, known)
}

// policy adds what is wanted where no report says so.
func (x *explanation) policy(c *chain, wants Wants) {
	for _, t := range c.filtered(x.f) {
		for _, l := range audit.Lists {
			if wants(c.Name, t.Contract, l) == audit.PolicyAllowed {
				x.place(c, t.Contract, string(l))
			}
		}
	}
	for k, at := range x.at {
		if k.chain == c.Name && at.Policy == "" {
			at.Policy = wants(c.Name, k.contract, audit.List(k.list))
		}
	}
}

// unlisted completes the places that have no entry and were audited: the API does not list the id there. Where all that the
// contract stores is accounted for, it is not allowed either.
func (x *explanation) unlisted(c *chain) {
	for _, t := range c.filtered(x.f) {
		for _, l := range audit.Lists {
			at := x.at[place{c.Name, t.Contract, string(l)}]
			if at == nil || at.Audit != nil {
				continue
			}
			at.Claim, at.OnChain, at.Audit, at.Completeness = audit.ClaimUnlisted, audit.ChainUnknown, c.audited(), t.Completeness
			if t.Completeness == audit.Complete {
				at.OnChain, at.Assurance = audit.ChainDenied, audit.Proven
			}
			if !c.shown().compared() {
				at.Claim = audit.ClaimUnknown
			}
		}
	}
}
