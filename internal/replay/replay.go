// Package replay keeps what is remembered of a chain's contracts up to date with their events.
//
// An event only names an id or an address: what the contract says of it is read like everything else. So a provider
// that invents a log costs one question, and one that hides a log leaves storage that nothing explains.
package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/history"
)

// Options configure a Replay.
type Options struct {
	ChainID uint64
	Client  *ethrpc.Client
	Store   *history.Store
	From    map[common.Address]uint64 // the blocks of deployment that are configured; others are found
	// Open names what findings are open about, so that it is asked for until they are over; nil: nothing. Opened changes
	// whenever it does.
	Open   func(contract common.Address) audit.Named
	Opened func() uint64
	// Progress is told of each piece that was read; nil: nobody is.
	Progress func(contract common.Address, next, to uint64)
}

// Replay is an audit.Events of one chain, for one goroutine.
type Replay struct {
	opt   Options
	turns map[common.Address]uint           // how often events were forgotten: another provider may have what one left out
	marks map[common.Address][]ethrpc.Block // up to which events were read, the oldest first
	named map[common.Address]named          // by events that were forgotten
	anew  uint64                            // how often that came to its end
}

// named is what events named before they were forgotten. It counts until they are read anew up to where they had been.
type named struct {
	audit.Named
	until uint64
}

// New returns a Replay.
func New(o Options) *Replay {
	if o.Open == nil {
		o.Open, o.Opened = func(common.Address) (none audit.Named) { return none }, func() uint64 { return 0 }
	}
	if o.Progress == nil {
		o.Progress = func(common.Address, uint64, uint64) {}
	}
	return &Replay{opt: o, turns: map[common.Address]uint{}, marks: map[common.Address][]ethrpc.Block{}, named: map[common.Address]named{}}
}

func (r *Replay) target(contract common.Address) history.Target {
	return history.Target{ChainID: r.opt.ChainID, Contract: contract}
}

// Update reads the events that came since the last Update, up to block to. What was read before an error is kept.
func (r *Replay) Update(ctx context.Context, contract common.Address, to ethrpc.Block) error {
	t := r.target(contract)
	if err := r.rewind(ctx, t); err != nil {
		return err
	}
	from, after, err := r.from(ctx, t, to)
	if err != nil || from > to.Number {
		return err
	}
	_, err = r.opt.Client.Scan(ctx, ethrpc.ScanRequest{
		Contract: contract, Topics: topics, From: from, After: after, To: to.Number, ToHash: to.Hash, Turn: r.turns[contract],
		Piece: func(from, until uint64, last common.Hash, logs []types.Log) error {
			events, err := decode(logs)
			if err != nil {
				return err
			}
			r.opt.Progress(contract, until+1, to.Number)
			return r.opt.Store.Append(t, from, until, last, events)
		},
	})
	if err != nil {
		return fmt.Errorf("reading the events of %s: %w", contract, err)
	}
	r.mark(contract, to)
	if n, was := r.named[contract]; was && to.Number >= n.until {
		delete(r.named, contract)
		r.anew++
	}
	return nil
}

// from is the first block that was not read yet, and the hash of the one before, if that was.
func (r *Replay) from(ctx context.Context, t history.Target, to ethrpc.Block) (uint64, common.Hash, error) {
	if p, known := r.opt.Store.Progress(t); known {
		return p.Next, p.Hash, nil
	}
	if from := r.opt.From[t.Contract]; from > 0 {
		return from, common.Hash{}, nil
	}
	from, err := r.opt.Client.Born(ctx, t.Contract, to.Number)
	return from, common.Hash{}, err
}

// maxMarks bounds the memory of how far events were read. Beyond it every second mark goes.
const maxMarks = 32

func (r *Replay) mark(contract common.Address, b ethrpc.Block) {
	marks := append(r.marks[contract], b)
	if len(marks) > maxMarks {
		thin := marks[:0]
		for i := 1; i < len(marks); i += 2 {
			thin = append(thin, marks[i])
		}
		marks = thin
	}
	r.marks[contract] = marks
}

// rewind forgets what was read of a branch that is gone: it goes back to the newest mark or event whose block is still
// there. It forgets all where reading began behind the block that is configured now.
func (r *Replay) rewind(ctx context.Context, t history.Target) error {
	p, known := r.opt.Store.Progress(t)
	if !known {
		return nil
	}
	if from := r.opt.From[t.Contract]; from > 0 && from < p.From {
		return r.forget(t, nil)
	}
	last := ethrpc.Block{Number: p.Next - 1, Hash: p.Hash}
	if stands, err := r.stands(ctx, last); stands || err != nil {
		return err
	}
	points := slices.Clone(r.marks[t.Contract])
	for _, e := range r.opt.Store.Events(t) {
		points = append(points, ethrpc.Block{Number: e.Block, Hash: e.BlockHash})
	}
	points = slices.DeleteFunc(points, func(b ethrpc.Block) bool { return b.Number < p.From || b.Number >= last.Number })
	slices.SortFunc(points, func(a, b ethrpc.Block) int { return cmp.Compare(a.Number, b.Number) })
	var failed error
	gone := sort.Search(len(points), func(i int) bool { // blocks stand on each other
		stands, err := r.stands(ctx, points[i])
		failed = errors.Join(failed, err)
		return !stands
	})
	switch {
	case failed != nil:
		return failed
	case gone == 0:
		return r.forget(t, nil)
	}
	return r.forget(t, &points[gone-1])
}

// stands tells whether the block is still on the chain.
func (r *Replay) stands(ctx context.Context, b ethrpc.Block) (bool, error) {
	s, err := r.opt.Client.Read(ctx, ethrpc.Request{Policies: []ethrpc.Policy{ethrpc.AtNumber(b.Number)}})
	switch {
	case errors.Is(err, ethrpc.ErrNoState):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("checking block %d, up to which events were read: %w", b.Number, err)
	}
	return s.Block.Hash == b.Hash, nil
}

// forget forgets the events behind a block; nil: all. What they named is asked for until they are read anew.
func (r *Replay) forget(t history.Target, behind *ethrpc.Block) error {
	p, _ := r.opt.Store.Progress(t)
	r.named[t.Contract] = named{r.read(t.Contract), max(p.Next, r.named[t.Contract].until+1) - 1}
	if behind == nil {
		delete(r.marks, t.Contract)
		return r.opt.Store.Reset(t)
	}
	r.marks[t.Contract] = slices.DeleteFunc(r.marks[t.Contract], func(b ethrpc.Block) bool { return b.Number > behind.Number })
	return r.opt.Store.Rewind(t, behind.Number, behind.Hash)
}

// Reset forgets all events of a contract, so that the next Update reads them anew, from the next provider first.
func (r *Replay) Reset(contract common.Address) error {
	r.turns[contract]++
	return r.forget(r.target(contract), nil)
}

// Known returns every id and address that an event ever named, and those that findings are open about.
func (r *Replay) Known(contract common.Address) audit.Named {
	return both(r.read(contract), r.opt.Open(contract))
}

// read is what events named, those too that are to be read anew.
func (r *Replay) read(contract common.Address) audit.Named {
	known := r.opt.Store.Known(r.target(contract))
	n := audit.Named{Devices: known[devices], Images: known[images], AggregatedMRs: known[mrs]}
	for _, key := range known[apps] {
		n.Apps = append(n.Apps, common.BytesToAddress(key[12:]))
	}
	return both(n, r.named[contract].Named)
}

func both(a, b audit.Named) audit.Named {
	return audit.Named{
		Devices:       union(a.Devices, b.Devices, common.Hash.Cmp),
		Images:        union(a.Images, b.Images, common.Hash.Cmp),
		AggregatedMRs: union(a.AggregatedMRs, b.AggregatedMRs, common.Hash.Cmp),
		Apps:          union(a.Apps, b.Apps, common.Address.Cmp),
	}
}

func union[T comparable](a, b []T, by func(T, T) int) []T {
	if len(b) == 0 {
		return a
	}
	all := slices.Concat(a, b)
	slices.SortFunc(all, by)
	return slices.Compact(all)
}

// Last returns the last event of an id; nil: there is none.
func (r *Replay) Last(contract common.Address, list audit.List, id common.Hash) *audit.Changed {
	e, known := r.opt.Store.Last(r.target(contract), string(list), id)
	if !known {
		return nil
	}
	c := &audit.Changed{Block: e.Block, Tx: e.Tx.Hex()}
	if !e.Time.IsZero() {
		at := e.Time.UTC()
		c.Time = &at
	}
	if e.Actor != (common.Address{}) {
		c.Actor = e.Actor.Hex()
	}
	return c
}

// Annotate finds out when the last events of the ids came, and who sent those whose actor no event names. It is for
// show, and does what it can in the time that ctx leaves. It reports whether all is found out.
func (r *Replay) Annotate(ctx context.Context, contract common.Address, ids map[audit.List][]common.Hash) bool {
	t := r.target(contract)
	var events []history.Event
	var places []ethrpc.Place
	for list, keys := range ids {
		for _, id := range keys {
			if e, known := r.opt.Store.Last(t, string(list), id); known && (e.Time.IsZero() || e.Actor == (common.Address{})) && len(events) < maxAnnotated {
				events = append(events, e)
				places = append(places, ethrpc.Place{Block: e.BlockHash, Tx: e.Tx})
			}
		}
	}
	if len(events) == 0 {
		return true
	}
	origins := r.opt.Client.Origins(ctx, places)
	for i := range events {
		o := origins[places[i]]
		if !o.Time.IsZero() {
			events[i].Time = o.Time.Truncate(time.Second)
		}
		if events[i].Actor == (common.Address{}) {
			events[i].Actor = o.Sender
		}
	}
	whole := len(events) < maxAnnotated
	for _, e := range events {
		whole = whole && !e.Time.IsZero() && e.Actor != (common.Address{})
	}
	// What cannot be kept is asked for again the next time.
	return r.opt.Store.Annotate(t, events...) == nil && whole
}

// Version changes whenever Known or Last tell something else.
func (r *Replay) Version() uint64 { return r.opt.Store.Version() + r.anew + r.opt.Opened() }

// maxAnnotated bounds what one audit asks for.
const maxAnnotated = 500
