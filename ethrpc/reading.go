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

// Verify says whether answers are to be proven against the block's state root.
type Verify uint8

// The modes of Verify.
const (
	VerifyAuto     Verify = iota // where a provider can, otherwise providers are believed
	VerifyRequired               // or there is no answer
	VerifyOff                    // providers are believed
)

// ErrNoProof marks what cannot be proven. That is no lie; proof.ErrInvalid marks one.
var ErrNoProof = getters.ErrNoProof

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

// ReadOptions change how a Read works.
type ReadOptions struct {
	// AllowPartial leaves out the answers of a contract that stores more than its Query explains, rather than prove
	// each: more is to be asked. The Reading is marked as Partial.
	AllowPartial bool
	// NoCache is for a question beside those that are asked time and again: what it proves is not kept.
	NoCache bool
	// First is the provider to ask first; empty: the one that pinned.
	First string
	// Beside is asked for with the first proofs of its contract, where that costs them nothing.
	Beside []*logs.Batch
}

// State is what a Read found at one block.
type State struct {
	Readings []Reading       // one for each Query, in their order
	Failed   []ProviderError // providers that failed for the block as a whole
	Agreed   int             // providers that say the same of the block's hash

	verified *proof.VerifiedState
	accounts map[common.Address]bool // that the proven Readings rest on
}

// Reading is of one contract and stands alone: what is wrong with another contract does not change it.
type Reading struct {
	getters.Reading

	Provider string          // whose answers these are
	Err      error           // nothing was read; HasCode is not known
	Proven   bool            // all answers, against the state root
	Unproven error           // why they are not; nil with VerifyOff
	Agreed   int             // providers that say the same of these answers; proven: of the block's hash
	Failed   []ProviderError // providers that failed, or lied, for this contract alone
}

// notRead is the Reading of a contract of which nothing was read.
func notRead(contract common.Address, err error) Reading {
	return Reading{Reading: getters.Reading{Contract: contract}, Err: err}
}

// Witness is what proves Readings, whoever gives it: only the hash of the block has to be believed.
type Witness struct {
	Header []byte   // RLP
	Nodes  [][]byte // of the state trie and of storage tries, in any order; more than are needed do no harm
	Codes  [][]byte
}

// Witness returns what proves the readings, also where an earlier Read brought it; nil: nothing is proven. It is to be
// called before the client's next Read.
func (s *State) Witness() *Witness {
	if len(s.accounts) == 0 {
		return nil
	}
	header, nodes, codes := s.verified.Witness(s.accounts)
	return &Witness{header, nodes, codes}
}

// Prove answers the queries at a block from a Witness alone. The error is of the header, or of ctx. A Reading has an Err
// where the witness does not prove it, unless allowPartial and only answers of lists are lacking: they are left out. A
// getter of anything else that lacks state is an error of its field, and explains nothing: a later release may read more than
// the one that made the witness. What Prove returns has neither Provider nor Agreed.
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

// fromWitness returns the state of a block that knows all that the witness proves of it.
func fromWitness(chainID uint64, hash common.Hash, w Witness) (*proof.VerifiedState, Block, error) {
	h, err := proof.Header(w.Header, hash)
	if err != nil {
		return nil, Block{}, err
	}
	if !h.Number.IsUint64() || h.Time > uint64(block.MaxTime.Unix()) {
		return nil, Block{}, fmt.Errorf("the header of block %s lacks a possible number or time", hash)
	}
	verified := proof.New(h, chainID)
	verified.LoadWitness(w.Nodes, w.Codes)
	return verified, Block{Number: h.Number.Uint64(), Hash: hash, Time: time.Unix(int64(h.Time), 0).UTC()}, nil
}
