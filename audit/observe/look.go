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
}

// look is an observation while it is made.
type look struct {
	audit.Observation
	raw    RawLook
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
	l.Claim, l.raw.Claim = ClaimOf(detail), &detail.Source
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
	ids := claimedIDs(l.Claim, c.Intent.ChainID)
	ask := func() (out []ethrpc.Query) {
		for _, a := range contracts {
			out = append(out, c.query(a, prior.Contract(a), ids[a]))
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
		c.addChanges(ctx, l, ids)
	}
	return nil
}

// query asks for every id that anybody named: the policy, events, earlier audits and the claim.
func (c *observer) query(contract common.Address, known *audit.Known, claimed map[audit.List][]common.Hash) ethrpc.Query {
	want := c.Intent.Contract(contract)
	q := ethrpc.Query{Contract: contract, Control: true}
	var named Named
	if c.Events != nil {
		named = c.Events.Named(contract)
	}
	if known == nil {
		known = &audit.Known{}
	}
	q.Devices = union(claimed[audit.Device], want.Policy.Devices, named.Devices, known.Devices)
	q.OSImages = union(claimed[audit.OSImage], want.Policy.OSImages, named.OSImages, known.OSImages)
	q.AggregatedMRs, q.Apps = named.AggregatedMRs, named.Apps
	for _, e := range want.Explained {
		q.Slots = append(q.Slots, e.Slot)
	}
	return q
}

// union joins lists in their order, each id once.
func union(lists ...[]common.Hash) []common.Hash {
	out, seen := []common.Hash{}, map[common.Hash]bool{}
	for _, id := range slices.Concat(lists...) {
		if !seen[id] {
			seen[id] = true
			out = append(out, id)
		}
	}
	return out
}

// claimedIDs are the well-formed ids of a claim about the chain, by contract and list.
func claimedIDs(claim *audit.APIClaim, chainID uint64) map[common.Address]map[audit.List][]common.Hash {
	out := map[common.Address]map[audit.List][]common.Hash{}
	if claim == nil || claim.ChainID != chainID {
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
