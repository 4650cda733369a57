// Package block has the block tags, and decodes a provider's answers about blocks and its chain id.
package block

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// ErrNoState marks a provider that cannot serve the block that a policy names: its state is pruned, or it knows no
// such block or tag. Only then is the next policy tried.
var ErrNoState = errors.New("no state")

// ChainIDError is a provider of another chain.
type ChainIDError struct{ Got, Want uint64 }

func (e *ChainIDError) Error() string {
	return fmt.Sprintf("eth_chainId answers %d, but chain_id is configured as %d", e.Got, e.Want)
}

// Block is a block as a provider describes it.
type Block struct {
	Number uint64
	Hash   common.Hash
	Time   time.Time // UTC
}

// MaxTime is the last second that RFC 3339 can spell.
var MaxTime = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// Decode reads a block. What a node answers for a block or tag that it does not have is ErrNoState.
func Decode(c *transport.Call) (Block, error) {
	if transport.IsUnknownBlock(c.Err) || transport.IsPruned(c.Err) || transport.IsRPC(c.Err, []int{-32602, -39001}) {
		return Block{}, fmt.Errorf("%w: the provider has no such block: %w", ErrNoState, c.Err)
	}
	if c.Err != nil {
		return Block{}, c.Err
	}
	var h *struct {
		Number    *transport.Quantity `json:"number"`
		Hash      *common.Hash        `json:"hash"`
		Timestamp *transport.Quantity `json:"timestamp"`
	}
	if err := json.Unmarshal(c.Result, &h); err != nil {
		return Block{}, fmt.Errorf("decoding the block: %w", err)
	}
	if h == nil {
		return Block{}, fmt.Errorf("%w: the provider has no such block", ErrNoState)
	}
	if h.Number == nil || h.Hash == nil || h.Timestamp == nil || uint64(*h.Timestamp) > uint64(MaxTime.Unix()) {
		return Block{}, errors.New("the block lacks a number, a hash or a possible time")
	}
	return Block{uint64(*h.Number), *h.Hash, time.Unix(int64(*h.Timestamp), 0).UTC()}, nil
}

// ChainID asks for the chain id, and CheckChainID refuses any but want.
func ChainID() *transport.Call { return &transport.Call{Method: "eth_chainId"} }

func CheckChainID(c *transport.Call, want uint64) error {
	var got *transport.Quantity
	err := c.Err
	if err == nil {
		err = json.Unmarshal(c.Result, &got)
	}
	if err == nil && got == nil {
		err = transport.ErrNull
	}
	if err != nil {
		return fmt.Errorf("reading eth_chainId: %w", err)
	}
	if uint64(*got) != want {
		return &ChainIDError{uint64(*got), want}
	}
	return nil
}
