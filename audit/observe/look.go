package observe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/logs"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// observer looks at one chain. Its state only saves requests.
type observer struct {
	Chain
	opt         *Options
	scanned     map[common.Address]common.Hash // the storage root for which events were read
	rescanned   map[common.Address]common.Hash // the storage root for which they were read again in vain
	withoutApps map[common.Address]pause
	annotated   map[common.Address]annotation
	detail      *kmsapi.OnChainDetail // the last one; claim and claimed are made from it
	claim       *audit.APIClaim
	claimed     idsByContract
	l1Calls     *ethrpc.ProvenCalls // the last calls on L1
}

// look is an observation in progress.
type look struct {
	audit.Observation
	raw    RawLook
	ids    idsByContract // in the claim
	pinned *ethrpc.Pinned

	anchoring *anchoring // nil without an anchor
}

// look fetches the claim, pins a block at the same time, and reads the contracts at that block. The block is not older than that of
// the look before.
func (c *observer) look(ctx context.Context, prior audit.Prior, before *look) *look {
	l := &look{Observation: audit.Observation{At: now()}}
	tags, notBefore := c.Tags, uint64(0)
	if before != nil && before.pinned != nil {
		// A preferred tag could name an older block than the tag that was used.
		tags = tags[max(slices.Index(tags, before.pinned.Tag), 0):]
		notBefore = before.pinned.Block.Number
	}
	c.sync(ctx, prior, l)
	var claim, listing []audit.Failure
	var wg sync.WaitGroup
	wg.Go(func() { claim = c.guarded(func() error { return c.fetchClaim(ctx, l) }) })
	wg.Go(func() { listing = c.guarded(func() error { return c.fetchListing(ctx, l) }) })
	var early []*logs.Batch
	if c.Events != nil {
		early = c.batches(audit.Contracts(c.Intent, prior, nil))
	}
	req := ethrpc.PinRequest{Tags: tags, NotBefore: notBefore, Avoid: prior.Contradicted(), Prefetch: audit.Contracts(c.Intent, prior, nil), Events: early}
	pinned, err := c.pin(ctx, l, prior, req)
	wg.Wait()
	for _, b := range early {
		_ = c.Events.Take(b) // if it fails, Update reads the events
	}
	l.Failures = slices.Concat(claim, listing)
	if err == nil {
		req.Events = nil
		err = c.readContracts(ctx, prior, l, pinned, req)
	}
	if err != nil {
		l.fail(err)
	}
	c.anchor(l)
	return l
}

// guarded turns an error of the API, or a panic, into a failure.
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
	if c.Intent.NoClaims {
		return nil
	}
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
	if c.Intent.NoClaims || !c.Intent.CrossChecks && !c.Intent.Discover {
		return nil
	}
	l.ListingFailed = true // also after a panic
	list, err := c.opt.Listing.List(ctx, kmsapi.Filter{OnChain: true})
	if err != nil {
		return err
	}
	l.Listing, l.ListingFailed, l.raw.Listing = ListingOf(list.KMS, c.Intent.ChainID), false, list.Pages
	return nil
}

// pinNewest pins a block, preferably no older than the last audited one. If every node lags, it pins an older block, which the judge
// reports.
func (c *observer) pinNewest(ctx context.Context, prior audit.Prior, req ethrpc.PinRequest) (*ethrpc.Pinned, error) {
	notBefore := req.NotBefore
	if len(req.Tags) > 0 {
		req.NotBefore = max(notBefore, prior.LowestBlock(req.Tags[0].String()))
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

// readContracts reads the contracts at the pinned block. If no provider can, the next provider pins a block of the same tag, because
// the first one may have invented its block. If no provider is left and the state is pruned, the next tag is used.
func (c *observer) readContracts(ctx context.Context, prior audit.Prior, l *look, pinned *ethrpc.Pinned, req ethrpc.PinRequest) error {
	contracts := audit.Contracts(c.Intent, prior, l.Claim)
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
		req.Avoid = append(req.Avoid, pinned.Provider)
		again, e := c.pin(ctx, l, prior, req)
		if next := slices.Index(req.Tags, pinned.Tag) + 1; (e != nil || slices.Contains(req.Avoid, again.Provider)) && gone && next > 0 && next < len(req.Tags) {
			req.Tags, req.Avoid, gone = req.Tags[next:], nil, false
			again, e = c.pin(ctx, l, prior, req)
		}
		if e != nil || slices.Contains(req.Avoid, again.Provider) {
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

// read reads the contracts and, if needed, their events.
func (c *observer) read(ctx context.Context, prior audit.Prior, l *look, contracts []common.Address) error {
	done := &completion{look: l, scans: map[common.Address]*audit.EventScan{}, callers: map[common.Address]bool{}}
	done.ask = func() (out []ethrpc.Query) {
		for _, a := range contracts {
			q := c.query(a, prior.Contract(a), l.ids[a])
			p, s := c.withoutApps[a], done.scans[a]
			if s == nil && p.why != "" || s != nil && s.PublicErr != "" || now().Before(p.until) {
				q.Apps, q.Callers = nil, nil // without all of them, storage cannot be accounted for
			}
			out = append(out, q)
		}
		return out
	}
	done.queries = done.ask()
	opt := ethrpc.ReadOptions{AllowPartial: c.Events != nil}
	if c.Events != nil {
		opt.Beside = c.batches(contracts)
		for _, b := range opt.Beside {
			b.To, b.ToHash = l.pinned.Block.Number, l.pinned.Block.Hash
		}
	}
	var err error
	if done.state, err = c.readState(ctx, done, opt); err != nil {
		return err
	}
	if c.Events != nil {
		c.complete(ctx, done, opt.Beside)
	}
	c.take(l, done.state, done.queries, done.scans)
	if c.Events != nil {
		c.addChanges(ctx, l)
	}
	return nil
}

// query asks for every known id: from the policy, accepted differences, events, earlier audits and the claim.
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
	q := ethrpc.Query{Contract: contract, Control: true}
	// The zero id shows whether the contract has the list and, if its code is run locally, which code runs for an id that is not
	// allowed.
	for list, ids := range map[audit.List]*[]common.Hash{audit.Device: &q.Devices, audit.OSImage: &q.OSImages, audit.AggregatedMR: &q.AggregatedMRs} {
		*ids = *known.IDs(list)
		for _, more := range [][]common.Hash{claimed[list], want.Policy.List(list), accepted[list], named[string(list)]} {
			*ids = audit.Union(*ids, slices.Values(more), math.MaxInt)
		}
		if c.Intent.Events || len(*ids) == 0 {
			*ids = audit.Union(*ids, slices.Values([]common.Hash{{}}), math.MaxInt)
		}
	}
	for _, app := range named[Apps] {
		q.Apps = append(q.Apps, common.BytesToAddress(app[12:]))
	}
	for _, caller := range named[Callers] {
		q.Callers = append(q.Callers, common.BytesToAddress(caller[12:]))
	}
	if all := named[Implementations]; len(all) > 1 { // with one, it was never upgraded
		for _, code := range all {
			q.Implementations = append(q.Implementations, common.BytesToAddress(code[12:]))
		}
	}
	for _, e := range want.Explained {
		q.Slots = append(q.Slots, e.Slot)
	}
	return q
}

type idsByContract map[common.Address]map[audit.List][]common.Hash

// claimedIDs returns the well-formed ids of a claim about the chain, by contract and list, sorted.
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
	for _, lists := range out {
		for _, ids := range lists {
			slices.SortFunc(ids, common.Hash.Cmp)
		}
	}
	return out
}

// lookAtHead reads the queries, which differ at the pinned block, at the newest block. Refused providers are asked last, because
// a provider that invents a head could make a difference pending.
func (c *observer) lookAtHead(ctx context.Context, queries []audit.HeadQuery, looks audit.Looks, refused []string) *look {
	l := &look{Observation: audit.Observation{At: now()}}
	notBefore := uint64(0)
	for _, o := range looks.All() {
		if o.Block != nil {
			notBefore = max(notBefore, o.Block.Number)
		}
	}
	var asked []ethrpc.Query
	for _, q := range queries {
		asked = append(asked, ethrpc.Query{
			Contract: q.Contract, Devices: q.IDs[audit.Device], OSImages: q.IDs[audit.OSImage], AggregatedMRs: q.IDs[audit.AggregatedMR], CodeOnly: len(q.IDs) == 0,
		})
	}
	var state *ethrpc.State
	pinned, err := c.Reader.Pin(ctx, ethrpc.PinRequest{Tags: []ethrpc.BlockTag{ethrpc.Latest}, NotBefore: notBefore, Avoid: refused})
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

// maxHeadAge is the age of a block from which a provider counts as out of sync.
const maxHeadAge = time.Hour

// warnStale adds a failure if a block is too old.
func (l *look) warnStale(which string, b ethrpc.Block) {
	if age := l.At.Sub(b.Time); age > maxHeadAge {
		l.Failures = append(l.Failures, failed(audit.StageRPC, l.Provider, fmt.Errorf(
			"warning: the %s block %d is %s old: the node may be out of sync", which, b.Number, age.Truncate(time.Second))))
	}
}

// annotation is when times and senders of a contract's events were last fetched, and for which storage root.
type annotation struct {
	root  common.Hash
	at    time.Time
	whole bool
}

// annotateAgain is how long to wait before missing times and senders are fetched again.
var annotateAgain = 10 * time.Minute

// addChanges adds the last event of every id that the claim lists, the policy allows or the contract allows. With Eager, it also
// fetches who sent the event and when.
func (c *observer) addChanges(ctx context.Context, l *look) {
	for i := range l.Readings {
		r := &l.Readings[i]
		if r.Err != "" || !r.HasCode {
			continue
		}
		claimed, want := l.ids[r.Contract], c.Intent.Contract(r.Contract).Policy
		isClaimed := func(a audit.Answer) bool {
			_, listed := slices.BinarySearchFunc(claimed[a.List], a.ID, common.Hash.Cmp)
			return listed
		}
		shown := make([]audit.ListChange, 0, len(r.Answers))
		for _, a := range r.Answers {
			if a.Allowed || want.State(a.List, a.ID) == audit.PolicyAllowed || isClaimed(a) {
				shown = append(shown, audit.ListChange{List: a.List, ID: a.ID})
			}
		}
		var root common.Hash
		if r.Storage != nil {
			root, _ = sanitize.ParseID(r.Storage.Root) // ReadingOf wrote it
		}
		if done := c.annotated[r.Contract]; c.Eager && (done.root != root || root == (common.Hash{}) || !done.whole && now().Sub(done.at) >= annotateAgain) {
			whole := c.Events.Annotate(ctx, r.Contract, shown)
			c.annotated[r.Contract] = annotation{root, now(), whole}
		}
		r.Changes = c.Events.Last(r.Contract, shown)
	}
}

// annotateFindings fetches who caused mismatches and when. It reports whether there are any.
func (c *observer) annotateFindings(ctx context.Context, judged audit.Chain, looks *audit.Looks) (wrong bool) {
	for _, t := range judged.Targets {
		var of []audit.ListChange
		for _, e := range t.Entries {
			if id, err := sanitize.ParseID(e.ID); err == nil && e.Changed != nil && e.Verdict == audit.Mismatch {
				of = append(of, audit.ListChange{List: e.List, ID: id})
			}
		}
		if len(of) == 0 {
			continue
		}
		wrong = true
		contract, _ := sanitize.ParseAddress(t.Contract) // audit.Judge wrote it
		c.Events.Annotate(ctx, contract, of)
		for _, l := range looks.All() {
			if r := l.Reading(contract); r != nil {
				r.Changes = c.Events.Last(contract, r.Changes)
			}
		}
	}
	return wrong
}
