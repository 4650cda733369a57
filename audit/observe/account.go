package observe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// complete accounts for everything that the contracts store. Where the proven state of a contract holds more than is asked
// for, its events are read for what they name, and what is new is asked for at the same block; where that is not enough,
// they are read anew, once for every state of the storage.
func (c *observer) complete(ctx context.Context, l *look, state *ethrpc.State, queries []ethrpc.Query, scans map[common.Address]*audit.EventScan, ask func() []ethrpc.Query) (*ethrpc.State, []ethrpc.Query) {
	for _, anew := range []bool{false, true} {
		again := slices.ContainsFunc(state.Readings, func(r ethrpc.Reading) bool { return r.Partial })
		var due []*ethrpc.Reading
		for i := range state.Readings {
			if r := &state.Readings[i]; c.wantsEvents(r, scans[r.Contract], anew) {
				due = append(due, r)
			}
		}
		for i, r := range due {
			before := c.Events.Named(r.Contract)
			scans[r.Contract] = c.scan(ctx, l, r, anew, len(due)-i)
			again = again || !c.Events.Named(r.Contract).equal(before)
		}
		if !again {
			continue
		}
		c.opt.Progress(c.Intent.Chain, "reading what the events named")
		queries = ask()
		more, err := c.Reader.Read(ctx, l.pinned, queries, ethrpc.ReadOptions{First: servedBy(state, l.pinned.Provider)})
		if err != nil {
			l.fail(err)
			for _, s := range scans {
				s.Read = false // what they named has no answer
			}
			for i := range state.Readings {
				if r := &state.Readings[i]; r.Partial {
					r.Err = err // a partial state is discarded
				}
			}
			break
		}
		l.addStateFailures(state) // the second Read may rest on what the first one proved
		state = more
	}
	for i := range state.Readings {
		r := &state.Readings[i]
		s := scans[r.Contract]
		// Where the proof needs no events they only show when and by whom: what fails is not asked for in every audit.
		if s != nil && r.Storage != nil && (s.Err == "" || r.Storage.Complete) {
			c.scanned[r.Contract] = r.Storage.Root
		}
		if s != nil && s.Err != "" {
			l.Failures = append(l.Failures, failed(audit.StageRPC, "events", errors.New(s.Err)))
		}
	}
	return state, queries
}

// servedBy returns the provider that served what the one that pinned could not, or that one: who failed at this block, or
// lied, is not asked first again.
func servedBy(state *ethrpc.State, pinned string) string {
	for i := range state.Readings {
		if p := state.Readings[i].Provider; p != "" && p != pinned {
			return p
		}
	}
	return pinned
}

func (n Named) equal(o Named) bool {
	return slices.Equal(n.Devices, o.Devices) && slices.Equal(n.OSImages, o.OSImages) &&
		slices.Equal(n.AggregatedMRs, o.AggregatedMRs) && slices.Equal(n.Apps, o.Apps)
}

// wantsEvents reports whether events may explain what is not explained, or show who changed what is.
func (c *observer) wantsEvents(r *ethrpc.Reading, s *audit.EventScan, anew bool) bool {
	switch {
	case r.Err != nil || !r.HasCode:
		return false
	case anew:
		// Only a proof shows that something is missing, and only once for each state.
		return r.Storage != nil && !r.Storage.Complete && s != nil && s.Err == "" && c.rescanned[r.Contract] != r.Storage.Root
	case r.Storage != nil && r.Storage.Complete:
		root, known := c.scanned[r.Contract]
		return c.Eager && !known || known && root != r.Storage.Root
	default:
		return true
	}
}

// scan reads the events of a contract. All contracts together take half of the time that is left, in equal parts: a long
// history, whose reading goes on in the next audit, leaves this one its answers and the other contracts their turn.
func (c *observer) scan(ctx context.Context, l *look, r *ethrpc.Reading, anew bool, left int) *audit.EventScan {
	c.opt.Progress(c.Intent.Chain, "reading the events of "+r.Contract.Hex())
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Until(end)/time.Duration(2*left), fmt.Errorf("the time for events in one audit is over, the next one goes on: %w", context.DeadlineExceeded))
		defer cancel()
	}
	if anew {
		c.rescanned[r.Contract] = r.Storage.Root
		if err := c.Events.Reset(r.Contract); err != nil {
			return &audit.EventScan{Err: err.Error()}
		}
	}
	if err := c.Events.Update(ctx, r.Contract, l.pinned.Block); err != nil {
		return &audit.EventScan{Err: err.Error()}
	}
	return &audit.EventScan{Read: true}
}

// annotation is when the events of a contract were last asked for what they do not say, and for which storage.
type annotation struct {
	root  common.Hash
	at    time.Time
	whole bool
}

// annotateAgain is how long it takes until what events do not say is asked for again.
var annotateAgain = 10 * time.Minute

// addChanges adds the last event of every id that the claim lists or the contract allows.
func (c *observer) addChanges(ctx context.Context, l *look, claimed map[common.Address]map[audit.List][]common.Hash) {
	for i := range l.Readings {
		r := &l.Readings[i]
		if r.Err != "" || !r.HasCode {
			continue
		}
		listed := map[common.Hash]bool{}
		for _, ids := range claimed[r.Contract] {
			for _, id := range ids {
				listed[id] = true
			}
		}
		ids := map[audit.List][]common.Hash{}
		for _, a := range r.Answers {
			if a.Allowed || listed[a.ID] {
				ids[a.List] = append(ids[a.List], a.ID)
			}
		}
		var root common.Hash
		if r.Storage != nil {
			root, _ = sanitize.ParseID(r.Storage.Root) // it was written here
		}
		if done := c.annotated[r.Contract]; done.root != root || root == (common.Hash{}) || !done.whole && now().Sub(done.at) >= annotateAgain {
			whole := c.Events.Annotate(ctx, r.Contract, ids)
			c.annotated[r.Contract] = annotation{root, now(), whole}
		}
		for _, list := range audit.Lists {
			for _, id := range ids[list] {
				if last := c.Events.Last(r.Contract, list, id); last != nil {
					r.Changes = append(r.Changes, audit.ListChange{List: list, ID: id, Changed: *last})
				}
			}
		}
	}
}
