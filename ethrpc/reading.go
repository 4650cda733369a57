package ethrpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/block"
	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
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
	Contract          common.Address
	Provider          string // whose answers these are
	Err               error  // nothing was read; HasCode is not known
	HasCode           bool
	Devices, OSImages map[common.Hash]Answer // one for each id of the Query; none where Partial left it out
	AggregatedMRs     map[common.Hash]Answer // the same
	Control           Control                // zero where not asked for, or without code
	Proven            bool                   // all answers, against the state root
	Unproven          error                  // why they are not; nil with VerifyOff
	Refused           error                  // a getter that writes, or asks for more than the state holds: it accounts for nothing
	Agreed            int                    // providers that say the same of these answers; proven: of the block's hash
	Storage           *Storage               // nil where nothing is proven, or the account does not exist
	Unaccounted       []common.Address       // further accounts whose storage the lists' getters read, and which store more than is accounted for; sorted
	Partial           bool                   // answers were left out, or what older implementations explain
	Sequenced         bool                   // whoever registers apps is, or was, counted, which accounts for storage (May and June 2025)
	Registered        int                    // how many apps the Query's Callers registered by that count; 0 where Storage is Complete
	Counted           int                    // how many of the Query's apps were registered while that was counted; likewise
	Failed            []ProviderError        // providers that failed, or lied, for this contract alone
}

// Storage is what was proven of a contract's storage as a whole.
type Storage struct {
	Root, CodeHash common.Hash
	Slots          int  // in use and explained: a getter reads them, or they were named
	Complete       bool // they are all that the contract stores
}

// newReading has room for the answers to a Query.
func newReading(q *Query) Reading {
	r := Reading{Contract: q.Contract}
	if !q.CodeOnly {
		r.Devices, r.OSImages = make(map[common.Hash]Answer, len(q.Devices)), make(map[common.Hash]Answer, len(q.OSImages))
		r.AggregatedMRs = make(map[common.Hash]Answer, len(q.AggregatedMRs))
	}
	return r
}

// answers are those of a list's getter.
func (r *Reading) answers(getter string) map[common.Hash]Answer {
	switch getter {
	case kms.AllowedDevice:
		return r.Devices
	case kms.AllowedOSImage:
		return r.OSImages
	}
	return r.AggregatedMRs
}

func (r *Reading) answer(c kms.Call) Answer       { return r.answers(c.Getter)[c.ID] }
func (r *Reading) setAnswer(c kms.Call, a Answer) { r.answers(c.Getter)[c.ID] = a }

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
	h, err := proof.Header(w.Header, hash)
	if err != nil {
		return nil, Block{}, err
	}
	if !h.Number.IsUint64() || h.Time > uint64(block.MaxTime.Unix()) {
		return nil, Block{}, fmt.Errorf("the header of block %s lacks a possible number or time", hash)
	}
	verified := proof.New(h, chainID)
	verified.LoadWitness(w.Nodes, w.Codes)
	s := &State{}
	for i := range queries {
		c := newProving(&queries[i], verified, nil)
		c.partial = allowPartial
		err := c.proveOffline(ctx)
		if ctx.Err() != nil {
			return nil, Block{}, context.Cause(ctx)
		}
		if err != nil {
			s.Readings = append(s.Readings, Reading{Contract: c.query.Contract, Err: err})
			continue
		}
		s.Readings = append(s.Readings, c.finish().reading)
	}
	return s, Block{Number: h.Number.Uint64(), Hash: hash, Time: time.Unix(int64(h.Time), 0).UTC()}, nil
}

var errLacksState = errors.New("the evidence lacks state")

// proveOffline runs everything once, over a state that knows all that it will ever know.
func (c *proving) proveOffline(ctx context.Context) error {
	addr := c.query.Contract
	if a, known := c.verified.Account(addr); !known {
		return fmt.Errorf("the evidence does not prove the account %s", addr)
	} else if a != nil {
		for _, key := range c.query.NeededSlots() { // to look them up proves them
			if _, known := c.verified.Value(proof.Slot{Account: addr, Key: key}); !known && key == kms.ImplementationSlot {
				return fmt.Errorf("the evidence does not prove slot %s of %s", key, addr)
			}
		}
	}
	_, left := c.round(ctx, true)
	for c.jobs, _ = c.appJobs(); len(c.jobs) > 0; c.jobs, _ = c.appJobs() {
		c.round(ctx, true) // what lacks state explains nothing
	}
	if c.jobs = c.olderJobs(); len(c.jobs) > 0 {
		_, more := c.round(ctx, true)
		left = append(left, more...)
	}
	for c.jobs = c.implementationJobs(); len(c.jobs) > 0; c.jobs = c.implementationJobs() {
		c.round(ctx, true) // what lacks state explains nothing
	}
	for c.jobs = c.foreignJobs(); len(c.jobs) > 0; c.jobs = c.foreignJobs() {
		for _, s := range c.needed(proof.Missing{}).Slots {
			c.verified.Value(s) // to look it up proves it
		}
		_, more := c.round(ctx, true)
		left = append(left, more...)
	}
	if err := c.costs(); err != nil {
		return err
	}
	for _, j := range left {
		switch {
		case c.partial && len(j.Data) == inputLen:
			c.reading.Partial = true
		case j.Getter == "":
			c.failJob(j, errLacksState)
		default:
			return fmt.Errorf("%w that the code of %s reads", errLacksState, addr)
		}
	}
	return c.fault
}
