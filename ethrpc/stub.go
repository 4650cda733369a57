package ethrpc

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
)

// Verify says whether answers are to be proven against the block's state root.
type Verify uint8

// The modes of Verify.
const (
	VerifyAuto     Verify = iota // where a provider can, otherwise providers are believed
	VerifyRequired               // or there is no answer
	VerifyOff                    // providers are believed
)

// ErrNoProof marks what cannot be proven. That is no lie; proof.ErrInvalid marks one.
var ErrNoProof = errors.New("not proven")

// GetterError is an eth_call that does not answer what the proven state gives.
type GetterError struct {
	Contract common.Address
	Getter   string // its Solidity signature
	ID       common.Hash
	Said     Answer
	Proven   Answer
}

func (e *GetterError) Error() string {
	return fmt.Sprintf("eth_call of %s(%s) at %s answers %s, but the proven state gives %s", e.Getter, e.ID, e.Contract, e.Said, e.Proven)
}

func (a Answer) String() string {
	switch {
	case a.Err != nil:
		return "no answer (" + a.Err.Error() + ")"
	case a.Allowed:
		return "true"
	default:
		return "false"
	}
}

// DisagreementError is two providers that say different things of one block.
type DisagreementError struct {
	Providers [2]string
	Block     Block
	What      string // what both say, fit to show
}

func (e *DisagreementError) Error() string {
	return fmt.Sprintf("%s and %s disagree about block %d: %s", e.Providers[0], e.Providers[1], e.Block.Number, e.What)
}

type (
	proofCache struct{}
	prefetch   struct{}
	refusal    struct {
		why   error
		until time.Time
	}
	quantity = hexutil.Uint64
)

var _ atomic.Pointer[refusal]

const keysAtOnce, proofWeight = 256, 8

func (prefetch) calls() []*call                                        { return nil }
func (c *Client) prefetch(*provider, []common.Address, any) []prefetch { return nil }
func bytesOf(json.RawMessage) (hexutil.Bytes, error)                   { return nil, nil }
