package proof

import (
	"maps"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rlp"
)

// bag is what a world may be proven from, by hash. What is in it and not needed does neither good nor harm.
type bag struct{ nodes, codes nodes }

// Unpack lets the world prove whatever it is asked for out of trie nodes and codes that Pack gave. From then on, what
// it does not know cannot be proven from them.
func (w *World) Unpack(trieNodes, codes [][]byte) {
	w.bag = &bag{byHash(trieNodes), byHash(codes)}
}

func byHash(all [][]byte) nodes {
	out := make(nodes, len(all))
	for _, b := range all {
		out[crypto.Keccak256Hash(b)] = b
	}
	return out
}

func (w *World) unpackAccount(addr common.Address) {
	if _, known := w.accounts[addr]; known || w.bag == nil {
		return
	}
	var value []byte
	if w.header.Root != types.EmptyRootHash {
		var err error
		if value, _, err = find(w.header.Root, addr[:], w.nodes, w.bag.nodes); err != nil {
			return
		}
	}
	if w.setAccount(addr, value) == nil && value != nil {
		hash := common.BytesToHash(w.accounts[addr].CodeHash)
		if code, ok := w.bag.codes[hash]; ok && len(code) <= maxCode {
			w.codes[hash] = newCode(code)
		}
	}
}

// unpackSlot proves a slot from the nodes that are there already.
func (w *World) unpackSlot(s Slot) {
	st, err := w.storage(s.Account)
	if err != nil || st.complete || w.bag == nil && st.spare == nil || len(st.entries) >= maxSlots {
		return
	}
	if _, known := st.entries[s.Key]; known {
		return
	}
	if st.root == types.EmptyRootHash {
		_ = st.set(s.Key, nil) // nothing is always well-formed
		return
	}
	sources := []nodes{st.nodes, st.spare}
	if w.bag != nil {
		sources = append(sources, w.bag.nodes)
	}
	value, lacks, err := find(st.root, s.Key[:], st.nodes, sources...)
	if err != nil {
		st.lacks[s.Key] = lacks
		return
	}
	delete(st.lacks, s.Key)
	_ = st.set(s.Key, value) // a leaf that is no word proves nothing: the slot stays unknown
}

// Pack returns the header's RLP, the trie nodes and the codes that everything known of some accounts was proven with, in
// an order of no meaning.
func (w *World) Pack(accounts map[common.Address]bool) (header []byte, trieNodes, codes [][]byte) {
	header, err := rlp.EncodeToBytes(w.header)
	if err != nil {
		return nil, nil, nil // it came out of RLP
	}
	all, used := maps.Clone(w.nodes), nodes{}
	for addr := range accounts {
		a := w.accounts[addr]
		if a == nil {
			continue
		}
		maps.Copy(all, w.storages[a.Root].allNodes())
		if code, known := w.codes[common.BytesToHash(a.CodeHash)]; known {
			used[common.BytesToHash(a.CodeHash)] = code.bytes
		}
	}
	return header, slices.Collect(maps.Values(all)), slices.Collect(maps.Values(used))
}
