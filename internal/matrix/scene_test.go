package matrix_test

import (
	"cmp"
	"context"
	"sync"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
)

// sighting is a block of a case, also one that a reorganisation took back, and what the contracts must be there.
type sighting struct {
	number uint64
	hash   common.Hash
	snapshot
}

// scene is the part of a chain that belongs to one case.
type scene struct {
	node *node
	at   [contracts]common.Address
	base uint64 // the newest block before the case

	mu     sync.Mutex
	seen   map[common.Hash]sighting
	branch []sighting // the blocks of the case as they stand

	acts    sync.Mutex
	over    bool
	trouble error // of what happened in the middle of an audit
}

func newScene(ctx context.Context, n *node) (*scene, error) {
	head, err := n.head(ctx)
	if err != nil {
		return nil, err
	}
	s := &scene{node: n, base: head.Number.Uint64(), seen: map[common.Hash]sighting{}}
	s.branch = []sighting{{number: s.base, hash: head.Hash()}}
	s.seen[head.Hash()] = s.branch[0]
	return s, nil
}

// now is the newest block.
func (s *scene) now() sighting {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.branch[len(s.branch)-1]
}

// block tells of a block by its hash. Those before the case have none of its contracts.
func (s *scene) block(number uint64, hash common.Hash) (sighting, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if number <= s.base {
		return sighting{number: number, hash: hash}, true
	}
	b, known := s.seen[hash]
	return b, known && b.number == number
}

// since lists every block from a number on, of all branches.
func (s *scene) since(number uint64) []sighting {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []sighting
	for _, b := range s.seen {
		if b.number >= number {
			out = append(out, b)
		}
	}
	return out
}

// found deploys the case's contracts, in one block.
func (s *scene) found(ctx context.Context) error {
	var txs []tx
	next := s.branch[len(s.branch)-1].snapshot
	for i := range next {
		t, at, err := s.node.birth(ctx, uint64(i))
		if err != nil {
			return err
		}
		txs = append(txs, t)
		s.at[i] = at
		next[i] = state{code: true, impl: toPlain, owner: "owner"}
	}
	heads, counts, err := s.node.mine(ctx, txs)
	if err != nil {
		return err
	}
	done := 0
	for i, head := range heads {
		done += counts[i]
		var born snapshot
		copy(born[:done], next[:done])
		s.note(head, born)
	}
	return nil
}

// mine makes a block of operations.
func (s *scene) mine(ctx context.Context, ops []op) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	after := []snapshot{s.branch[len(s.branch)-1].snapshot} // as many transactions
	var txs []tx
	for _, o := range ops {
		next := after[len(after)-1]
		st := &next[o.Contract]
		if !st.takes(o) {
			continue
		}
		more, err := s.node.txs(o, s.at[o.Contract], *st)
		if err != nil {
			return err
		}
		for range more[1:] {
			after = append(after, after[len(after)-1])
		}
		st.apply(o)
		after = append(after, next)
		txs = append(txs, more...)
	}
	heads, counts, err := s.node.mine(ctx, txs)
	if err != nil {
		return err
	}
	done := 0
	for i, head := range heads {
		done += counts[i]
		s.note(head, after[done])
	}
	return nil
}

func (s *scene) note(head *types.Header, is snapshot) {
	b := sighting{head.Number.Uint64(), head.Hash(), is}
	s.seen[b.hash] = b
	s.branch = append(s.branch, b)
}

// undo takes blocks back, but none of before the contracts were there, and leaves a longer branch of empty ones.
func (s *scene) undo(ctx context.Context, blocks int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if blocks = min(blocks, len(s.branch)-2); blocks <= 0 {
		return nil
	}
	branch := s.branch[:len(s.branch)-blocks]
	root := branch[len(branch)-1]
	heads, err := s.node.undo(ctx, root.hash, blocks)
	if err != nil {
		return err
	}
	s.branch = branch
	for _, head := range heads {
		s.note(head, root.snapshot)
	}
	return nil
}

// meddle lets something happen to the chain while an audit is under way, unless the case is over: a request may outlive it.
func (s *scene) meddle(do func() error) {
	s.acts.Lock()
	defer s.acts.Unlock()
	if !s.over {
		s.trouble = cmp.Or(s.trouble, do())
	}
}

// failed tells what went wrong in the middle of an audit.
func (s *scene) failed() error {
	s.acts.Lock()
	defer s.acts.Unlock()
	return s.trouble
}

// end waits for what happens, and lets nothing happen any more.
func (s *scene) end() {
	s.acts.Lock()
	defer s.acts.Unlock()
	s.over = true
}

// newer tells whether a block came after a number, or is nobody's.
func (s *scene) newer(head uint64) func(string) bool {
	return func(hash string) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		b, known := s.seen[common.HexToHash(hash)]
		return known && b.number > head
	}
}
