package proof_test

import (
	"fmt"
	"maps"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/rawdb"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/ethdb/memorydb"
	"github.com/ethereum/go-ethereum/rlp"
	"github.com/ethereum/go-ethereum/trie"
	"github.com/ethereum/go-ethereum/triedb"
	"github.com/holiman/uint256"
	"pgregory.net/rapid"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
)

// newTrie builds a state or storage trie from leaves by the preimage of their path.
func newTrie(t fataler, leaves map[string][]byte) *trie.Trie {
	tr := trie.NewEmpty(triedb.NewDatabase(rawdb.NewMemoryDatabase(), nil))
	for key, leaf := range leaves {
		if err := tr.Update(crypto.Keccak256([]byte(key)), leaf); err != nil {
			t.Fatal(err)
		}
	}
	return tr
}

type fataler interface{ Fatal(...any) }

func prove(t fataler, tr *trie.Trie, key []byte) (nodes [][]byte) {
	db := memorydb.New()
	if err := tr.Prove(crypto.Keccak256(key), db); err != nil {
		t.Fatal(err)
	}
	for it := db.NewIterator(nil, nil); it.Next(); {
		nodes = append(nodes, append([]byte{}, it.Value()...))
	}
	return nodes
}

func encode(t fataler, v any) []byte {
	b, err := rlp.EncodeToBytes(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// worldOf is a verified state with one proven account that has the given storage root.
func worldOf(t fataler, root common.Hash) (*proof.VerifiedState, common.Address) {
	at := common.Address{1}
	account := types.StateAccount{Balance: new(uint256.Int), Root: root, CodeHash: types.EmptyCodeHash[:]}
	tr := newTrie(t, map[string][]byte{string(at[:]): encode(t, &account)})
	w := proof.New(&types.Header{Root: tr.Hash()}, chainID)
	if err := w.AddAccount(at, prove(t, tr, at[:])); err != nil {
		t.Fatal(err)
	}
	return w, at
}

// TestAllStoragesAreProvenAndRebuilt draws storages of every size, some with leaves that hold zero, as anvil keeps them.
func TestAllStoragesAreProvenAndRebuilt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.Custom(func(t *rapid.T) common.Hash {
			return common.BytesToHash(rapid.SliceOfN(rapid.Byte(), 0, 32).Draw(t, "bytes"))
		})
		stored := rapid.MapOfN(word, word, 0, 60).Draw(t, "stored")
		absent := rapid.SliceOfN(word, 0, 5).Draw(t, "absent")
		leaves := map[string][]byte{}
		for key, v := range stored {
			leaves[string(key[:])] = encode(t, common.TrimLeftZeroes(v[:]))
		}
		tr := newTrie(t, leaves)
		w, at := worldOf(t, tr.Hash())
		known := 0
		for key, want := range stored {
			if got := w.Complete(at); got {
				t.Fatalf("complete with %d of %d slots", known, len(stored))
			}
			if err := w.AddSlot(at, key, prove(t, tr, key[:])); err != nil {
				t.Fatal(err)
			}
			known++
			if v, ok := w.Value(proof.Slot{Account: at, Key: key}); v != want || !ok {
				t.Fatalf("slot %s: got %s, %t, want %s", key, v, ok, want)
			}
		}
		for _, key := range absent {
			if err := w.AddSlot(at, key, prove(t, tr, key[:])); err != nil {
				t.Fatal(err)
			}
			if v, ok := w.Value(proof.Slot{Account: at, Key: key}); v != stored[key] || !ok {
				t.Fatalf("slot %s: got %s, %t, want %s", key, v, ok, stored[key])
			}
		}
		if root, n := w.Rebuild(at); root != tr.Hash() || n != len(stored) || !w.Complete(at) {
			t.Fatalf("rebuilt %s of %d leaves, want %s of %d", root, n, tr.Hash(), len(stored))
		}
		if v, ok := w.Value(proof.Slot{Account: at, Key: crypto.Keccak256Hash([]byte("no such slot"))}); v != (common.Hash{}) || !ok {
			t.Fatalf("complete, and yet a slot without a proof is %s, %t", v, ok)
		}
	})
}

// TestAnOlderTrieSavesProofsAndChangesNothing draws a storage and a later one, which reuses the first.
func TestAnOlderTrieSavesProofsAndChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		was, is := map[common.Hash]common.Hash{}, map[common.Hash]common.Hash{}
		for i := range rapid.IntRange(1, 200).Draw(t, "slots") {
			key := common.Hash{byte(i), 1}
			was[key], is[key] = common.Hash{2}, common.Hash{2}
		}
		for i := range rapid.IntRange(0, 10).Draw(t, "changes") {
			key := common.Hash{rapid.Byte().Draw(t, "key"), rapid.ByteRange(0, 1).Draw(t, "new")}
			if is[key] = (common.Hash{byte(i), 3}); rapid.Bool().Draw(t, "gone") {
				delete(is, key)
			}
		}
		oldTrie, newTrie := trieOf(t, was), trieOf(t, is)
		old, at := worldOf(t, oldTrie.Hash())
		var slots []proof.Slot
		for i := range 256 {
			for last := range 2 {
				slots = append(slots, proof.Slot{Account: at, Key: common.Hash{byte(i), byte(last)}})
			}
		}
		for _, s := range slots {
			if err := old.AddSlot(at, s.Key, prove(t, oldTrie, s.Key[:])); err != nil {
				t.Fatal(err)
			}
		}
		w, _ := worldOf(t, newTrie.Hash())
		w.ReuseFrom(old)
		for round, next := 0, w.NextSlots(slots, 8); len(next) > 0; round, next = round+1, w.NextSlots(slots, 8) {
			if round > 20 {
				t.Fatal("NextSlots never ends")
			}
			for _, s := range next {
				if err := w.AddSlot(at, s.Key, prove(t, newTrie, s.Key[:])); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, s := range slots {
			if v, known := w.Value(s); !known || v != is[s.Key] {
				t.Fatalf("slot %s: %s, %t, want %s", s.Key, v, known, is[s.Key])
			}
		}
		if !w.Complete(at) {
			t.Fatal("every slot is known, and yet something is missing")
		}
	})
}

// TestWhatDidNotChangeIsCarriedOver draws successive storages, and proves only some slots of each.
func TestWhatDidNotChangeIsCarriedOver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		is := map[common.Hash]common.Hash{}
		for i := range rapid.IntRange(0, 100).Draw(t, "slots") {
			is[common.Hash{byte(i), 1}] = common.Hash{2}
		}
		tr := trieOf(t, is)
		old, at := worldOf(t, tr.Hash())
		for key := range is {
			if err := old.AddSlot(at, key, prove(t, tr, key[:])); err != nil {
				t.Fatal(err)
			}
		}
		if !old.Complete(at) {
			t.Fatal("every slot is known, and yet something is missing")
		}
		for range 4 {
			was := maps.Clone(is)
			for range rapid.IntRange(0, 5).Draw(t, "changes") {
				key := common.Hash{rapid.ByteRange(0, 120).Draw(t, "key"), 1}
				if is[key] = (common.Hash{31: rapid.ByteRange(3, 5).Draw(t, "value")}); rapid.Bool().Draw(t, "gone") {
					delete(is, key)
				}
			}
			tr := trieOf(t, is)
			w, _ := worldOf(t, tr.Hash())
			w.ReuseFrom(old)
			want := true
			for i := range 121 {
				key := common.Hash{byte(i), 1}
				changed := is[key] != was[key]
				if changed && rapid.IntRange(0, 9).Draw(t, "proven") == 0 {
					want = false
				} else if changed || rapid.IntRange(0, 19).Draw(t, "besides") == 0 {
					if err := w.AddSlot(at, key, prove(t, tr, key[:])); err != nil {
						t.Fatal(err)
					}
				}
			}
			if got := w.CarryOver(at); got != want {
				t.Fatalf("carried over: %t, want %t", got, want)
			} else if !got {
				return
			}
			if root, n := w.Rebuild(at); root != tr.Hash() || n != len(is) {
				t.Fatalf("rebuilt %s of %d leaves, want %s of %d", root, n, tr.Hash(), len(is))
			}
			_, nodes, _ := w.Witness(map[common.Address]bool{at: true})
			again, _ := worldOf(t, tr.Hash())
			again.LoadWitness(nodes, nil)
			for i := range 121 {
				s := proof.Slot{Account: at, Key: common.Hash{byte(i), 1}}
				for _, w := range []*proof.VerifiedState{w, again} {
					if v, known := w.Value(s); !known || v != is[s.Key] {
						t.Fatalf("slot %s: %s, %t, want %s", s.Key, v, known, is[s.Key])
					}
				}
			}
			old = w
		}
	})
}

// trieOf is the storage trie of some values.
func trieOf(t *rapid.T, values map[common.Hash]common.Hash) *trie.Trie {
	leaves := map[string][]byte{}
	for key, v := range values {
		leaves[string(key[:])] = encode(t, common.TrimLeftZeroes(v[:]))
	}
	return newTrie(t, leaves)
}

func TestLeavesThatNoContractWrites(t *testing.T) {
	key := common.Hash{5}
	for name, leaf := range map[string][]byte{
		"a list":            {0xc1, 1},
		"more than a word":  encode(t, make([]byte, 33)),
		"no RLP":            {0xb8},
		"a word and a tail": {1, 2},
	} {
		tr := newTrie(t, map[string][]byte{string(key[:]): leaf})
		w, at := worldOf(t, tr.Hash())
		if err := w.AddSlot(at, key, prove(t, tr, key[:])); err == nil {
			t.Errorf("%s is taken for a slot", name)
		}
		state := newTrie(t, map[string][]byte{string(at[:]): leaf})
		if err := proof.New(&types.Header{Root: state.Hash()}, chainID).AddAccount(at, prove(t, state, at[:])); err == nil {
			t.Errorf("%s is taken for an account", name)
		}
	}
}

// FuzzAddAccount and FuzzAddSlot let the fuzzer choose the root too, as a provider that forges the header can.
func FuzzAddAccount(f *testing.F) {
	at := common.Address{1}
	for i := range 4 {
		leaves := map[string][]byte{string(at[:]): encode(f, &types.StateAccount{Balance: new(uint256.Int), CodeHash: types.EmptyCodeHash[:]})}
		for j := range i * i {
			leaves[fmt.Sprint(j)] = []byte{byte(j)}
		}
		tr := newTrie(f, leaves)
		nodes := prove(f, tr, at[:])
		f.Add(join(nodes))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, n := range split(b) {
			w := proof.New(&types.Header{Root: crypto.Keccak256Hash(n)}, chainID)
			err := w.AddAccount(at, split(b))
			if err != nil {
				fit.Error(t, err, 500)
			}
			if a, known := w.Account(at); known != (err == nil) || a != nil && len(a.CodeHash) != 32 {
				t.Fatalf("got %v, %t, %v", a, known, err)
			}
		}
	})
}

func FuzzAddSlot(f *testing.F) {
	key := common.Hash{5}
	for i := range 4 {
		leaves := map[string][]byte{string(key[:]): {byte(i)}}
		for j := range i * i {
			leaves[fmt.Sprint(j)] = []byte{byte(j + 1)}
		}
		f.Add(join(prove(f, newTrie(f, leaves), key[:])))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, n := range split(b) {
			root := crypto.Keccak256Hash(n)
			w, at := worldOf(t, root)
			err := w.AddSlot(at, key, split(b))
			if err != nil {
				fit.Error(t, err, 500)
			}
			if _, known := w.Value(proof.Slot{Account: at, Key: key}); known != (err == nil) {
				t.Fatalf("known is %t, but %v", known, err)
			}
			if _, leaves := w.Rebuild(at); leaves > 1 {
				t.Fatal("one proof proved many slots")
			}
		}
	})
}

// join and split carry a list of nodes as one text, each after its length in two bytes.
func join(nodes [][]byte) (b []byte) {
	for _, n := range nodes {
		b = append(b, byte(len(n)>>8), byte(len(n)))
		b = append(b, n...)
	}
	return b
}

func split(b []byte) (nodes [][]byte) {
	for len(b) >= 2 {
		n := min(int(b[0])<<8|int(b[1]), len(b)-2)
		nodes = append(nodes, b[2:2+n])
		b = b[2+n:]
	}
	return nodes
}
