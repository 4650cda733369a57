package ethrpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/block"
	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

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
	for _, j := range c.jobs {
		missing, err := c.call(ctx, j)
		switch {
		case ctx.Err() != nil:
			return err
		case err != nil:
			c.failJob(j, err)
		case c.costs() != nil:
			return c.costs()
		case missing.Empty():
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
