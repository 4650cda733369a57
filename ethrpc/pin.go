package ethrpc

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"
)

// pin is a block that everything is read at.
type pin struct {
	block, head Block
	byNumber    bool // the provider does not honour a block hash

	raw   json.RawMessage // the block as it came
	early []early         // what came along with it
}

// ref is the pin as the block parameter of a call.
func (p pin) ref() any {
	if p.byNumber {
		return hexutil.EncodeUint64(p.block.Number)
	}
	return rpc.BlockNumberOrHashWithHash(p.block.Hash, true)
}

// pin chooses the block of a policy. One round trip tells the chain id, the head, the block, and whether the provider
// honours a block hash: a call at a random one must fail. latest-N costs one more, since the head must be known first.
// What along asks for goes with the block, where it is not fixed.
func (p *provider) pin(ctx context.Context, chainID uint64, policy Policy, along func(ref any) []early) (pin, error) {
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
	case policy.hash != nil:
		block = &call{method: "eth_getBlockByHash", args: []any{*policy.hash, false}}
		calls = append(calls, block)
	case policy.tag != "latest":
		block = getBlock(policy.arg())
		calls = append(calls, block)
	}
	var out pin
	with := func(ref string, calls ...*call) []*call {
		if along == nil {
			return calls
		}
		out.early = along(ref)
		for _, e := range out.early {
			calls = append(calls, e.calls()...)
		}
		return calls
	}
	if policy.tag != "" && policy.behind == 0 {
		calls = with(policy.arg(), calls...)
	}
	if err := p.do(ctx, calls); err != nil {
		return pin{}, fmt.Errorf("pinning block %s: %w", policy, err)
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

	if policy.behind > 0 {
		if policy.behind > out.head.Number {
			return pin{}, fmt.Errorf("pinning block %s: the head is block %d: %w", policy, out.head.Number, ErrNoState)
		}
		at := hexutil.EncodeUint64(out.head.Number - policy.behind)
		block = getBlock(at)
		if err := p.do(ctx, with(at, block)); err != nil {
			return pin{}, fmt.Errorf("pinning block %s: %w", policy, err)
		}
	}
	if out.block, err = block.block(); err != nil {
		return pin{}, fmt.Errorf("pinning block %s: %w", policy, err)
	}
	out.raw = block.result
	return out, policy.Fits(out.block, out.head)
}

// Fits refuses a block that is not the one that the policy names, where head was the newest one.
func (p Policy) Fits(block, head Block) error {
	want := block.Number
	switch {
	case p.hash != nil && *p.hash != block.Hash:
		return fmt.Errorf("asked for block %s, got %s", p.hash, block.Hash)
	case p.hash == nil && p.tag == "":
		want = p.number
	case p.behind > 0:
		want = head.Number - p.behind
	}
	if block.Number != want {
		return fmt.Errorf("asked for block %d, got %d", want, block.Number)
	}
	return nil
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
