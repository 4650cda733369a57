// Package past tells what the state file remembers, for people and without a network: the timeline of the lists, and all
// that is known of one id.
package past

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/history"
	"github.com/kms-auditor/kms-auditor/internal/memory"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

// apps is the one list whose keys are addresses.
const apps = "app"

// Past is what is remembered.
type Past struct {
	Store  *history.Store
	Names  map[uint64]string       // of the configured chains
	Chains []memory.Chain          // the last audit of each chain that compared, and of others the last; see Open
	Later  map[string]memory.Chain // by chain: an audit after that one, which could not compare
	Found  []audit.Tracked         // open findings
	Gone   []memory.Resolved       // the latest last
}

// New is a Past that remembers nothing.
func New(names map[uint64]string) *Past {
	store, err := history.Open("")
	if err != nil {
		panic(err) // there is no file
	}
	return &Past{Store: store, Names: names}
}

// Open reads the state file, which another process may hold.
func Open(path string, names map[uint64]string) (*Past, error) {
	store, err := history.View(path)
	if err != nil {
		return nil, err
	}
	m, err := memory.New(store)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	last, err := m.Last()
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	compared, err := m.Compared()
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	p := &Past{Store: store, Names: names, Later: map[string]memory.Chain{}, Found: m.Open(), Gone: m.Resolved()}
	for _, c := range last {
		if i := slices.IndexFunc(compared, func(o memory.Chain) bool { return o.Chain.Chain == c.Chain.Chain }); i >= 0 && !c.Compared() {
			p.Later[c.Chain.Chain] = c
			c = compared[i]
		}
		p.Chains = append(p.Chains, c)
	}
	return p, nil
}

// Instead puts a report in the place of what was audited before, and forgets the findings of other audits.
func (p *Past) Instead(r *audit.Report) {
	p.Chains, p.Later, p.Found, p.Gone = nil, nil, nil, nil
	for _, c := range r.Chains {
		p.Chains = append(p.Chains, memory.Chain{AuditID: r.AuditID, Version: r.Version, StartedAt: r.StartedAt, FinishedAt: r.FinishedAt, Chain: c})
		for _, t := range c.Targets {
			for _, f := range t.Findings {
				p.Found = append(p.Found, audit.Tracked{Chain: c.Chain, Contract: t.Contract, Finding: f, FirstSeen: r.FinishedAt, LastSeen: r.FinishedAt})
			}
		}
	}
}

// Filter chooses events. Zero values choose all, but for Lists.
type Filter struct {
	ChainID  uint64
	Contract common.Address
	Lists    []string
	Since    time.Time // an event whose time is not known stays in where it may be later
	Limit    int       // the newest
}

func (f Filter) target(t history.Target) bool {
	return (f.ChainID == 0 || f.ChainID == t.ChainID) && (f.Contract == common.Address{} || f.Contract == t.Contract)
}

// Timeline is the history of the lists, the oldest first.
func (p *Past) Timeline(f Filter) render.History {
	out := render.History{Scanned: []render.Scanned{}, Events: []render.Event{}}
	titles := p.titles()
	type dated struct {
		render.Event
		from time.Time // it is not earlier, by the events before it
	}
	var all []dated
	for _, t := range p.Store.Targets() {
		scanned, ok := p.Store.Progress(t)
		if !ok || !f.target(t) {
			continue
		}
		out.Scanned = append(out.Scanned, render.Scanned{Chain: p.chain(t.ChainID), ChainID: t.ChainID, Contract: t.Contract.Hex(), From: scanned.From, To: scanned.Next - 1})
		events := p.Store.Events(t)
		// What comes before an event that is too old is too old as well.
		first := 0
		for i, e := range events {
			if !e.Time.IsZero() && e.Time.Before(f.Since) {
				first = i + 1
			}
		}
		from := time.Time{}
		for _, e := range events[first:] {
			if !e.Time.IsZero() {
				from = e.Time
			}
			if slices.Contains(f.Lists, e.List) {
				all = append(all, dated{p.event(t, e, titles), from})
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

// chain is the name of a chain, by the configuration or by what was audited; else its id.
func (p *Past) chain(id uint64) string {
	if name := p.Names[id]; name != "" {
		return name
	}
	for _, c := range p.Chains {
		if c.ChainID == id {
			return c.Chain.Chain
		}
	}
	return strconv.FormatUint(id, 10)
}

// about is an id in a list.
type about struct{ list, id string }

type title struct{ name, version string }

// titles is what the API called the ids, last. Where contracts differ, any will do.
func (p *Past) titles() map[about]title {
	out := map[about]title{}
	for _, c := range p.Chains {
		for _, t := range c.Targets {
			for _, e := range t.Entries {
				if e.Name != "" || e.Version != "" {
					out[about{string(e.List), e.ID}] = title{e.Name, e.Version}
				}
			}
		}
	}
	return out
}

func (p *Past) event(t history.Target, e history.Event, titles map[about]title) render.Event {
	out := render.Event{
		Chain: p.chain(t.ChainID), ChainID: t.ChainID, Block: e.Block, LogIndex: e.Index, Contract: t.Contract.Hex(),
		List: e.List, Change: "removed", ID: e.Key.Hex(), Tx: e.Tx.Hex(),
	}
	if e.Added {
		out.Change = "added"
	}
	if e.List == apps {
		out.ID = common.BytesToAddress(e.Key[12:]).Hex()
	}
	called := titles[about{out.List, out.ID}]
	out.Name, out.Version = called.name, called.version
	if !e.Time.IsZero() {
		at := e.Time.UTC()
		out.Time = &at
	}
	if e.Actor != (common.Address{}) {
		out.Actor = e.Actor.Hex()
	}
	return out
}
