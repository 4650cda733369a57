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

// storage is what is proven of all storage tries with one root.
type storage struct {
	root     common.Hash
	entries  map[common.Hash]entry
	nodes    nodes // that proved them
	complete bool  // the entries are all there is
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
		s.complete = root == s.root
	}
	return s.complete
}

// Settle takes values that nobody proved, lays the proven ones over them, and keeps them all if they rebuild the
// account's storage root: that root is their proof, and the storage is Complete. Else it keeps nothing.
func (w *World) Settle(addr common.Address, values map[common.Hash]common.Hash) bool {
	s, err := w.storage(addr)
	if err != nil || len(values)+w.size() > maxSlots {
		return false
	}
	all := make(map[common.Hash]entry, len(values)+len(s.entries))
	for key, v := range values {
		if v != (common.Hash{}) {
			b, _ := rlp.EncodeToBytes(bytes.TrimLeft(v[:], "\x00")) // a string of bytes always encodes
			all[key] = newEntry(key, b)
		}
	}
	maps.Copy(all, s.entries)
	if root, _ := rebuild(all); root != s.root {
		return false
	}
	s.entries, s.complete = all, true
	return true
}

// Values returns the known slots of an account that are not zero, to be given to Settle in another world.
func (w *World) Values(addr common.Address) map[common.Hash]common.Hash {
	values := map[common.Hash]common.Hash{}
	if s, err := w.storage(addr); err == nil {
		for key := range s.entries {
			if v, _ := s.value(key); v != (common.Hash{}) {
				values[key] = v
			}
		}
	}
	return values
}
