package ethrpc

import (
	"context"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/block"
	"github.com/kms-auditor/kms-auditor/ethrpc/getters"
	"github.com/kms-auditor/kms-auditor/ethrpc/logs"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// Verify is the mode of proving answers against the block's state root.
type Verify uint8

// The modes of Verify.
const (
	VerifyAuto     Verify = iota // prove if a provider can, else trust providers
	VerifyRequired               // an unproven answer is an error
	VerifyOff                    // trust providers
)

// ErrNoProof marks an answer that cannot be proven. It does not mean a lie; proof.ErrInvalid does.
var ErrNoProof = getters.ErrNoProof

// GetterError reports an eth_call whose answer differs from what the proven state gives.
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

// ReadOptions change how a Read works.
type ReadOptions struct {
	// AllowPartial leaves out the answers of a contract that stores more than its Query explains, instead of proving each: the
	// caller will ask for more. The Reading is marked as Partial.
	AllowPartial bool
	// NoCache keeps no proofs for the next Read. Use it for queries that do not recur.
	NoCache bool
	// First names the provider to ask first. The default is the one that pinned.
	First string
	// Beside is sent with the first proofs of its contract. It is dropped if it makes them fail.
	Beside []*logs.Batch
}

// State is the result of a Read at one block.
type State struct {
	Readings []Reading       // one for each Query, in order
	Failed   []ProviderError // providers that failed for the block as a whole
	Agreed   int             // providers that agree about the block's hash

	verified *proof.VerifiedState
	accounts map[common.Address]bool // that the proven Readings rest on
}

// Reading is the result for one contract. It does not depend on other contracts.
type Reading struct {
	getters.Reading

	Provider string          // that answered
	Err      error           // why nothing was read; HasCode is then unknown
	Proven   bool            // all answers are proven against the state root
	Unproven error           // why they are not; nil with VerifyOff
	Agreed   int             // providers that agree about these answers or, if proven, about the block's hash
	Failed   []ProviderError // providers that failed, or lied, only about this contract
}

// notRead returns the Reading of a contract that could not be read.
func notRead(contract common.Address, err error) Reading {
	return Reading{Reading: getters.Reading{Contract: contract}, Err: err}
}

// Witness proves Readings against a block hash. Its source need not be trusted.
type Witness struct {
	Header []byte   // RLP
	Nodes  [][]byte // of the state trie and storage tries, in any order; superfluous ones are harmless
	Codes  [][]byte
}

// Witness returns the proofs of the Readings, including those that earlier Reads fetched, or nil if nothing is proven. Call it
// before the client's next Read.
func (s *State) Witness() *Witness {
	if len(s.accounts) == 0 {
		return nil
	}
	header, nodes, codes := s.verified.Witness(s.accounts)
	return &Witness{header, nodes, codes}
}

// Prove answers the queries at a block only from a Witness. It fails if the header is wrong or ctx ends. A Reading has an Err if
// the witness does not prove it. With allowPartial, unproven answers of lists are left out instead. If the witness lacks state
// for a getter of Control, only its field has an error: a later release may read more than the one that made the witness.
// Provider and Agreed are not set.
func Prove(ctx context.Context, chainID uint64, hash common.Hash, w Witness, queries []Query, allowPartial bool) (*State, Block, error) {
	verified, at, err := fromWitness(chainID, hash, w)
	if err != nil {
		return nil, Block{}, err
	}
	s := &State{}
	for i := range queries {
		c := getters.New(&queries[i], verified, nil, allowPartial)
		err := c.Offline(ctx)
		if ctx.Err() != nil {
			return nil, Block{}, context.Cause(ctx)
		}
		if err != nil {
			s.Readings = append(s.Readings, notRead(c.Query.Contract, err))
			continue
		}
		s.Readings = append(s.Readings, Reading{Reading: c.Finish().Reading, Proven: true})
	}
	return s, at, nil
}

// fromWitness returns the part of a block's state that the witness proves.
func fromWitness(chainID uint64, hash common.Hash, w Witness) (*proof.VerifiedState, Block, error) {
	h, err := proof.Header(w.Header, hash)
	if err != nil {
		return nil, Block{}, err
	}
	if !h.Number.IsUint64() || h.Time > uint64(block.MaxTime.Unix()) {
		return nil, Block{}, fmt.Errorf("the header of block %s has an impossible number or time", hash)
	}
	verified := proof.New(h, chainID)
	verified.LoadWitness(w.Nodes, w.Codes)
	return verified, Block{Number: h.Number.Uint64(), Hash: hash, Time: time.Unix(int64(h.Time), 0).UTC()}, nil
}
