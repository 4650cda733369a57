// Package replay keeps what is remembered of a chain's contracts up to date with their events.
//
// An event only names an id or an address: what the contract says of it is read like everything else. So a provider
// that invents a log costs one question, and one that hides a log leaves storage that nothing explains.
package replay

import (
	"context"
	"errors"
	"fmt"
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
	// Progress is told of each piece that was read; nil: nobody is.
	Progress func(contract common.Address, next, to uint64)
}

// Replay is an audit.Events of one chain, for one goroutine.
type Replay struct {
	opt   Options
	turns map[common.Address]uint // how often events were forgotten: another provider may have what one left out
}

// New returns a Replay.
func New(o Options) *Replay {
	if o.Progress == nil {
		o.Progress = func(common.Address, uint64, uint64) {}
	}
	return &Replay{o, map[common.Address]uint{}}
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
	from, err := r.from(ctx, t, to)
	if err != nil || from > to.Number {
		return err
	}
	_, err = r.opt.Client.Scan(ctx, ethrpc.ScanRequest{
		Contract: contract, Topics: topics, From: from, To: to.Number, ToHash: to.Hash, Turn: r.turns[contract],
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
	return nil
}

// from is the first block that was not read yet.
func (r *Replay) from(ctx context.Context, t history.Target, to ethrpc.Block) (uint64, error) {
	if p, known := r.opt.Store.Progress(t); known {
		return p.Next, nil
	}
	if from, configured := r.opt.From[t.Contract]; configured && from > 0 {
		return from, nil
	}
	return r.opt.Client.Born(ctx, t.Contract, to.Number)
}

// firstStep is how far a reorganisation is thought to reach at first, in blocks.
const firstStep = 64

// rewind forgets what was read of a branch that is gone.
func (r *Replay) rewind(ctx context.Context, t history.Target) error {
	for step := uint64(firstStep); ; step *= 4 {
		p, known := r.opt.Store.Progress(t)
		if !known {
			return nil
		}
		last := p.Next - 1
		s, err := r.opt.Client.Read(ctx, ethrpc.Request{Policies: []ethrpc.Policy{ethrpc.AtNumber(last)}})
		switch {
		case err != nil && !errors.Is(err, ethrpc.ErrNoState):
			return fmt.Errorf("checking block %d, up to which events were read: %w", last, err)
		case err == nil && s.Block.Hash == p.Hash:
			return nil
		case last < p.From+step:
			return r.opt.Store.Reset(t)
		}
		s, err = r.opt.Client.Read(ctx, ethrpc.Request{Policies: []ethrpc.Policy{ethrpc.AtNumber(last - step)}})
		if err == nil {
			err = r.opt.Store.Rewind(t, last-step, s.Block.Hash)
		}
		if err != nil {
			// The events kept in that block are of another one, or it cannot be asked for: all is read anew.
			return r.opt.Store.Reset(t)
		}
	}
}

// Reset forgets all events of a contract, so that the next Update reads them anew, from the next provider first.
func (r *Replay) Reset(contract common.Address) error {
	r.turns[contract]++
	return r.opt.Store.Reset(r.target(contract))
}

// Known returns every id and address that an event ever named.
func (r *Replay) Known(contract common.Address) audit.Named {
	known := r.opt.Store.Known(r.target(contract))
	n := audit.Named{Devices: known[devices], Images: known[images], AggregatedMRs: known[mrs]}
	for _, key := range known[apps] {
		n.Apps = append(n.Apps, common.BytesToAddress(key[12:]))
	}
	return n
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
func (r *Replay) Version() uint64 { return r.opt.Store.Version() }

// maxAnnotated bounds what one audit asks for.
const maxAnnotated = 500
