package proof_test

import (
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rlp"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

func TestOnlyTheHeaderOfTheHashIsTaken(t *testing.T) {
	p := start(t, testchain.Options{})
	p.deploy(t, testchain.Plain)
	raw, hash := p.block(t, "latest")
	good, err := proof.EncodeHeader(raw)
	must(t, err)
	h, err := proof.Header(good, hash)
	if err != nil || h.Hash() != hash || h.Number.Sign() == 0 {
		t.Fatalf("the block's own header: %v, %v", h, err)
	}
	other, _ := p.block(t, "earliest")
	older, err := proof.EncodeHeader(other)
	must(t, err)
	for at := range good {
		if _, err := proof.Header(flip(good, at), hash); !errors.Is(err, proof.ErrInvalid) {
			t.Fatalf("byte %d was flipped: %v", at, err)
		}
	}
	longNumber := h.Number
	h.Number = new(big.Int).Lsh(common.Big1, 64)
	huge, err := rlp.EncodeToBytes(h)
	must(t, err)
	h.Number = longNumber
	later, err := rlp.EncodeToBytes([]any{good, "and a field of a later fork"})
	must(t, err)
	for _, row := range []struct {
		name string
		rlp  []byte
		hash common.Hash
		lie  bool
	}{
		{"another block's header", older, hash, true},
		{"a truncated header", good[:len(good)-1], hash, true},
		{"a header with a tail", append(good[:len(good):len(good)], 0), hash, true},
		{"nothing", nil, hash, true},
		{"more bytes than any header has", make([]byte, 1<<20), hash, true},
		{"a header of a shape that is not known", later, crypto.Keccak256Hash(later), false},
		{"a block number beyond 64 bits", huge, crypto.Keccak256Hash(huge), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			if h, err := proof.Header(row.rlp, row.hash); err == nil || h != nil || errors.Is(err, proof.ErrInvalid) != row.lie {
				t.Errorf("got %v, %v", h, err)
			}
		})
	}
}

// TestFieldsOfTheOPStackAreHashed has an L2 block, whose withdrawals root is a storage root.
func TestFieldsOfTheOPStackAreHashed(t *testing.T) {
	root, zero := common.Hash{1}, uint64(0)
	want := &types.Header{
		Difficulty: new(big.Int), Number: big.NewInt(7), BaseFee: big.NewInt(1), Extra: []byte{0, 0, 0, 0, 250, 0, 0, 0, 6},
		WithdrawalsHash: &root, BlobGasUsed: &zero, ExcessBlobGas: &zero, ParentBeaconRoot: &root, RequestsHash: &types.EmptyRequestsHash,
	}
	raw, err := json.Marshal(want)
	must(t, err)
	b, err := proof.EncodeHeader(raw)
	must(t, err)
	if h, err := proof.Header(b, want.Hash()); err != nil || *h.WithdrawalsHash != root {
		t.Errorf("got %v, %v", h, err)
	}
}

func TestBlocksThatAreNone(t *testing.T) {
	for name, raw := range map[string]string{
		"null":                       `null`,
		"no object":                  `"0x"`,
		"no JSON":                    "\x1b[31m",
		"no fields":                  `{}`,
		"more than is ever answered": `"` + strings.Repeat("x", 17<<20) + `"`,
	} {
		b, err := proof.EncodeHeader(json.RawMessage(raw))
		if err == nil || b != nil || strings.ContainsRune(err.Error(), '\x1b') || len(err.Error()) > 500 {
			t.Errorf("%s: got %x, %v", name, b, err)
		}
	}
}

// FuzzHeader checks that a header is accepted only under its own hash.
func FuzzHeader(f *testing.F) {
	for _, h := range headers() {
		good, err := rlp.EncodeToBytes(h)
		must(f, err)
		f.Add(good)
		f.Add(good[:len(good)-1])
		f.Add(append(good, 0))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := proof.Header(b, common.Hash{}); err == nil {
			t.Fatal("a header of no hash")
		}
		h, err := proof.Header(b, crypto.Keccak256Hash(b))
		if err != nil {
			fit.Error(t, err, 500)
		} else if h.Hash() != crypto.Keccak256Hash(b) {
			t.Fatalf("%x is read as a header of hash %s", b, h.Hash())
		}
	})
}
