package ethrpc

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/kms-auditor/kms-auditor/ethrpc/block"
	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
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

	byNumber   bool            // the provider does not honour a block hash
	raw        json.RawMessage // the block as it came
	prefetched prefetch        // what came along with it
}

// ref is the block as a parameter of a call.
func (p *Pinned) ref() any {
	if p.byNumber {
		return hexutil.EncodeUint64(p.Block.Number)
	}
	return rpc.BlockNumberOrHashWithHash(p.Block.Hash, true)
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
		return cmp.Compare(slices.Index(req.Avoid, a.Name), slices.Index(req.Avoid, b.Name))
	})
	var failed []ProviderError
	for _, tag := range tags {
		noState := false
		for _, p := range providers {
			at, err := p.pinFrom(ctx, c.chainID, tag, req.NotBefore, func(ref any) prefetch { return c.prefetch(p, req.Prefetch, ref) })
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

// pin chooses the block of a tag. One round trip tells the chain id, the head, the block, and whether the provider
// honours a block hash: a call at a random one must fail. latest-N costs one more, since the head must be known first.
// What along asks for goes with the block, where it is not fixed.
func (p *provider) pin(ctx context.Context, chainID uint64, tag BlockTag, along func(ref any) prefetch) (*Pinned, error) {
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
		g := group{calls: calls}
		if along != nil && ref != "" {
			out.prefetched = along(ref)
			g.optional = out.prefetched.calls()
		}
		if err := p.doGroups(ctx, []group{g})[0]; err != nil {
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

	if err := block.CheckChainID(id, chainID); err != nil {
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
	return out, tag.Fits(out.Block, out.Head)
}

// pinFrom pins a block that is not older than notBefore, giving a node that lags behind time to catch up.
func (p *provider) pinFrom(ctx context.Context, chainID uint64, tag BlockTag, notBefore uint64, along func(ref any) prefetch) (at *Pinned, err error) {
	lags := false
	err = p.Retry(ctx, func(error) bool { return lags }, func() (err error) {
		at, err = p.pin(ctx, chainID, tag, along)
		if lags = err == nil && at.Block.Number < notBefore; lags {
			err = fmt.Errorf("block %d is behind block %d, which was seen before", at.Block.Number, notBefore)
		}
		return err
	})
	return at, err
}

// ethCall is a call of a contract at a pinned block.
func ethCall(at *Pinned, contract common.Address, data string) *transport.Call {
	return &transport.Call{Method: "eth_call", Args: []any{map[string]any{"to": contract, "input": hexutil.Bytes(data)}, at.ref()}}
}

func getCode(addr common.Address, ref any) *transport.Call {
	return &transport.Call{Method: "eth_getCode", Args: []any{addr, ref}}
}

// answerOf reads what a getter of a list said.
func answerOf(c *transport.Call) Answer {
	b, err := c.Bytes()
	if err != nil {
		return Answer{Err: err}
	}
	return kms.DecodeBool(b)
}
