package ethrpc

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/kms-auditor/kms-auditor/internal/httpx"
)

// PinRequest is how to choose a block.
type PinRequest struct {
	Tags      []BlockTag       // in order of preference; nil: the Client's own
	NotBefore uint64           // refuses a block with a lower number, as a node that lags behind would serve
	Avoid     []string         // providers to try last, by name: they pinned a block that could not be read
	Prefetch  []common.Address // contracts that the Read will be about: what comes first is asked for along with the block
}

// Pinned is a block to read at.
type Pinned struct {
	Provider    string // that pinned it
	Tag         BlockTag
	Block, Head Block           // Head is the provider's newest block
	Failed      []ProviderError // the providers, or tags, that were tried before

	pin pin
}

// Pin chooses a block. Providers are tried in their order; the next tag is tried only where no provider could serve the
// one before, and one could not because it has no such block. The error is a *ReadError, fit to show.
func (c *Client) Pin(ctx context.Context, req PinRequest) (*Pinned, error) {
	tags := req.Tags
	if tags == nil {
		tags = c.tags
	}
	providers := slices.Clone(c.providers)
	slices.SortStableFunc(providers, func(a, b *provider) int {
		return cmp.Compare(slices.Index(req.Avoid, a.name), slices.Index(req.Avoid, b.name))
	})
	var failed []ProviderError
	for _, tag := range tags {
		noState := false
		for _, p := range providers {
			at, err := p.pinFrom(ctx, c.chainID, tag, req.NotBefore, func(ref any) []prefetch { return c.prefetch(p, req.Prefetch, ref) })
			if err == nil {
				return &Pinned{p.name, tag, at.block, at.head, failed, at}, nil
			}
			failed = append(failed, ProviderError{p.name, err})
			noState = noState || errors.Is(err, ErrNoState)
			if ctx.Err() != nil {
				break
			}
		}
		if !noState || ctx.Err() != nil {
			break
		}
	}
	return nil, &ReadError{failed}
}

// pin is a block that everything is read at.
type pin struct {
	block, head Block
	byNumber    bool // the provider does not honour a block hash

	raw        json.RawMessage // the block as it came
	prefetched []prefetch      // what came along with it
}

// ref is the pin as the block parameter of a call.
func (p pin) ref() any {
	if p.byNumber {
		return hexutil.EncodeUint64(p.block.Number)
	}
	return rpc.BlockNumberOrHashWithHash(p.block.Hash, true)
}

// pin chooses the block of a tag. One round trip tells the chain id, the head, the block, and whether the provider
// honours a block hash: a call at a random one must fail. latest-N costs one more, since the head must be known first.
// What along asks for goes with the block, where it is not fixed.
func (p *provider) pin(ctx context.Context, chainID uint64, tag BlockTag, along func(ref any) []prefetch) (pin, error) {
	var nowhere common.Hash
	if _, err := rand.Read(nowhere[:]); err != nil {
		return pin{}, err
	}
	id := &call{method: "eth_chainId"}
	head := getBlock("latest")
	probe := &call{method: "eth_call", args: []any{map[string]any{"to": common.Address{}}, rpc.BlockNumberOrHashWithHash(nowhere, true)}, probe: true}
	calls := []*call{id, head, probe}
	block := head
	switch {
	case tag.hash != nil:
		block = &call{method: "eth_getBlockByHash", args: []any{*tag.hash, false}}
		calls = append(calls, block)
	case tag.tag != "latest":
		block = getBlock(tag.arg())
		calls = append(calls, block)
	}
	var out pin
	do := func(ref string, calls ...*call) error {
		var more []*call
		if along != nil && ref != "" {
			out.prefetched = along(ref)
			for _, f := range out.prefetched {
				more = append(more, f.calls()...)
			}
		}
		if err := p.doGroups(ctx, []group{{calls: calls, optional: more}})[0]; err != nil {
			return fmt.Errorf("pinning block %s: %w", tag, err)
		}
		return nil
	}
	ref := ""
	if tag.tag != "" && tag.behind == 0 {
		ref = tag.arg()
	}
	if err := do(ref, calls...); err != nil {
		return pin{}, err
	}

	if err := checkChainID(id, chainID); err != nil {
		return pin{}, err
	}
	var err error
	if out.head, err = head.block(); err != nil {
		return pin{}, fmt.Errorf("reading the latest block: %w", err)
	}
	p.observer.Head(p.name, out.head.Time)
	out.byNumber = probe.err == nil || isFormRefused(probe.err)

	if tag.behind > 0 {
		if tag.behind > out.head.Number {
			return pin{}, fmt.Errorf("pinning block %s: the head is block %d: %w", tag, out.head.Number, ErrNoState)
		}
		at := hexutil.EncodeUint64(out.head.Number - tag.behind)
		block = getBlock(at)
		if err := do(at, block); err != nil {
			return pin{}, err
		}
	}
	if out.block, err = block.block(); err != nil {
		return pin{}, fmt.Errorf("pinning block %s: %w", tag, err)
	}
	out.raw = block.result
	return out, tag.Fits(out.block, out.head)
}

// Fits refuses a block that is not the one that the tag names, where head was the newest one.
func (t BlockTag) Fits(block, head Block) error {
	want := block.Number
	switch {
	case t.hash != nil && *t.hash != block.Hash:
		return fmt.Errorf("asked for block %s, got %s", t.hash, block.Hash)
	case t.hash == nil && t.tag == "":
		want = t.number
	case t.behind > 0:
		want = head.Number - t.behind
	}
	if block.Number != want {
		return fmt.Errorf("asked for block %d, got %d", want, block.Number)
	}
	return nil
}

// pinFrom pins a block that is not older than notBefore, giving a node that lags behind time to catch up.
func (p *provider) pinFrom(ctx context.Context, chainID uint64, tag BlockTag, notBefore uint64, along func(ref any) []prefetch) (pin, error) {
	delay := p.retryDelay
	for try := 1; ; try++ {
		at, err := p.pin(ctx, chainID, tag, along)
		if err != nil || at.block.Number >= notBefore {
			return at, err
		}
		err = fmt.Errorf("block %d is behind block %d, which was seen before", at.block.Number, notBefore)
		if try == tries {
			return pin{}, err
		}
		if err := httpx.Pause(ctx, delay, err); err != nil {
			return pin{}, err
		}
		delay *= 2
	}
}

func checkChainID(c *call, want uint64) error {
	var got *quantity
	err := c.err
	if err == nil {
		err = json.Unmarshal(c.result, &got)
	}
	if err == nil && got == nil {
		err = errNull
	}
	if err != nil {
		return fmt.Errorf("reading eth_chainId: %w", err)
	}
	if uint64(*got) != want {
		return &ChainIDError{uint64(*got), want}
	}
	return nil
}

func getBlock(arg string) *call {
	return &call{method: "eth_getBlockByNumber", args: []any{arg, false}}
}

// maxTime is the last second that RFC 3339 can spell.
var maxTime = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// block reads the answer to getBlock. What a node answers for a block or tag that it does not have is ErrNoState.
func (c *call) block() (Block, error) {
	if isUnknownBlock(c.err) || isPruned(c.err) || isRPC(c.err, []int{-32602, -39001}) {
		return Block{}, fmt.Errorf("%w: the provider has no such block: %w", ErrNoState, c.err)
	}
	if c.err != nil {
		return Block{}, c.err
	}
	var h *struct {
		Number    *quantity    `json:"number"`
		Hash      *common.Hash `json:"hash"`
		Timestamp *quantity    `json:"timestamp"`
	}
	if err := json.Unmarshal(c.result, &h); err != nil {
		return Block{}, fmt.Errorf("decoding the block: %w", err)
	}
	if h == nil {
		return Block{}, fmt.Errorf("%w: the provider has no such block", ErrNoState)
	}
	if h.Number == nil || h.Hash == nil || h.Timestamp == nil || uint64(*h.Timestamp) > uint64(maxTime.Unix()) {
		return Block{}, errors.New("the block lacks a number, a hash or a possible time")
	}
	return Block{uint64(*h.Number), *h.Hash, time.Unix(int64(*h.Timestamp), 0).UTC()}, nil
}
