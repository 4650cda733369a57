package proof

import (
	"bytes"
	"maps"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rlp"
	"github.com/ethereum/go-ethereum/trie"
)

// storage is what is proven of all storage tries with one root. A key's entry is there once it is proven.
type storage struct {
	root     common.Hash
	entries  map[common.Hash]entry
	nodes    nodes // that proved them
	complete bool  // the entries are all there is

	// spare are nodes of an older trie. A node is named by its hash, so those that are in this trie too prove as much
	// here; lacks is the first node on the way to a slot that is in neither.
	spare nodes
	lacks map[common.Hash]common.Hash
}

// entry is what the trie has for one key. A leaf is kept as it is, since some nodes keep leaves that hold zero.
type entry struct {
	path common.Hash // the hash of the key
	leaf []byte      // RLP; nil: there is none
}

func newEntry(key common.Hash, leaf []byte) entry { return entry{crypto.Keccak256Hash(key[:]), leaf} }

// word is the value of a leaf.
func word(leaf []byte) (common.Hash, error) {
	content, rest, err := rlp.SplitString(leaf)
	if err != nil || len(rest) != 0 || len(content) > common.HashLength {
		return common.Hash{}, invalid("its leaf is not the RLP of one word")
	}
	return common.BytesToHash(content), nil
}

func (s *storage) value(key common.Hash) (common.Hash, bool) {
	e, known := s.entries[key]
	if e.leaf == nil {
		return common.Hash{}, known || s.complete
	}
	v, err := word(e.leaf)
	return v, err == nil
}

// merge adds what another storage of the same root knows.
func (s *storage) merge(t *storage) {
	maps.Copy(s.entries, t.entries)
	maps.Copy(s.nodes, t.nodes)
	s.complete = s.complete || t.complete
}

// rebuild puts the entries into a trie of their own.
func rebuild(entries map[common.Hash]entry) (root common.Hash, leaves int) {
	list := make([]entry, 0, len(entries))
	for _, e := range entries {
		if e.leaf != nil {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b entry) int { return bytes.Compare(a.path[:], b.path[:]) })
	t := trie.NewStackTrie(nil)
	for _, e := range list {
		if err := t.Update(e.path[:], e.leaf); err != nil {
			return common.Hash{}, len(list) // two keys of one hash, or a leaf of no bytes: neither comes this far
		}
	}
	return t.Hash(), len(list)
}

// Rebuild returns the root of a trie of the known leaves of an account, and their number. A root that is the
// account's own proves that it stores nothing else.
func (w *World) Rebuild(addr common.Address) (root common.Hash, leaves int) {
	s, err := w.storage(addr)
	if err != nil {
		return common.Hash{}, 0
	}
	return rebuild(s.entries)
}

// Complete reports whether the known leaves of an account are all of its storage. From then on, and in the worlds that
// adopt it, every other slot is known to be empty.
func (w *World) Complete(addr common.Address) bool {
	s, err := w.storage(addr)
	if err != nil {
		return false
	}
	if !s.complete {
		root, _ := rebuild(s.entries)
		if s.complete = root == s.root; s.complete {
			s.spare, s.lacks = nil, nil
		}
	}
	return s.complete
}
