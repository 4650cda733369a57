package proof

import (
	"maps"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rlp"
)

// witness is what a verified state may be proven from, by hash. What is in it and not needed does neither good nor harm.
type witness struct{ nodes, codes nodes }

// LoadWitness lets the verified state prove whatever it is asked for out of trie nodes and codes that Witness gave. From then on, what
// it does not know cannot be proven from them.
func (w *VerifiedState) LoadWitness(trieNodes, codes [][]byte) {
	w.witness = &witness{byHash(trieNodes), byHash(codes)}
}

func byHash(all [][]byte) nodes {
	out := make(nodes, len(all))
	for _, b := range all {
		out[crypto.Keccak256Hash(b)] = b
	}
	return out
}

// loadAccount proves an account from the witness.
func (w *VerifiedState) loadAccount(addr common.Address) {
	var value []byte
	if w.header.Root != types.EmptyRootHash {
		var err error
		if value, _, err = lookUp(w.header.Root, addr[:], w.nodes, w.witness.nodes); err != nil {
			return
		}
	}
	if w.setAccount(addr, value) == nil && value != nil {
		hash := common.BytesToHash(w.accounts[addr].CodeHash)
		if code, ok := w.witness.codes[hash]; ok && len(code) <= maxCode {
			w.codes[hash] = newCode(code)
		}
	}
}

// loadSlot proves a slot from the nodes that are there already.
func (w *VerifiedState) loadSlot(s Slot) {
	st, err := w.storage(s.Account)
	if err != nil || st.complete || w.witness == nil && st.oldNodes == nil || len(st.entries) >= maxSlots {
		return
	}
	if st.root == types.EmptyRootHash {
		_ = st.set(s.Key, nil) // nothing is always well-formed
		return
	}
	sources := []nodes{st.nodes, st.oldNodes}
	if w.witness != nil {
		sources = append(sources, w.witness.nodes)
	}
	value, missingNode, err := lookUp(st.root, s.Key[:], st.nodes, sources...)
	if err != nil {
		st.missingNode[s.Key] = missingNode
		return
	}
	delete(st.missingNode, s.Key)
	_ = st.set(s.Key, value) // a leaf that is no word proves nothing: the slot stays unknown
}

// Witness returns the header's RLP, the trie nodes and the codes that everything known of some accounts was proven with, in
// an order of no meaning.
func (w *VerifiedState) Witness(accounts map[common.Address]bool) (header []byte, trieNodes, codes [][]byte) {
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
