package ethrpc

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/kms-auditor/kms-auditor/ethrpc/block"
	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/logs"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// PinRequest says how to choose a block.
type PinRequest struct {
	Tags      []BlockTag       // in order of preference; nil: the Client's own
	NotBefore uint64           // a block with a lower number is refused: the node lags behind
	Avoid     []string         // names of providers to try last: their last block could not be read
	Prefetch  []common.Address // contracts to Read afterwards; their first requests are sent with the block's
	Events    []*logs.Batch    // sent with the block's request too; dropped if they make it fail
}

// Pinned is a block to read at.
type Pinned struct {
	Provider    string // that pinned it
	Tag         BlockTag
	Block, Head Block           // Head is the provider's newest block
	Failed      []ProviderError // earlier tries: other providers or tags

	byNumber   bool            // the provider does not honour a block hash
	raw        json.RawMessage // the block as the provider sent it
	prefetched prefetch
}

// ref returns the block parameter of a call.
func (p *Pinned) ref() any {
	if p.byNumber {
		return hexutil.EncodeUint64(p.Block.Number)
	}
	return rpc.BlockNumberOrHashWithHash(p.Block.Hash, true)
}

// Pin chooses a block. Providers are tried in order. The next tag is tried only if every provider failed with the tag before,
// and at least one of them with ErrNoState. The error is a *ReadError; its text is safe to show.
func (c *Client) Pin(ctx context.Context, req PinRequest) (*Pinned, error) {
	if req.Tags == nil {
		req.Tags = c.opt.Tags
	}
	providers := slices.Clone(c.providers)
	slices.SortStableFunc(providers, func(a, b *provider) int {
		return cmp.Compare(slices.Index(req.Avoid, a.Name), slices.Index(req.Avoid, b.Name))
	})
	var failed []ProviderError
	for _, tag := range req.Tags {
		noState := false
		for _, p := range providers {
			at, err := c.pinFrom(ctx, p, tag, &req)
			if err == nil {
				at.Failed = failed
				return at, nil
			}
			failed = append(failed, ProviderError{Provider: p.Name, Err: err})
			noState = noState || errors.Is(err, ErrNoState)
			if ctx.Err() != nil {
				break
			}
		}
		if !noState || ctx.Err() != nil {
			break
		}
	}
	return nil, &ReadError{Failures: failed}
}

// pinFrom pins a block that is not older than NotBefore. It retries, so that a lagging node can catch up.
func (c *Client) pinFrom(ctx context.Context, p *provider, tag BlockTag, req *PinRequest) (at *Pinned, err error) {
	lags := false
	err = p.Retry(ctx, func(error) bool { return lags }, func() (err error) {
		at, err = c.pin(ctx, p, tag, req)
		if lags = err == nil && at.Block.Number < req.NotBefore; lags {
			err = fmt.Errorf("block %d is behind block %d, which was seen before", at.Block.Number, req.NotBefore)
		}
		return err
	})
	return at, err
}

// pin chooses the block of a tag. One round trip fetches the chain id, the head and the block, and probes whether the provider
// honours block hashes: a call at a random hash must fail. latest-N takes a second round trip, since the head must be known
// first. Unless the tag is fixed, what req prefetches goes with the block; req may be nil.
func (c *Client) pin(ctx context.Context, p *provider, tag BlockTag, req *PinRequest) (*Pinned, error) {
	var nowhere common.Hash
	if _, err := rand.Read(nowhere[:]); err != nil {
		return nil, err
	}
	id, head := block.ChainID(), block.Latest.Ask()
	probe := &transport.Call{
		Method: "eth_call", Args: []any{map[string]any{"to": common.Address{}}, rpc.BlockNumberOrHashWithHash(nowhere, true)}, Probe: true,
	}
	calls := []*transport.Call{id, head, probe}
	pinned := head
	if !tag.IsLatest() {
		pinned = tag.Ask()
		calls = append(calls, pinned)
	}
	out := &Pinned{Provider: p.Name, Tag: tag}
	do := func(ref string, calls ...*transport.Call) error {
		if req != nil && ref != "" {
			out.prefetched = c.prefetch(p, req.Prefetch, ref)
		}
		groups := []group{{calls: calls}, {calls: out.prefetched.calls(), optional: true}, {optional: true, beside: true}}
		if req != nil && ref != "" {
			for _, b := range req.Events {
				groups[2].calls = append(groups[2].calls, b.CallsUpTo(ref)...)
			}
		}
		errs := p.doGroups(ctx, groups)
		if err := cmp.Or(errs[0], errs[1]); err != nil {
			return fmt.Errorf("pinning block %s: %w", tag, err)
		}
		return nil
	}
	ref := ""
	if !tag.Fixed() && tag.Behind() == 0 {
		ref = tag.String()
	}
	if err := do(ref, calls...); err != nil {
		return nil, err
	}

	if err := block.CheckChainID(id, c.opt.ChainID); err != nil {
		return nil, err
	}
	var err error
	if out.Head, err = block.Decode(head); err != nil {
		return nil, fmt.Errorf("reading the latest block: %w", err)
	}
	p.Observer.Head(p.Name, out.Head.Time)
	out.byNumber = probe.Err == nil || transport.IsFormRefused(probe.Err)

	if n := tag.Behind(); n > 0 {
		if n > out.Head.Number {
			return nil, fmt.Errorf("pinning block %s: the head is block %d: %w", tag, out.Head.Number, ErrNoState)
		}
		pinned = block.AtNumber(out.Head.Number - n).Ask()
		if err := do(hexutil.EncodeUint64(out.Head.Number-n), pinned); err != nil {
			return nil, err
		}
	}
	if out.Block, err = block.Decode(pinned); err != nil {
		return nil, fmt.Errorf("pinning block %s: %w", tag, err)
	}
	out.raw = pinned.Result
	if req != nil {
		for _, b := range req.Events {
			b.Pinned(out.Block, out.raw)
		}
	}
	return out, tag.Fits(out.Block, out.Head)
}

// prefetch has the requests that are sent along with the block, by the same tag. A load balancer may answer it for another block.
// Then it does not match the block's state root and is asked for again, by hash.
type prefetch struct {
	requests []*request
	getters  map[common.Address][]*request
}

const (
	maxPrefetch = 2048 // accounts: a thousand proxies and their implementations
	maxLikely   = 12   // contracts that are not in the proof cache; bounds the size of the requests
)

// prefetch asks for the accounts in the proof cache, whose proofs show whether anything changed. If the cache is empty, it
// makes the first requests about the likely contracts.
func (c *Client) prefetch(p *provider, likely []common.Address, ref any) (out prefetch) {
	if c.opt.Verify == VerifyOff || p.cannot(toProve) != nil {
		return out
	}
	if cache := c.proven.Load(); cache != nil {
		accounts := map[common.Address]bool{}
		for _, m := range *cache {
			maps.Copy(accounts, m.Accounts)
		}
		for _, a := range slices.SortedFunc(maps.Keys(accounts), common.Address.Cmp)[:min(len(accounts), maxPrefetch)] {
			out.requests = append(out.requests, requestProof(a, nil, ref))
		}
		return out
	}
	out.getters = map[common.Address][]*request{}
	for _, a := range likely[:min(len(likely), maxLikely)] {
		out.requests = append(out.requests, requestProof(a, kms.WellKnown, ref), requestCode(a, ref))
		out.getters[a] = requestGetters(a, ref)
	}
	return out
}

func (f prefetch) calls() (out []*transport.Call) {
	for _, q := range slices.Concat(f.requests, slices.Concat(slices.Collect(maps.Values(f.getters))...)) {
		out = append(out, q.call)
	}
	return out
}
