package ethrpc_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/block"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
)

const hash1 = "0x1111111111111111111111111111111111111111111111111111111111111111"

// bare is the hex of a JSON string, without its prefix; !ok: it is none.
func bare(raw json.RawMessage) (s string, ok bool) {
	err := json.Unmarshal(raw, &s)
	s, ok = strings.CutPrefix(strings.ToLower(s), "0x")
	return s, ok && err == nil
}

// FuzzWord holds that an answer to a call, and a chain id, are what stands there or nothing.
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

// FuzzControl holds that an owner is the address of a whole word, that texts are no longer than what they came in, and
// that what cannot be read leaves an error.
func FuzzControl(f *testing.F) {
	word := func(b ...byte) []byte { return append(make([]byte, 32-len(b)), b...) }
	text := slices.Concat(word(32), word(3), []byte("app"), make([]byte, 29))
	info := slices.Concat(word(128), word(128), word(128), word(128), word(1), []byte{7}, make([]byte, 31))
	f.Add(word(1), text, info, word(2))
	f.Add([]byte{}, []byte{}, []byte{}, word())
	f.Add(bytes.Repeat([]byte{0xff}, 32), bytes.Repeat([]byte{0xff}, 64), bytes.Repeat([]byte{0xff}, 128), bytes.Repeat([]byte{0xff}, 32))
	f.Add(word(1)[1:], slices.Concat(word(32), word(0xff, 0xff, 0xff)), info[:130], word(1))
	f.Fuzz(func(t *testing.T, owner, app, info, slot []byte) {
		c := ethrpc.ReadControl([][]byte{owner, owner, app, info}, common.BytesToHash(slot))
		isAddress := len(owner) == 32 && bytes.Equal(owner[:12], make([]byte, 12))
		if c.Owner.Present != isAddress || isAddress && !bytes.Equal(c.Owner.Value[:], owner[12:]) {
			t.Errorf("%x is the owner %+v", owner, c.Owner)
		}
		if len(c.GatewayAppID.Value) > len(app) || !bytes.Contains(app, []byte(c.GatewayAppID.Value)) || len(c.K256Pubkey.Value)+len(c.CAPubkey.Value) > 2*len(info) || !bytes.Contains(info, c.CAPubkey.Value) {
			t.Errorf("read as %+v", c)
		}
		if len(owner) > 0 && c.Owner.Present == (c.Owner.Err != nil) || len(app) > 0 && c.GatewayAppID.Present == (c.GatewayAppID.Err != nil) {
			t.Errorf("%x and %x are lost without an error: %+v", owner, app, c)
		}
		for _, err := range errorsOf(c) {
			fit.Error(t, err, 500)
		}
	})
}

// FuzzProof holds that of an answer to eth_getProof the nodes are taken, for as many keys as were asked for.
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

// FuzzBlockTag holds that a block policy is one that spells itself as it was read, but for case and leading zeros.
func FuzzBlockTag(f *testing.F) {
	for _, s := range []string{"", "finalized", "safe", "latest", "latest-5", "latest-0", "latest--1", "latest-+1", "007", "51375546", "-1", "9223372036854775807", "9223372036854775808", hash1, "0X" + hash1[2:], "0x1", "Latest", " latest", "\x1b[2J", strings.Repeat("9", 400)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ethrpc.ParseBlockTag(s)
		if err != nil {
			fit.Error(t, err, 1200)
			return
		}
		again, err := ethrpc.ParseBlockTag(p.String())
		if err != nil || again.String() != p.String() || again.Fixed() != p.Fixed() || p.Fixed() != (s[0] >= '0' && s[0] <= '9') {
			t.Errorf("%q is read as %q, and that as %q (%v)", s, p, again, err)
		}
		if digits := strings.TrimLeft(strings.TrimPrefix(s, "latest-"), "0"); digits != "" && !strings.HasSuffix(p.String(), strings.ToLower(digits)) {
			t.Errorf("%q is read as %q", s, p)
		}
	})
}
