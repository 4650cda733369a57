package state

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

const (
	apps = "app" // the only shown list whose keys are addresses

	implementations = "implementation" // addresses, never shown

	// Contracts is the list of the contracts themselves. Its events are contracts that the operator forgot.
	Contracts = "contract"
)

// Lists are the lists of a timeline. The first four are shown by default.
var Lists = []string{string(audit.Device), string(audit.OSImage), Contracts, string(audit.AggregatedMR), apps}

// Filter selects events. A zero field other than Lists selects everything.
type Filter struct {
	Chain    string
	Contract common.Address
	Lists    []string
	Since    time.Time // an event without a known time is selected if it may be later
	Limit    int       // the number of newest events
}

// matches reports whether a chain and contract (EIP-55) are selected.
func (f Filter) matches(chain, contract string) bool {
	return (f.Chain == "" || f.Chain == chain) && (f.Contract == common.Address{} || f.Contract.Hex() == contract)
}

// Timeline returns the history of the lists, oldest first.
func (s *State) Timeline(f Filter) render.History {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := render.History{Scanned: []render.Scanned{}, Events: []render.Event{}}
	titles := s.titles()
	type dated struct {
		render.Event
		from time.Time // a lower bound of its time, from the events before it
	}
	var all []dated
	for _, t := range s.targets() {
		c, known, contract := s.chainOf(t.Chain), s.scans[t], t.Contract.Hex()
		if !f.matches(t.Chain, contract) {
			continue
		}
		if !t.Public {
			out.Scanned = append(out.Scanned, render.Scanned{Chain: c.Name, ChainID: c.ID, Contract: contract, From: known.progress.From, To: known.progress.Next - 1})
		}
		from, before := time.Time{}, len(all)
		for _, e := range known.events {
			if !e.Time.IsZero() && e.Time.Before(f.Since) {
				from, all = time.Time{}, all[:before] // all earlier events are too old as well
				continue
			}
			if !e.Time.IsZero() {
				from = e.Time
			}
			if slices.Contains(f.Lists, e.List) {
				all = append(all, dated{c.event(contract, e, titles), from})
			}
		}
	}
	for _, c := range s.chains {
		for _, o := range c.Forgotten {
			if slices.Contains(f.Lists, Contracts) && f.matches(c.Name, o.Contract.Hex()) && !o.At.Before(f.Since) {
				all = append(all, dated{render.Event{
					Time: &o.At, Chain: c.Name, ChainID: c.ID, Contract: o.Contract.Hex(), List: Contracts, Change: "forgotten", ID: o.Contract.Hex(), Actor: o.By,
				}, o.At})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b dated) int { return a.from.Compare(b.from) })
	if f.Limit > 0 {
		all = all[max(0, len(all)-f.Limit):]
	}
	for _, e := range all {
		out.Events = append(out.Events, e.Event)
	}
	return out
}

// titles returns entries with the names that the API last gave ids, by list and id. If contracts differ, any name is taken.
func (s *State) titles() map[[2]string]*audit.Entry {
	out := map[[2]string]*audit.Entry{}
	for _, c := range s.chains {
		for _, t := range targetsOf(c.shown()) {
			for i := range t.Entries {
				if e := &t.Entries[i]; e.Name != "" || e.Version != "" {
					out[[2]string{string(e.List), e.ID}] = e
				}
			}
		}
	}
	return out
}

// shown returns the last audit that compared or, if none did, the last audit; nil if there was no audit.
func (c *chain) shown() *Chain { return cmp.Or(c.Compared, c.Last) }

func targetsOf(c *Chain) []audit.Target {
	if c == nil {
		return nil
	}
	return c.Targets
}

func (c *chain) event(contract string, e Event, titles map[[2]string]*audit.Entry) render.Event {
	out := render.Event{
		Chain: c.Name, ChainID: c.ID, Block: e.Block, LogIndex: e.Index, Contract: contract,
		List: e.List, Change: "removed", ID: e.Key.Hex(), Tx: e.Tx.Hex(),
	}
	if e.Added {
		out.Change = "added"
	}
	if e.List == apps {
		out.ID = common.BytesToAddress(e.Key[12:]).Hex()
	}
	if named := titles[[2]string{out.List, out.ID}]; named != nil {
		out.Name, out.Version = named.Name, named.Version
	}
	if out.Untimed = e.Time.IsZero(); !out.Untimed {
		out.Time = &e.Time
	}
	if e.Actor != (common.Address{}) {
		out.Actor = e.Actor.Hex()
	}
	return out
}

const (
	minPrefix    = 8 // hex digits that are enough to identify an id
	maxAmbiguous = 8 // ids in an error
)

// ReplaceWith replaces earlier audits and their findings with a report.
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

// Find returns the id that name stands for: an id in any spelling, the first digits of a known id, or the API's name for it. An
// unknown id is returned in its usual spelling. The result is empty if name is neither known nor an id.
func (s *State) Find(name string, f Filter) (string, error) {
	if id, err := sanitize.ParseID(name); err == nil {
		return id.Hex(), nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	called := map[string][]string{} // names by id; entries without an id are under ""
	for _, c := range s.chains {
		for _, t := range targetsOf(c.shown()) {
			for _, e := range t.Entries {
				if f.matches(c.Name, t.Contract) {
					called[e.ID] = append(called[e.ID], e.ID, e.Name)
				}
			}
		}
	}
	for t, known := range s.scans {
		if t.Public || !f.matches(t.Chain, t.Contract.Hex()) {
			continue
		}
		for i := range known.events {
			if id := known.events[i].Key.Hex(); known.events[i].List != implementations {
				called[id] = append(called[id], id)
			}
		}
	}
	nameless := slices.Contains(called[""], name)
	delete(called, "")
	prefix := "0x" + strings.ToLower(strings.TrimPrefix(strings.TrimPrefix(name, "0x"), "0X"))
	maps.DeleteFunc(called, func(id string, names []string) bool {
		return (len(prefix) < 2+minPrefix || !strings.HasPrefix(id, prefix)) && !slices.Contains(names, name)
	})
	switch ids := slices.Sorted(maps.Keys(called)); {
	case len(ids) == 1:
		return ids[0], nil
	case len(ids) > 1:
		more := ""
		if n := len(ids) - maxAmbiguous; n > 0 {
			ids, more = ids[:maxAmbiguous], fmt.Sprintf(" and %d more", n)
		}
		return "", fmt.Errorf("%s is ambiguous: it may be %s%s; give more digits", sanitize.Quote(name), strings.Join(ids, ", "), more)
	case nameless:
		return "", fmt.Errorf("the API lists %s without a hash, so it has no id", sanitize.Quote(name))
	}
	return "", nil
}

// Wants returns what the policy of a contract says about an id in a list.
type Wants func(chain, contract string, list audit.List) audit.PolicyState

// Explain returns everything that is known about an id. configured lists the configured chains. wants is optional; it is used if
// no report has the operator's policy. Events after the audited block are left out.
func (s *State) Explain(id string, f Filter, configured []string, wants Wants) render.Explanation {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := render.Explanation{ID: id, Places: []render.Place{}, Failed: []string{}}
	for _, c := range s.chains {
		for _, contract := range s.contracts(c, f) {
			for _, l := range audit.Lists {
				list := string(l)
				p := render.Place{Chain: c.Name, ChainID: c.ID, Contract: contract, List: list, Findings: []render.Known{}, Events: []render.Event{}}
				s.addEvents(c, &p, id)
				s.addFindings(&p, id, !slices.Contains(configured, c.Name))
				if wants != nil {
					p.Policy = wants(c.Name, contract, l)
				}
				c.addAudit(&p, id)
				if p.Audit != nil || len(p.Events)+len(p.Findings) > 0 {
					out.Places = append(out.Places, p)
				}
			}
		}
		if last := c.shown(); last != nil && !last.compared() {
			for _, e := range last.Errors {
				out.Failed = append(out.Failed, c.Name+": "+e.Source+": "+e.Message)
			}
		}
	}
	slices.SortStableFunc(out.Places, func(a, b render.Place) int {
		return cmp.Or(cmp.Compare(a.ChainID, b.ChainID), cmp.Compare(a.Chain, b.Chain))
	})
	return out
}

// contracts returns the known contracts of a chain, sorted.
func (s *State) contracts(c *chain, f Filter) []string {
	var all []string
	for _, t := range targetsOf(c.shown()) {
		all = append(all, t.Contract)
	}
	for t := range s.scans {
		if t.Chain == c.Name && !t.Public {
			all = append(all, t.Contract.Hex())
		}
	}
	for _, o := range c.Prior.Open {
		all = append(all, o.Contract)
	}
	for _, r := range s.resolved {
		if r.Chain == c.Name {
			all = append(all, r.Contract)
		}
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(contract string) bool { return !f.matches(c.Name, contract) })
}

// shownOf returns the contract's target in the shown report, or nil.
func (c *chain) shownOf(contract string) *audit.Target {
	all := targetsOf(c.shown())
	if i := slices.IndexFunc(all, func(t audit.Target) bool { return t.Contract == contract }); i >= 0 {
		return &all[i]
	}
	return nil
}

// addEvents adds the events up to the audited block or, without one, all.
func (s *State) addEvents(c *chain, p *render.Place, id string) {
	last := uint64(math.MaxUint64)
	if c.shownOf(p.Contract) != nil && c.shown().Block != nil {
		last = c.shown().Block.Number
	}
	for t, known := range s.scans {
		if t.Chain != p.Chain || t.Public || t.Contract.Hex() != p.Contract {
			continue
		}
		for _, e := range known.events {
			if e.List == p.List && e.Key.Hex() == id && e.Block <= last {
				p.Events = append(p.Events, c.event(p.Contract, e, nil))
			}
		}
	}
}

// addFindings adds the open findings, then the resolved ones, latest first.
func (s *State) addFindings(p *render.Place, id string, abandoned bool) {
	add := func(contract string, f audit.Finding, resolvedAt *time.Time) {
		if contract == p.Contract && string(f.List) == p.List && f.ID == id {
			known := render.NewKnown(f)
			known.ResolvedAt, known.Abandoned = resolvedAt, abandoned && resolvedAt == nil
			p.Findings = append(p.Findings, known)
		}
	}
	for _, o := range s.chainOf(p.Chain).Prior.Open {
		add(o.Contract, o.Finding, nil)
	}
	for _, r := range slices.Backward(s.resolved) {
		if r.Chain == p.Chain {
			add(r.Contract, r.Finding, &r.ResolvedAt)
		}
	}
}

// addAudit adds what the shown audit says about the id. If the audit has no entry for it, the API does not list the id, and with
// proven completeness the contract does not allow it.
func (c *chain) addAudit(p *render.Place, id string) {
	t, last := c.shownOf(p.Contract), c.shown()
	if t == nil || !slices.Contains(audit.Lists, audit.List(p.List)) {
		return
	}
	audited := &render.Audited{AuditID: last.AuditID, FinishedAt: last.FinishedAt, Block: last.Block}
	if last != c.Last {
		audited.Later = &c.Last.FinishedAt
	}
	for _, e := range t.Entries {
		if e.ID == id && string(e.List) == p.List {
			p.Name, p.Version, p.Claim, p.OnChain, p.Policy = e.Name, e.Version, e.Claim, e.OnChain, cmp.Or(e.Policy, p.Policy)
			p.Verdict, p.Kind, p.Reason, p.Accepted, p.Assurance = e.Verdict, e.Kind, e.Reason, e.Accepted, e.Assurance
			p.Completeness, p.Audit = t.Completeness, audited
		}
	}
	if p.Audit != nil || len(p.Events)+len(p.Findings) == 0 && p.Policy != audit.PolicyAllowed {
		return
	}
	p.Claim, p.OnChain, p.Audit, p.Completeness = audit.ClaimUnlisted, audit.ChainUnknown, audited, t.Completeness
	if t.Completeness == audit.Complete {
		p.OnChain, p.Assurance = audit.ChainDenied, audit.Proven
	}
	switch {
	case last.Claims == audit.ClaimNone, p.List == string(audit.AggregatedMR):
		p.Claim = audit.ClaimNone
	case !last.compared():
		p.Claim = audit.ClaimUnknown
	}
}
