package observe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/logs"
)

// completion accounts for the storage of a look's contracts.
type completion struct {
	*look
	ask     func() []ethrpc.Query // including the ids that events have named so far
	queries []ethrpc.Query
	state   *ethrpc.State // the answers to queries
	scans   map[common.Address]*audit.EventScan
	callers map[common.Address]bool // contracts whose callers were searched
}

// The stages of reading a contract's events. They run in this order until the storage is accounted for.
const (
	ownerEvents   = iota // only the owner can emit these; they name ids of the lists
	publicEvents         // anyone can emit these; they only account for storage
	whoRegistered        // who registered the apps, which older code counted in storage
	allAnew              // everything again, because a provider may have left events out
)

// batches returns the calls that read all events of contracts whose events were never read. They are sent along with the pin or
// with the first proofs.
func (c *observer) batches(contracts []common.Address) (out []*logs.Batch) {
	for _, a := range contracts {
		for _, public := range []bool{false, true} {
			if b := c.Events.Batch(a, public); b != nil {
				out = append(out, b)
			}
		}
	}
	return out
}

// complete tries to explain everything that the contracts store. If a contract's proven storage contains more than the queries
// explain, complete reads its events and asks the contract about the new ids in them, at the same block. If that is not enough,
// it reads all events again, once per storage root.
func (c *observer) complete(ctx context.Context, l *completion, beside []*logs.Batch) {
	for _, b := range beside {
		_ = c.Events.Take(b) // if it fails, Update reads the events
	}
	ok := len(beside) == 0 || c.reread(ctx, l, false)
	for _, stage := range []int{ownerEvents, publicEvents, whoRegistered, allAnew, whoRegistered} {
		if !ok {
			break
		}
		var due []*ethrpc.Reading
		for i := range l.state.Readings {
			if r := &l.state.Readings[i]; c.wantsEvents(l, r, stage) {
				due = append(due, r)
			}
		}
		for i, r := range due {
			c.scan(ctx, l, r, stage, len(due)-i)
		}
		if finally := stage != ownerEvents; len(due) > 0 || finally && l.isPartial() { // the later stages need proven storage
			ok = c.reread(ctx, l, finally)
		}
	}
	for i := range l.state.Readings {
		r := &l.state.Readings[i]
		s := l.scans[r.Contract]
		if s == nil {
			continue
		}
		if p := c.withoutApps[r.Contract]; !now().Before(p.until) {
			c.withoutApps[r.Contract] = pause{why: s.PublicErr}
		} else if s.Err == "" && r.Storage != nil && !r.Storage.Complete {
			s.PublicErr = cmp.Or(s.PublicErr, p.why)
		}
		if lacksCallers(r, s) {
			*s = audit.EventScan{Err: fmt.Sprintf("it is not known who registered %d of %d apps, and the contract stores that too", r.Counted-r.Registered, r.Counted)}
		}
		if n := len(l.queries[i].Implementations); s.Err == "" && r.Storage != nil && !r.Storage.Complete && n > kms.MaxImplementations {
			*s = audit.EventScan{Err: fmt.Sprintf("the contract had %d implementations, but leftover storage is searched for at most %d of them", n, kms.MaxImplementations)}
		}
		// If the proof needs no events, they only show who changed what and when, so a failure is not retried in every audit.
		if r.Storage != nil && (s.Err == "" || r.Storage.Complete) {
			c.scanned[r.Contract] = r.Storage.Root
		}
		for _, why := range []string{s.Err, s.PublicErr} {
			if why != "" {
				l.Failures = append(l.Failures, failed(audit.StageRPC, "events", errors.New(why)))
			}
		}
	}
}

// lacksCallers reports whether the contract stores counts of apps for accounts that are not known.
func lacksCallers(r *ethrpc.Reading, s *audit.EventScan) bool {
	return s.Err == "" && s.PublicErr == "" && r.Sequenced && r.Registered < r.Counted
}

func (l *completion) isPartial() bool {
	return slices.ContainsFunc(l.state.Readings, func(r ethrpc.Reading) bool { return r.Partial })
}

// reread reads again if events named new ids or, with finally, if answers were left out. It reports whether the state has an answer
// to every query.
func (c *observer) reread(ctx context.Context, l *completion, finally bool) bool {
	asked := l.queries
	l.queries = l.ask()
	if !(finally && l.isPartial()) && slices.EqualFunc(asked, l.queries, func(a, b ethrpc.Query) bool { return a.Equal(&b) }) {
		return true
	}
	c.opt.Progress(c.Intent.Chain, "reading the ids that events named")
	more, err := c.readState(ctx, l, ethrpc.ReadOptions{AllowPartial: !finally, First: servedBy(l.state, l.pinned.Provider)})
	if err == nil {
		l.addStateFailures(l.state) // the second Read may reuse proofs of the first
		l.state = more
		return true
	}
	l.fail(err)
	for _, s := range l.scans {
		s.Read = false // the ids that they named have no answer
	}
	for i := range l.state.Readings {
		if r := &l.state.Readings[i]; r.Partial {
			r.Err = err // a partial state is discarded
		}
	}
	return false
}

// pause is why a contract's apps are left out until its events are read again, and at least until a time. The zero value means that
// they are not left out.
type pause struct {
	why   string
	until time.Time
}

const (
	manyApps   = 1000 // enough to make a reading fail
	crowdPause = time.Hour
)

// readState answers the queries. If contracts have many apps, that takes at most half of the remaining time. If it fails, the
// contracts are read without their apps, which only account for storage. If that succeeds, the apps are left out for a while.
func (c *observer) readState(ctx context.Context, l *completion, opt ethrpc.ReadOptions) (*ethrpc.State, error) {
	isCrowded := func(q ethrpc.Query) bool { return len(q.Apps) > manyApps }
	if !slices.ContainsFunc(l.queries, isCrowded) {
		return c.Reader.Read(ctx, l.pinned, l.queries, opt)
	}
	part := ctx
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		part, cancel = context.WithTimeoutCause(ctx, time.Until(end)/2, fmt.Errorf("it took more than half of the remaining time: %w", context.DeadlineExceeded))
		defer cancel()
	}
	state, err := c.Reader.Read(part, l.pinned, l.queries, opt)
	failed := map[int]string{}
	queries := slices.Clone(l.queries)
	for i := range queries {
		why := err
		if err == nil {
			why = state.Readings[i].Err
		}
		if q := &queries[i]; isCrowded(*q) && why != nil {
			failed[i] = fmt.Sprintf("the %d apps that they name could not be read: %v", len(q.Apps), why)
			q.Apps, q.Callers = nil, nil
		}
	}
	if len(failed) == 0 || ctx.Err() != nil {
		return state, err
	}
	without, err := c.Reader.Read(ctx, l.pinned, queries, opt)
	if err != nil {
		return nil, err
	}
	l.queries = queries
	for i, why := range failed {
		if without.Readings[i].Err == nil {
			c.withoutApps[queries[i].Contract] = pause{why, now().Add(crowdPause)}
		}
	}
	return without, nil
}

// servedBy returns the provider to ask first: one that served state which the pinning provider did not have, else the pinning
// provider.
func servedBy(state *ethrpc.State, pinned string) string {
	for i := range state.Readings {
		if p := state.Readings[i].Provider; p != "" && p != pinned {
			return p
		}
	}
	return pinned
}

// wantsEvents reports whether the stage's events may explain storage, or show who changed it.
func (c *observer) wantsEvents(l *completion, r *ethrpc.Reading, stage int) bool {
	s := l.scans[r.Contract]
	switch {
	case r.Err != nil || !r.HasCode:
		return false
	case stage == ownerEvents && (r.Storage == nil || !r.Storage.Complete):
		return true
	case stage == ownerEvents:
		root, known := c.scanned[r.Contract]
		return c.Eager && !known || known && root != r.Storage.Root
	case r.Storage == nil || r.Storage.Complete || s == nil || s.Err != "" || s.PublicErr != "":
		return false // only a proof shows that something is missing
	case stage == whoRegistered:
		return !l.callers[r.Contract] && lacksCallers(r, s)
	default:
		return stage == publicEvents || c.rescanned[r.Contract] != r.Storage.Root // once per storage root
	}
}

// scan reads the events of a contract. All contracts together take at most half of the remaining time, in equal parts. The next
// audit continues with a long history.
func (c *observer) scan(ctx context.Context, l *completion, r *ethrpc.Reading, stage, left int) {
	c.opt.Progress(c.Intent.Chain, "reading the events of "+r.Contract.Hex())
	if stage == whoRegistered {
		c.Events.Callers(ctx, r.Contract)
		l.callers[r.Contract] = true
		return
	}
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Until(end)/time.Duration(2*left), fmt.Errorf("the time for events in this audit is over; the next audit continues: %w", context.DeadlineExceeded))
		defer cancel()
	}
	s := &audit.EventScan{Read: true}
	l.scans[r.Contract] = s
	var err error
	if stage == allAnew {
		c.rescanned[r.Contract] = r.Storage.Root
		err = c.Events.Reset(r.Contract)
	}
	if stage != publicEvents && err == nil {
		err = c.Events.Update(ctx, r.Contract, false, l.pinned.Block)
	}
	if err != nil {
		*s = audit.EventScan{Err: err.Error()}
		return
	}
	if stage != ownerEvents {
		if err := c.Events.Update(ctx, r.Contract, true, l.pinned.Block); err != nil {
			s.PublicErr = err.Error()
		} else if r.Sequenced {
			c.Events.Callers(ctx, r.Contract)
			l.callers[r.Contract] = true
		}
	}
}
