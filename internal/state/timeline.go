package state

import (
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

const (
	apps          = "app" // the one list whose keys are addresses
	aggregatedMRs = "aggregated_mr"

	// Contracts is the list of the contracts themselves: those that the operator forgot were removed from it.
	Contracts = "contract"
)

// Lists are those of a timeline. The first three are shown unless others are asked for.
var Lists = []string{string(audit.Device), string(audit.OSImage), Contracts, aggregatedMRs, apps}

// Filter chooses events. Zero values choose all, but for Lists.
type Filter struct {
	Chain    string
	Contract common.Address
	Lists    []string
	Since    time.Time // an event whose time is not known stays in where it may be later
	Limit    int       // the newest
}

// matches takes the contract in its EIP-55 form.
func (f Filter) matches(chain, contract string) bool {
	return (f.Chain == "" || f.Chain == chain) && (f.Contract == common.Address{} || f.Contract.Hex() == contract)
}

// Timeline is the history of the lists, the oldest first.
func (s *State) Timeline(f Filter) render.History {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := render.History{Scanned: []render.Scanned{}, Events: []render.Event{}}
	titles := s.titles()
	type dated struct {
		render.Event
		from time.Time // it is not earlier, by the events before it
	}
	var all []dated
	for _, t := range s.targets() {
		c, known, contract := s.chainOf(t.Chain), s.scanOf(t), t.Contract.Hex()
		if !f.matches(t.Chain, contract) {
			continue
		}
		out.Scanned = append(out.Scanned, render.Scanned{Chain: c.Name, ChainID: c.ID, Contract: contract, From: known.progress.From, To: known.progress.Next - 1})
		// What comes before an event that is too old is too old as well.
		first := 0
		for i := range known.events {
			if e := &known.events[i]; !e.Time.IsZero() && e.Time.Before(f.Since) {
				first = i + 1
			}
		}
		from := time.Time{}
		for _, e := range known.events[first:] {
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

// listID is an id in a list.
type listID struct{ list, id string }

// titles are entries with what the API called the ids, last. Where contracts differ, any will do.
func (s *State) titles() map[listID]*audit.Entry {
	out := map[listID]*audit.Entry{}
	for _, c := range s.chains {
		for _, t := range targetsOf(c.shown()) {
			for i := range t.Entries {
				if e := &t.Entries[i]; e.Name != "" || e.Version != "" {
					out[listID{string(e.List), e.ID}] = e
				}
			}
		}
	}
	return out
}

// shown is the last audit that compared, else the last, or nil.
func (c *chain) shown() *Chain {
	if c.Compared != nil {
		return c.Compared
	}
	return c.Last
}

func targetsOf(c *Chain) []audit.Target {
	if c == nil {
		return nil
	}
	return c.Targets
}

func (c *chain) event(contract string, e Event, titles map[listID]*audit.Entry) render.Event {
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
	if named := titles[listID{out.List, out.ID}]; named != nil {
		out.Name, out.Version = named.Name, named.Version
	}
	if !e.Time.IsZero() {
		out.Time = &e.Time
	}
	if e.Actor != (common.Address{}) {
		out.Actor = e.Actor.Hex()
	}
	return out
}
