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
	"github.com/kms-auditor/kms-auditor/internal/fit"
)

// headers are of every fork: each has more fields than the one before.
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

// FuzzBlock holds that a block as JSON becomes the header that its fields say, or a short error: what it is encoded as
// decodes, and is encoded the same again.
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
