// Package proof runs contracts over the verified state of a block. Only the hash of the block is trusted.
//
// Header checks a header against that hash. A VerifiedState holds the part of the block's state that was proven against the
// header's state root (AddAccount, AddSlot, AddCode). CallAssuming runs the contract's own code over it. It either answers or
// reports what must be proven first; the caller fetches that and calls again. So the contract's storage layout need not be
// known. Complete reports whether the known slots are all that an account stores.
//
// The package uses neither network nor clock.
package proof

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/params"
	"github.com/ethereum/go-ethereum/rlp"
)

const (
	maxSlots = 1_000_000 // of one account
	maxCode  = 2 * params.MaxCodeSize
)

// Slot is one slot in the storage of an account.
type Slot struct {
	Account common.Address
	Key     common.Hash
}

// Compare orders slots by account, then by key.
func (s Slot) Compare(t Slot) int {
	return cmp.Or(s.Account.Cmp(t.Account), s.Key.Cmp(t.Key))
}

// VerifiedState is the proven part of one block's state. It is not safe for concurrent use, and neither are two states if one was
// passed to ReuseFrom of the other.
type VerifiedState struct {
	header   *types.Header
	chainID  uint64
	accounts map[common.Address]*types.StateAccount // nil if proven absent
	storages map[common.Hash]*storage               // by root; valid in every block with that root
	codes    map[common.Hash]code
	nodes    nodes // of the state trie; they prove the accounts
	evm      *machine
	replaced *replacement // set during CallReplacing

	given, givenCodes nodes // from LoadWitness, by hash; else nil
}

// New returns an empty state of the block with a header from Header.
func New(header *types.Header, chainID uint64) *VerifiedState {
	return &VerifiedState{
		header:   types.CopyHeader(header),
		chainID:  chainID,
		accounts: map[common.Address]*types.StateAccount{},
		storages: map[common.Hash]*storage{},
		codes:    map[common.Hash]code{},
		nodes:    nodes{},
	}
}

// AddAccount verifies the accountProof of eth_getProof, for an account or its absence.
func (w *VerifiedState) AddAccount(addr common.Address, proof [][]byte) error {
	value, err := proveKey(w.header.Root, addr[:], proof, w.nodes)
	if err != nil {
		return fmt.Errorf("proving account %s: %w", addr, err)
	}
	return w.setAccount(addr, value)
}

func (w *VerifiedState) setAccount(addr common.Address, value []byte) error {
	if value == nil {
		w.accounts[addr] = nil
		return nil
	}
	var a types.StateAccount
	if err := rlp.DecodeBytes(value, &a); err != nil {
		return fmt.Errorf("proving account %s: %w", addr, invalid("decoding its leaf: %v", err))
	}
	if len(a.CodeHash) != common.HashLength {
		return fmt.Errorf("proving account %s: %w", addr, invalid("its code hash has %d bytes", len(a.CodeHash)))
	}
	w.accounts[addr] = &a
	if w.storages[a.Root] == nil {
		w.storages[a.Root] = &storage{root: a.Root, entries: map[common.Hash][]byte{}, nodes: nodes{}}
	}
	return nil
}

// Account returns a proven account, and whether it is known. It is nil if proven absent. The caller must not change it.
func (w *VerifiedState) Account(addr common.Address) (*types.StateAccount, bool) {
	if a, known := w.accounts[addr]; known || w.given == nil {
		return a, known
	}
	value, _, err := lookUp(w.header.Root, addr[:], w.nodes, w.given)
	if err == nil && w.setAccount(addr, value) == nil && value != nil {
		hash := common.BytesToHash(w.accounts[addr].CodeHash)
		if code, ok := w.givenCodes[hash]; ok && len(code) <= maxCode {
			w.codes[hash] = newCode(code)
		}
	}
	a, known := w.accounts[addr]
	return a, known
}

// HasNoCode reports whether an account is proven to have no code.
func (w *VerifiedState) HasNoCode(addr common.Address) bool {
	a, known := w.Account(addr)
	return known && hasNoCode(a)
}

func hasNoCode(a *types.StateAccount) bool {
	return a == nil || common.BytesToHash(a.CodeHash) == types.EmptyCodeHash
}

// AddSlot verifies one entry of eth_getProof's storageProof. The account must be proven before.
func (w *VerifiedState) AddSlot(addr common.Address, key common.Hash, proof [][]byte) error {
	s := w.storage(addr)
	if s == nil {
		return fmt.Errorf("proving slot %s: reading the storage of %s: the account is not proven to exist", key, addr)
	}
	if _, known := s.entries[key]; !known && len(s.entries) >= maxSlots {
		return fmt.Errorf("proving slot %s of %s: more than %d slots", key, addr, maxSlots)
	}
	value, err := proveKey(s.root, key[:], proof, s.nodes)
	if err == nil {
		err = s.set(key, value)
	}
	if err != nil {
		return fmt.Errorf("proving slot %s of %s: %w", key, addr, err)
	}
	return nil
}

func (s *storage) set(key common.Hash, value []byte) error {
	if value != nil {
		if _, err := word(value); err != nil {
			return err
		}
	}
	s.entries[key] = bytes.Clone(value)
	return nil
}

// Value returns the word in a slot, and whether it is proven.
func (w *VerifiedState) Value(s Slot) (common.Hash, bool) {
	v, known, _ := w.value(s)
	return v, known
}

// value is like Value. It tries to prove an unknown slot from the known nodes; if that fails, it returns the hash of the first
// missing node on the path.
func (w *VerifiedState) value(s Slot) (v common.Hash, known bool, missingNode common.Hash) {
	if a, proven := w.accounts[s.Account]; a == nil {
		return v, proven, missingNode
	}
	st := w.storage(s.Account)
	if v, known = st.value(s.Key); known || w.given == nil && st.old == nil || len(st.entries) >= maxSlots {
		return v, known, missingNode
	}
	sources := []nodes{st.nodes, w.given}
	if st.old != nil {
		sources = append(sources, st.old.allNodes())
	}
	leaf, missingNode, err := lookUp(st.root, s.Key[:], st.nodes, sources...)
	if err == nil {
		_ = st.set(s.Key, leaf) // on failure the slot stays unknown
		v, known = st.value(s.Key)
	}
	return v, known, missingNode
}

// AddCode verifies code against the code hashes of the proven accounts.
func (w *VerifiedState) AddCode(code []byte) error {
	if len(code) > maxCode {
		return fmt.Errorf("proving code: %w", invalid("it has %d bytes, more than %d", len(code), maxCode))
	}
	hash := crypto.Keccak256Hash(code)
	for _, a := range w.accounts {
		if a != nil && common.BytesToHash(a.CodeHash) == hash {
			w.codes[hash] = newCode(bytes.Clone(code))
			return nil
		}
	}
	return fmt.Errorf("proving code: %w", invalid("no proven account has code with hash %s", hash))
}

// ReuseFrom takes over proofs of an older state that this one's accounts confirm: storage with the same root, code with the same
// hash and, if the storage root changed, the nodes that both tries share. If the state root is the same, it also takes over the
// accounts.
func (w *VerifiedState) ReuseFrom(old *VerifiedState) {
	if old.header.Root == w.header.Root {
		maps.Copy(w.nodes, old.nodes)
		for addr, a := range old.accounts {
			if _, known := w.accounts[addr]; !known {
				w.accounts[addr] = a
				if a != nil {
					w.storages[a.Root] = old.storages[a.Root]
				}
			}
		}
	}
	for addr, a := range w.accounts {
		if a == nil {
			continue
		}
		if theirs := old.storages[a.Root]; theirs != nil && theirs != w.storages[a.Root] {
			theirs.allNodes() // computed now, so that the next change is cheap
			theirs.merge(w.storages[a.Root])
			w.storages[a.Root] = theirs
		} else if was := old.accounts[addr]; theirs == nil && was != nil {
			w.storages[a.Root].old = old.storages[was.Root].alone()
		}
		hash := common.BytesToHash(a.CodeHash)
		if code, ok := old.codes[hash]; ok {
			w.codes[hash] = code
		}
	}
}

// NextSlots picks the unknown slots to prove next. If an older trie is known, only the nodes that changed since are missing, and
// the proofs of a few slots below a missing node bring that node. So it picks at least one slot below each missing node, and
// about limit in all. Without an older trie, or if limit is 0, it picks all unknown slots.
func (w *VerifiedState) NextSlots(slots []Slot, limit int) []Slot {
	type place struct {
		addr common.Address
		node common.Hash
	}
	below := map[place][]Slot{}
	var out []Slot
	for _, s := range slots {
		_, known, missingNode := w.value(s)
		if known {
			continue
		}
		if st := w.storage(s.Account); st == nil || st.old == nil || limit == 0 {
			out = append(out, s)
			continue
		}
		p := place{s.Account, missingNode}
		below[p] = append(below[p], s)
	}
	for _, group := range below {
		n := min(len(group), max(1, limit/len(below)))
		slices.SortFunc(group, func(a, b Slot) int {
			return bytes.Compare(crypto.Keccak256(a.Key[:]), crypto.Keccak256(b.Key[:]))
		})
		for i := range n {
			out = append(out, group[i*len(group)/n])
		}
	}
	return out
}

// storage returns what is known of an account's storage, or nil if the account is not proven to exist.
func (w *VerifiedState) storage(addr common.Address) *storage {
	if a := w.accounts[addr]; a != nil {
		return w.storages[a.Root]
	}
	return nil
}

// Accounted counts the explained slots that an account stores, and reports whether it stores nothing else. It first completes the
// known storage, since that may add unexplained slots.
func (w *VerifiedState) Accounted(addr common.Address, explained map[common.Hash]bool) (slots int, all bool) {
	s := w.storage(addr)
	if s == nil {
		return 0, false
	}
	all = w.Complete(addr)
	for key, leaf := range s.entries {
		switch {
		case leaf == nil:
		case explained[key]:
			slots++
		default:
			all = false
		}
	}
	return slots, all
}

// LoadWitness makes the trie nodes and codes of a Witness available to the state as proofs. Superfluous nodes and codes are
// harmless.
func (w *VerifiedState) LoadWitness(trieNodes, codes [][]byte) {
	w.given, w.givenCodes = byHash(trieNodes), byHash(codes)
}

// Witness returns the header's RLP, and the trie nodes and codes that prove everything known about some accounts, in no particular
// order.
func (w *VerifiedState) Witness(accounts map[common.Address]bool) (header []byte, trieNodes, codes [][]byte) {
	header, err := rlp.EncodeToBytes(w.header)
	if err != nil {
		return nil, nil, nil // unreachable: the header was decoded from RLP
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
