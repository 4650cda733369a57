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

// storage is the proven part of the storage trie with one root. entries has each proven key with the RLP of its leaf, or nil if
// it has no leaf. The RLP is kept as it is, since some nodes keep leaves that hold zero.
type storage struct {
	root     common.Hash
	entries  map[common.Hash][]byte
	nodes    nodes // that prove the entries
	complete bool  // the entries are the whole trie
	derived  bool  // nodes lacks some, because entries were not proven node by node

	// old is an older storage of the account. Nodes are addressed by hash, so its nodes that this trie shares are valid here too.
	old *storage
}

// word decodes the value of a leaf.
func word(leaf []byte) (common.Hash, error) {
	content, rest, err := rlp.SplitString(leaf)
	if err != nil || len(rest) != 0 || len(content) > common.HashLength {
		return common.Hash{}, invalid("its leaf is not the RLP of one word")
	}
	return common.BytesToHash(content), nil
}

// leafOf encodes the leaf of a word. Zero has no leaf, so it returns nil.
func leafOf(word common.Hash) []byte {
	if word == (common.Hash{}) {
		return nil
	}
	leaf, _ := rlp.EncodeToBytes(bytes.TrimLeft(word[:], "\x00")) // never fails for bytes
	return leaf
}

func (s *storage) value(key common.Hash) (common.Hash, bool) {
	leaf, known := s.entries[key]
	if leaf == nil {
		return common.Hash{}, known || s.complete
	}
	v, err := word(leaf)
	return v, err == nil
}

// merge adds what t, with the same root, has.
func (s *storage) merge(t *storage) {
	maps.Copy(s.entries, t.entries)
	maps.Copy(s.nodes, t.nodes)
	s.complete, s.derived = s.complete || t.complete, s.derived || t.derived
}

// allNodes returns nodes that prove the entries, and perhaps more.
func (s *storage) allNodes() nodes {
	if s.derived {
		rebuild(s.entries, func(_ []byte, hash common.Hash, node []byte) { s.nodes[hash] = bytes.Clone(node) })
		s.derived = false
	}
	return s.nodes
}

// carryOver assumes that the complete older storage is unchanged apart from the entries proven here. If the root confirms that,
// it takes over the older entries and nodes.
func (s *storage) carryOver() bool {
	if s.old == nil || !s.old.complete {
		return false
	}
	all := s.old.allNodes()
	t, err := trie.New(trie.TrieID(s.old.root), all)
	for key, leaf := range s.entries {
		switch was := s.old.entries[key]; {
		case err != nil:
			return false
		case leaf == nil && was != nil:
			err = t.Delete(crypto.Keccak256(key[:]))
		case !bytes.Equal(leaf, was):
			err = t.Update(crypto.Keccak256(key[:]), leaf)
		}
	}
	if err != nil || t.Hash() != s.root {
		return false
	}
	entries := maps.Clone(s.old.entries)
	maps.Copy(entries, s.entries)
	s.old.nodes, s.old.derived = nodes{}, true // its nodes now belong to s
	if _, changed := t.Commit(false); changed != nil {
		for path, n := range changed.Nodes {
			delete(all, crypto.Keccak256Hash(changed.Origins[path]))
			if !n.IsDeleted() {
				all[n.Hash] = n.Blob
			}
		}
	}
	s.entries, s.nodes, s.complete, s.old = entries, all, true, nil
	return true
}

// alone returns the storage without its older one, so that a chain of changes does not retain every older storage.
func (s *storage) alone() *storage {
	if s == nil || s.old == nil {
		return s
	}
	out := *s
	out.old = nil
	return &out
}

// rebuild returns the root of a trie of the entries, and passes its nodes to each, which may be nil.
func rebuild(entries map[common.Hash][]byte, each trie.OnTrieNode) common.Hash {
	type entry struct {
		path common.Hash
		leaf []byte
	}
	list := make([]entry, 0, len(entries))
	for key, leaf := range entries {
		if leaf != nil {
			list = append(list, entry{crypto.Keccak256Hash(key[:]), leaf})
		}
	}
	slices.SortFunc(list, func(a, b entry) int { return bytes.Compare(a.path[:], b.path[:]) })
	t := trie.NewStackTrie(each)
	for i := range list {
		if err := t.Update(list[i].path[:], list[i].leaf); err != nil {
			return common.Hash{} // unreachable: hashes of keys differ, and no leaf is empty
		}
	}
	return t.Hash()
}

// Complete reports whether the known leaves of an account are its whole storage. If so, every other slot is known to be empty,
// also in states that ReuseFrom this one.
func (w *VerifiedState) Complete(addr common.Address) bool {
	s := w.storage(addr)
	if s != nil && !s.complete && !s.carryOver() && rebuild(s.entries, nil) == s.root {
		s.complete, s.old = true, nil
	}
	return s != nil && s.complete
}

// CarryOver completes an account's storage from an older state if the root confirms that only the slots proven here changed. It
// reports whether the storage is complete. Its cost is proportional to the number of changes.
func (w *VerifiedState) CarryOver(addr common.Address) bool {
	s := w.storage(addr)
	return s != nil && (s.complete || s.carryOver())
}

// ProveBySpeculation accepts guessed words of an account's slots if they agree with the proven slots and, together with those,
// give the account's storage root. The root then proves them, whatever their source. Otherwise it accepts none and returns false.
func (w *VerifiedState) ProveBySpeculation(addr common.Address, words map[common.Hash]common.Hash) bool {
	s := w.storage(addr)
	if s == nil || len(s.entries)+len(words) > maxSlots {
		return false
	}
	all := maps.Clone(s.entries)
	for key, word := range words {
		if v, known := s.value(key); !known {
			all[key] = leafOf(word)
		} else if v != word {
			return false
		}
	}
	if rebuild(all, nil) != s.root {
		return false
	}
	s.entries, s.complete, s.derived, s.old = all, true, true, nil
	return true
}

// Fresh reports whether only single slots of an account's storage are known: it is not complete and has no older storage.
func (w *VerifiedState) Fresh(addr common.Address) bool {
	s := w.storage(addr)
	return s != nil && !s.complete && s.old == nil
}
