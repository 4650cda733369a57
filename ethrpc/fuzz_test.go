package ethrpc_test

import (
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/block"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
)

const hash1 = "0x1111111111111111111111111111111111111111111111111111111111111111"

// bare returns the hex digits of a JSON string, without the prefix; ok is false if it is not hex.
func bare(raw json.RawMessage) (s string, ok bool) {
	err := json.Unmarshal(raw, &s)
	s, ok = strings.CutPrefix(strings.ToLower(s), "0x")
	return s, ok && err == nil
}

// FuzzWord checks that answers to eth_call and eth_chainId are decoded exactly or refused.
func FuzzWord(f *testing.F) {
	for _, s := range []string{"null", `""`, `"0x"`, "1", `"0x` + strings.Repeat("0", 63) + `1"`, `"0x` + strings.Repeat("0", 64) + `"`, `"0x` + strings.Repeat("0", 63) + `2"`, `"0x` + strings.Repeat("0", 62) + `1"`,
		`"0x` + strings.Repeat("F", 64) + `"`, `"0x2105"`, `"0x02105"`, `"0x` + strings.Repeat("0", 128) + `"`, `"\u001b"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		digits, isHex := bare(raw)
		b, err := (&transport.Call{Result: raw}).Bytes()
		if err != nil {
			fit.Error(t, err, 500)
		} else if !isHex || hex.EncodeToString(b) != digits {
			t.Errorf("%s is read as %x", raw, b)
		}
		if b, err := ethrpc.ReadMulticall(raw, 32); err != nil {
			fit.Error(t, err, 500)
		} else if len(b) != 32 || hex.EncodeToString(b) != digits {
			t.Errorf("%s is read as the answers %x", raw, b)
		}
		yes, err := ethrpc.ReadBool(raw)
		if err != nil {
			fit.Error(t, err, 500)
		} else if want := map[bool]string{false: strings.Repeat("0", 64), true: strings.Repeat("0", 63) + "1"}[yes]; digits != want {
			t.Errorf("%s is read as %t", raw, yes)
		}
		if err := block.CheckChainID(&transport.Call{Result: raw}, 8453); err != nil {
			fit.Error(t, err, 500)
		} else if digits != "2105" {
			t.Errorf("%s is taken for 8453", raw)
		}
	})
}

// FuzzProof checks that the nodes of an answer to eth_getProof are decoded for exactly the keys that were asked for.
func FuzzProof(f *testing.F) {
	for _, s := range []string{"null", "{}", `{"accountProof":["0x01","0x"],"storageProof":[{"proof":["0x02"]},{"proof":[]}],"balance":"x"}`, `{"accountProof":null,"storageProof":[{},{}]}`, `{"storageProof":[null,null]}`,
		`{"accountProof":["0x1"]}`, `{"accountProof":[null],"storageProof":[{"proof":[null]},{}]}`, `{"AccountProof":["0x01"],"STORAGEPROOF":[{"PROOF":["0x02"]},{}]}`} {
		f.Add([]byte(s), uint8(2))
	}
	f.Fuzz(func(t *testing.T, raw []byte, keys uint8) {
		account, slots, err := ethrpc.ReadProof(raw, int(keys))
		if err != nil {
			fit.Error(t, err, 300)
			return
		}
		size := 0
		for _, n := range slices.Concat(append(slots, account)...) {
			if size += len(n); !strings.Contains(strings.ToLower(string(raw)), hex.EncodeToString(n)) {
				t.Errorf("%x is not in %s", n, raw)
			}
		}
		if len(slots) != int(keys) || size > len(raw) {
			t.Errorf("%d slots and %d bytes come of %s", len(slots), size, raw)
		}
	})
}
