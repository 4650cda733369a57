package proof_test

import (
	"bytes"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
)

// headers has one header of every fork, in order.
func headers() []*types.Header {
	n, h := uint64(1), common.Hash{1}
	out := []*types.Header{{Difficulty: new(big.Int), Number: big.NewInt(7), Extra: []byte("x")}}
	for _, more := range []func(*types.Header){
		func(t *types.Header) { t.BaseFee = big.NewInt(1) },
		func(t *types.Header) { t.WithdrawalsHash = &h },
		func(t *types.Header) { t.BlobGasUsed, t.ExcessBlobGas, t.ParentBeaconRoot = &n, &n, &h },
		func(t *types.Header) { t.RequestsHash = &h },
	} {
		next := *out[len(out)-1]
		more(&next)
		out = append(out, &next)
	}
	return out
}

// FuzzBlock checks that a JSON block becomes the header with its fields, or a short error, and that the encoding is canonical.
func FuzzBlock(f *testing.F) {
	for _, h := range headers() {
		b, err := json.Marshal(h)
		must(f, err)
		f.Add(b)
		f.Add(bytes.Replace(b, []byte(`"0x7"`), []byte(`"0x07"`), 1))
		f.Add(bytes.Replace(b, []byte(`"baseFeePerGas":"0x1"`), []byte(`"baseFeePerGas":null`), 1))
		f.Add(bytes.Replace(b, []byte(`"0x78"`), []byte(`"\u001b"`), 1))
	}
	f.Add([]byte("null"))
	f.Add([]byte(`{"number":"0x` + strings.Repeat("f", 80) + `"}`))
	f.Fuzz(func(t *testing.T, block []byte) {
		b, err := proof.EncodeHeader(block)
		if err != nil {
			fit.Error(t, err, 500)
			return
		}
		h, err := proof.Header(b, crypto.Keccak256Hash(b))
		if err != nil {
			fit.Error(t, err, 500)
			return
		}
		asJSON, err := json.Marshal(h)
		must(t, err)
		again, err := proof.EncodeHeader(asJSON)
		if err != nil || !bytes.Equal(b, again) {
			t.Errorf("%s is encoded as %x, and that as %x (%v)", block, b, again, err)
		}
	})
}

// FuzzFill guesses the content of a storage of three words, three bytes each. It checks that a guess is accepted only if it is the
// whole storage, true, and consistent with the proven slots.
func FuzzFill(f *testing.F) {
	stored := map[common.Hash]byte{{1}: 1, {2}: 2, {3}: 1}
	leaves := map[string][]byte{}
	for key, v := range stored {
		leaves[string(key[:])] = []byte{v}
	}
	tr := newTrie(f, leaves)
	known := common.Hash{1}
	node := prove(f, tr, known[:])
	f.Add([]byte{1, 0, 1, 2, 0, 2, 3, 0, 1}, false)
	f.Add([]byte{2, 0, 2, 3, 0, 1}, true)
	f.Add([]byte{2, 0, 2, 3, 0, 1, 4, 0, 0}, true)
	f.Add([]byte{1, 0, 7, 2, 0, 2, 3, 0, 1}, true)
	f.Add([]byte{2, 0, 2, 3, 0, 2}, true)
	f.Add([]byte{2, 0, 2}, true)
	f.Add([]byte{2, 1, 2, 3, 0, 1}, true)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, guesses []byte, knows bool) {
		w, at := worldOf(t, tr.Hash())
		if knows {
			must(t, w.AddSlot(at, known, node))
		}
		words := map[common.Hash]common.Hash{}
		for ; len(guesses) >= 3; guesses = guesses[3:] {
			words[common.Hash{guesses[0]}] = common.Hash{30: guesses[1], 31: guesses[2]}
		}
		right := true
		for key, v := range stored {
			guess, guessed := words[key]
			right = right && (guessed && guess == common.Hash{31: v} || !guessed && knows && key == known)
		}
		for key, guess := range words {
			right = right && (stored[key] > 0 || guess == common.Hash{})
		}
		if w.ProveBySpeculation(at, words) != right {
			t.Fatalf("%v is taken: %t", words, !right)
		}
		for key := range words {
			v, has := w.Value(proof.Slot{Account: at, Key: key})
			if wants := right || knows && key == known; has != wants || has && v != (common.Hash{31: stored[key]}) {
				t.Errorf("slot %s is %s (%t)", key, v, has)
			}
		}
	})
}
