package ethrpc

import (
	"context"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// Evidence is what proves a State, whoever gives it: only the hash of the block has to be believed.
type Evidence struct {
	Header []byte   // RLP
	Nodes  [][]byte // of the state trie and of storage tries, in any order; more than are needed do no harm
	Codes  [][]byte
}

// Evidence returns what proves the answers, also where an earlier read brought it; nil: they are not proven. It is to
// be called before the client's next Read.
func (s *State) Evidence() *Evidence {
	if s.world == nil {
		return nil
	}
	header, nodes, codes := s.world.Pack()
	return &Evidence{header, nodes, codes}
}

// Prove answers the questions at a block from evidence alone; a sketch leaves out what that does not answer. What it
// returns has neither Policy, Provider nor Head.
func Prove(ctx context.Context, chainID uint64, hash common.Hash, e Evidence, q Questions, sketch bool) (*State, error) {
	h, err := proof.Header(e.Header, hash)
	if err != nil {
		return nil, err
	}
	if !h.Number.IsUint64() || h.Time > uint64(maxTime.Unix()) {
		return nil, fmt.Errorf("the header of block %s lacks a possible number or time", hash)
	}
	r := newProving(proof.New(h, chainID), q)
	r.world.Unpack(e.Nodes, e.Codes)
	for _, c := range q.contracts() {
		if a, known := r.world.Account(c); !known {
			return nil, fmt.Errorf("the evidence does not prove the account %s", c)
		} else if a == nil {
			continue
		}
		for _, key := range append(slices.Clone(wellKnown), q.Slots[c]...) {
			if _, known := r.world.Value(proof.Slot{Account: c, Key: key}); !known {
				return nil, fmt.Errorf("the evidence does not prove slot %s of %s", key, c)
			}
		}
	}
	for _, j := range r.jobs {
		missing, err := r.call(ctx, j, false)
		if err != nil {
			return nil, err
		}
		if !missing.Empty() && !sketch {
			return nil, fmt.Errorf("the evidence lacks state that the code of %s reads", j.contract)
		}
	}
	s := &State{Block: Block{h.Number.Uint64(), hash, time.Unix(int64(h.Time), 0).UTC()}}
	r.sketch = sketch
	r.finish(q).fill(s)
	s.world = nil
	return s, nil
}

// within tells whether all that was asked is asked again. Where it is not, an answer that nobody wants any more may be
// all that explains a slot.
func (q Questions) within(later Questions) bool {
	if q.Control && !later.Control || !subset(q.Asks, later.Asks, func(a Ask) Ask { return a }) ||
		!subset(q.Explain, later.Explain, func(e Explain) string { return string(e.Contract[:]) + string(e.Data) }) {
		return false
	}
	for c, slots := range q.Slots {
		if !subset(slots, later.Slots[c], func(h common.Hash) common.Hash { return h }) {
			return false
		}
	}
	return true
}

// subset tells whether of has all of s. Lists that are one, or begin alike, cost no set.
func subset[T any, K comparable](s, of []T, key func(T) K) bool {
	if len(s) <= len(of) {
		if unsafe.SliceData(s) == unsafe.SliceData(of) {
			return true
		}
		if slices.EqualFunc(s, of[:len(s)], func(a, b T) bool { return key(a) == key(b) }) {
			return true
		}
	}
	has := make(map[K]bool, len(of))
	for _, v := range of {
		has[key(v)] = true
	}
	return !slices.ContainsFunc(s, func(v T) bool { return !has[key(v)] })
}
