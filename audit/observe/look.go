package observe

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// observer looks at one chain. What it remembers only saves requests.
type observer struct {
	Chain
	opt       *Options
	scanned   map[common.Address]common.Hash // the storage root for which events were read
	rescanned map[common.Address]common.Hash // the storage root for which they were read anew in vain
	annotated map[common.Address]annotation
	detail    *kmsapi.OnChainDetail // the last, and what was made of it
	claim     *audit.APIClaim
	claimed   idsByContract
}

// look is an observation while it is made.
type look struct {
	audit.Observation
	raw    RawLook
	ids    idsByContract // that the claim names
	pinned *ethrpc.Pinned
}

// look fetches the claim while a block is pinned, and reads the contracts there. The block is not older than that of an
// earlier look: what was seen there is not undone by going back.
func (c *observer) look(ctx context.Context, prior audit.Prior, before *look) *look {
	l := &look{Observation: audit.Observation{At: now()}}
	tags, notBefore := c.Tags, uint64(0)
	if before != nil && before.pinned != nil {
		// A tag that is preferred to the one that was used could name an older block.
		tags = tags[max(slices.Index(tags, before.pinned.Tag), 0):]
		notBefore = before.pinned.Block.Number
	}
	var claim, listing []audit.Failure
	var wg sync.WaitGroup
	wg.Go(func() { claim = c.guarded(func() error { return c.fetchClaim(ctx, l) }) })
	wg.Go(func() { listing = c.guarded(func() error { return c.fetchListing(ctx, l) }) })
	pinned, err := c.pin(ctx, prior, tags, notBefore, nil)
	wg.Wait()
	l.Failures = slices.Concat(claim, listing)
	if err == nil {
		err = c.readContracts(ctx, prior, l, pinned, tags, notBefore)
	}
	if err != nil {
		l.fail(err)
	}
	return l
}

// guarded makes an error of the API, or a bug, a failure.
func (c *observer) guarded(fetch func() error) (out []audit.Failure) {
	defer func() {
		if v := recover(); v != nil {
			c.opt.Panicked(c.Intent.Chain, v, debug.Stack())
			out = []audit.Failure{bug(v)}
		}
	}()
	err := fetch()
	if err == nil {
		return nil
	}
	stage := audit.StageAPI
	if _, invalid := errors.AsType[*kmsapi.InvalidError](err); invalid {
		stage = audit.StageDecode
	}
	return []audit.Failure{failed(stage, "api", err)}
}

func (c *observer) fetchClaim(ctx context.Context, l *look) error {
	detail, err := c.opt.Claims.OnChainDetail(ctx, c.Intent.Chain)
	if err != nil {
		refused, ok := errors.AsType[*kmsapi.StatusError](err)
		l.ChainUnknown = ok && refused.Unknown()
		return err
	}
	l.Claim, l.ids = c.claimOf(detail)
	l.raw.Claim = &detail.Source
	return nil
}

func (c *observer) fetchListing(ctx context.Context, l *look) error {
	if !c.Intent.CrossChecks && !c.Intent.Discover {
		return nil
	}
	l.ListingFailed = true // by a bug too
	list, err := c.opt.Listing.List(ctx, kmsapi.Filter{OnChain: true})
	if err != nil {
		return err
	}
	l.Listing, l.ListingFailed, l.raw.Listing = ListingOf(list.KMS, c.Intent.ChainID), false, list.Pages
	return nil
}

// pin pins a block. A node that lags is given time to catch up with what was audited before; where none does, the older
// block is pinned, for the judge to say so.
func (c *observer) pin(ctx context.Context, prior audit.Prior, tags []ethrpc.BlockTag, notBefore uint64, avoid []string) (*ethrpc.Pinned, error) {
	req := ethrpc.PinRequest{Tags: tags, NotBefore: notBefore, Avoid: avoid, Prefetch: audit.Contracts(c.Intent, prior, nil)}
	if len(tags) > 0 {
		req.NotBefore = max(notBefore, prior.LowestBlock(tags[0].String()))
	}
	pinned, err := c.Reader.Pin(ctx, req)
	if err == nil || req.NotBefore == notBefore || ctx.Err() != nil {
		return pinned, err
	}
	req.NotBefore = notBefore
	older, e := c.Reader.Pin(ctx, req)
	if e != nil {
		return nil, err
	}
	return older, nil
}

// readContracts reads the contracts at the pinned block. If nobody can read them there, the next provider pins a block of the
// same tag: the first one may have invented its block. If none is left, and the state is gone, the next tag is taken.
func (c *observer) readContracts(ctx context.Context, prior audit.Prior, l *look, pinned *ethrpc.Pinned, tags []ethrpc.BlockTag, notBefore uint64) error {
	contracts := audit.Contracts(c.Intent, prior, l.Claim)
	var avoid []string
	gone := false
	for {
		l.pinned = pinned
		l.addFailures(pinned.Failed)
		if len(contracts) == 0 {
			break
		}
		err := c.read(ctx, prior, l, contracts)
		if err == nil {
			break
		}
		l.pinned = nil
		if ctx.Err() != nil {
			return err
		}
		gone = gone || errors.Is(err, ethrpc.ErrNoState)
		avoid = append(avoid, pinned.Provider)
		again, e := c.pin(ctx, prior, tags, notBefore, avoid)
		if next := slices.Index(tags, pinned.Tag) + 1; (e != nil || slices.Contains(avoid, again.Provider)) && gone && next > 0 && next < len(tags) {
			tags, avoid, gone = tags[next:], nil, false
			again, e = c.pin(ctx, prior, tags, notBefore, nil)
		}
		if e != nil || slices.Contains(avoid, again.Provider) {
			return err
		}
		l.fail(err)
		pinned = again
	}
	l.Tag, l.Provider, l.Block, l.Head = pinned.Tag.String(), pinned.Provider, blockOf(pinned.Block), blockOf(pinned.Head)
	l.warnStale("newest", pinned.Head)
	if !pinned.Tag.Fixed() && pinned.Tag.Behind() == 0 && pinned.Block.Number < pinned.Head.Number {
		l.warnStale("audited", pinned.Block)
	}
	return nil
}

// read reads the contracts and, where it may bring more, their events.
func (c *observer) read(ctx context.Context, prior audit.Prior, l *look, contracts []common.Address) error {
	ask := func() (out []ethrpc.Query) {
		for _, a := range contracts {
			out = append(out, c.query(a, prior.Contract(a), l.ids[a]))
		}
		return out
	}
	queries := ask()
	state, err := c.Reader.Read(ctx, l.pinned, queries, ethrpc.ReadOptions{AllowPartial: c.Events != nil})
	if err != nil {
		return err
	}
	scans := map[common.Address]*audit.EventScan{}
	if c.Events != nil {
		state, queries = c.complete(ctx, l, state, queries, scans, ask)
	}
	c.take(l, state, queries, scans)
	if c.Events != nil {
		c.addChanges(ctx, l)
	}
	return nil
}

// query asks for every id that anybody named: the policy, accepted differences, events, earlier audits and the claim.
func (c *observer) query(contract common.Address, known *audit.Known, claimed map[audit.List][]common.Hash) ethrpc.Query {
	want := c.Intent.Contract(contract)
	var named map[string][]common.Hash
	if c.Events != nil {
		named = c.Events.Named(contract)
	}
	if known == nil {
		known = &audit.Known{}
	}
	accepted := map[audit.List][]common.Hash{}
	for _, x := range c.Intent.Exceptions {
		if id, err := sanitize.ParseID(x.ID); err == nil && x.Contract == contract {
			accepted[x.List] = append(accepted[x.List], id)
		}
	}
	q := ethrpc.Query{Contract: contract, Control: true, AggregatedMRs: named[AggregatedMRs]}
	// An id that nobody allows shows whether the contract has the list, and which code runs for such an id whatever else is asked.
	none := []common.Hash{{}}
	q.Devices = union(claimed[audit.Device], want.Policy.Devices, accepted[audit.Device], named[string(audit.Device)], known.Devices, none)
	q.OSImages = union(claimed[audit.OSImage], want.Policy.OSImages, accepted[audit.OSImage], named[string(audit.OSImage)], known.OSImages, none)
	for _, app := range named[Apps] {
		q.Apps = append(q.Apps, common.BytesToAddress(app[12:]))
	}
	for _, caller := range named[Callers] {
		q.Callers = append(q.Callers, common.BytesToAddress(caller[12:]))
	}
	for _, e := range want.Explained {
		q.Slots = append(q.Slots, e.Slot)
	}
	return q
}

// union joins lists in their order, each id once.
func union(lists ...[]common.Hash) []common.Hash {
	longest := 0
	for _, list := range lists {
		longest = max(longest, len(list))
	}
	out, seen := make([]common.Hash, 0, longest), make(map[common.Hash]bool, longest)
	for _, list := range lists {
		for _, id := range list {
			if !seen[id] {
				seen[id] = true
				out = append(out, id)
			}
		}
	}
	return out
}

type idsByContract map[common.Address]map[audit.List][]common.Hash

// claimedIDs are the well-formed ids of a claim about the chain, by contract and list.
func claimedIDs(claim *audit.APIClaim, chainID uint64) idsByContract {
	out := idsByContract{}
	if claim.ChainID != chainID {
		return out
	}
	for _, row := range claim.Contracts {
		if out[row.Address] == nil {
			out[row.Address] = map[audit.List][]common.Hash{}
		}
		for _, e := range row.Entries {
			if id, err := sanitize.ParseID(e.ID); err == nil {
				out[row.Address][e.List] = append(out[row.Address][e.List], id)
			}
		}
	}
	return out
}

// lookAtHead asks the newest block for what differs at the pinned one.
func (c *observer) lookAtHead(ctx context.Context, queries []audit.HeadQuery, looks audit.Looks) *look {
	l := &look{Observation: audit.Observation{At: now()}}
	notBefore := uint64(0)
	for _, o := range looks.All() {
		if o.Block != nil {
			notBefore = max(notBefore, o.Block.Number)
		}
	}
	var asked []ethrpc.Query
	for _, q := range queries {
		asked = append(asked, ethrpc.Query{Contract: q.Contract, Devices: q.Devices, OSImages: q.OSImages, CodeOnly: len(q.Devices)+len(q.OSImages) == 0})
	}
	var state *ethrpc.State
	pinned, err := c.Reader.Pin(ctx, ethrpc.PinRequest{Tags: []ethrpc.BlockTag{ethrpc.Latest}, NotBefore: notBefore})
	if err == nil {
		state, err = c.Reader.Read(ctx, pinned, asked, ethrpc.ReadOptions{NoCache: true})
	}
	if err != nil {
		l.fail(err)
		return l
	}
	l.Tag, l.Provider, l.Block, l.Head = pinned.Tag.String(), pinned.Provider, blockOf(pinned.Block), blockOf(pinned.Block)
	c.take(l, state, asked, nil)
	return l
}

// maxHeadAge is the age of the newest block, and of a finalized one, from which on a provider is suspected to be out of sync.
const maxHeadAge = time.Hour

// warnStale notes a block that is too old to be what the provider calls it.
func (l *look) warnStale(which string, b ethrpc.Block) {
	if age := l.At.Sub(b.Time); age > maxHeadAge {
		l.Failures = append(l.Failures, failed(audit.StageRPC, l.Provider, fmt.Errorf(
			"warning: the %s block %d is %s old: the node may be out of sync", which, b.Number, age.Truncate(time.Second))))
	}
}

// complete accounts for everything that the contracts store. Where the proven state of a contract holds more than is asked
// for, its events are read for what they name, and what is new is asked for at the same block; where that is not enough,
// they are read anew, once for every state of the storage.
func (c *observer) complete(ctx context.Context, l *look, state *ethrpc.State, queries []ethrpc.Query, scans map[common.Address]*audit.EventScan, ask func() []ethrpc.Query) (*ethrpc.State, []ethrpc.Query) {
	for _, anew := range []bool{false, true} {
		var due []*ethrpc.Reading
		for i := range state.Readings {
			if r := &state.Readings[i]; c.wantsEvents(r, scans[r.Contract], anew) {
				due = append(due, r)
			}
		}
		for i, r := range due {
			if scans[r.Contract] = c.scan(ctx, l, r, anew, len(due)-i); r.Sequenced {
				c.Events.Callers(ctx, r.Contract)
			}
		}
		asked := queries
		if len(due) > 0 {
			queries = ask()
		}
		again := slices.ContainsFunc(state.Readings, func(r ethrpc.Reading) bool { return r.Partial })
		if !again && slices.EqualFunc(asked, queries, func(a, b ethrpc.Query) bool { return a.Equal(&b) }) {
			continue
		}
		c.opt.Progress(c.Intent.Chain, "reading what the events named")
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
		if s != nil && s.Err == "" && r.Sequenced && r.Registered < len(queries[i].Apps) {
			*s = audit.EventScan{Err: fmt.Sprintf("who registered %d of %d apps is not known, which accounts for storage too", len(queries[i].Apps)-r.Registered, len(queries[i].Apps))}
		}
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
func (c *observer) addChanges(ctx context.Context, l *look) {
	for i := range l.Readings {
		r := &l.Readings[i]
		if r.Err != "" || !r.HasCode {
			continue
		}
		listed := make(map[common.Hash]bool, len(r.Answers))
		for _, ids := range l.ids[r.Contract] {
			for _, id := range ids {
				listed[id] = true
			}
		}
		shown := slices.DeleteFunc(slices.Clone(r.Answers), func(a audit.Answer) bool { return !a.Allowed && !listed[a.ID] })
		var root common.Hash
		if r.Storage != nil {
			root, _ = sanitize.ParseID(r.Storage.Root) // it was written here
		}
		if done := c.annotated[r.Contract]; done.root != root || root == (common.Hash{}) || !done.whole && now().Sub(done.at) >= annotateAgain {
			whole := c.Events.Annotate(ctx, r.Contract, shown)
			c.annotated[r.Contract] = annotation{root, now(), whole}
		}
		r.Changes = make([]audit.ListChange, 0, len(shown))
		for _, a := range shown {
			if last, known := c.Events.Last(r.Contract, a.List, a.ID); known {
				r.Changes = append(r.Changes, audit.ListChange{List: a.List, ID: a.ID, Changed: last})
			}
		}
	}
}
