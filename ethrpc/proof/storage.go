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

// storage is what is proven of all storage tries with one root. A key's entry is there once it is proven: the RLP of its
// leaf, as it is, since some nodes keep leaves that hold zero; or nil.
type storage struct {
	root     common.Hash
	entries  map[common.Hash][]byte
	nodes    nodes // that proved them
	complete bool  // the entries are all there is
	derived  bool  // they were not proven node by node: nodes lacks some

	// old is an older storage of the account. A node is named by its hash, so those that are in this trie too prove as much here.
	old *storage
}

// word is the value of a leaf.
func word(leaf []byte) (common.Hash, error) {
	content, rest, err := rlp.SplitString(leaf)
	if err != nil || len(rest) != 0 || len(content) > common.HashLength {
		return common.Hash{}, invalid("its leaf is not the RLP of one word")
	}
	return common.BytesToHash(content), nil
}

// leafOf is the leaf of a word; nil: zero has none.
func leafOf(word common.Hash) []byte {
	if word == (common.Hash{}) {
		return nil
	}
	leaf, _ := rlp.EncodeToBytes(bytes.TrimLeft(word[:], "\x00")) // bytes always encode
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

// merge adds what another storage of the same root knows.
func (s *storage) merge(t *storage) {
	maps.Copy(s.entries, t.entries)
	maps.Copy(s.nodes, t.nodes)
	s.complete, s.derived = s.complete || t.complete, s.derived || t.derived
}

// allNodes are those that prove the entries, and perhaps more.
func (s *storage) allNodes() nodes {
	if s.derived {
		rebuild(s.entries, func(_ []byte, hash common.Hash, node []byte) { s.nodes[hash] = bytes.Clone(node) })
		s.derived = false
	}
	return s.nodes
}

// carryOver supposes that the complete older storage is unchanged apart from what is proven here. If the root confirms that, it
// takes the older entries over, and the nodes with them.
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
	s.old.nodes, s.old.derived = nodes{}, true // they are this storage's from here on
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

// alone is the storage without an older one: a row of changes must not keep all that ever was.
func (s *storage) alone() *storage {
	if s == nil || s.old == nil {
		return s
	}
	out := *s
	out.old = nil
	return &out
}

// rebuild puts the entries into a trie of their own, whose nodes are handed on.
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
			return common.Hash{} // two keys of one hash, or a leaf of no bytes: neither comes this far
		}
	}
	return t.Hash()
}

// Complete reports whether the known leaves of an account are all of its storage. From then on, and in the states that
// adopt it, every other slot is known to be empty.
func (w *VerifiedState) Complete(addr common.Address) bool {
	s := w.storage(addr)
	if s != nil && !s.complete && !s.carryOver() && rebuild(s.entries, nil) == s.root {
		s.complete, s.old = true, nil
	}
	return s != nil && s.complete
}

// CarryOver completes an account's storage from an older state if the root confirms that only what is proven here changed. It
// reports whether the storage is complete. It costs as much as what changed.
func (w *VerifiedState) CarryOver(addr common.Address) bool {
	s := w.storage(addr)
	return s != nil && (s.complete || s.carryOver())
}

// ProveBySpeculation takes words for what slots of an account hold, if they contradict nothing that is proven and with it make up all
// that the account stores: then its storage root proves them, whoever guessed them. Else it takes none.
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

// Fresh reports whether nothing is known of an account's storage but single slots: neither all of it, nor an older one.
func (w *VerifiedState) Fresh(addr common.Address) bool {
	s := w.storage(addr)
	return s != nil && !s.complete && s.old == nil
}
