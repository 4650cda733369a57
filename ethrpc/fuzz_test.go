package ethrpc_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
)

const (
	hash1 = "0x1111111111111111111111111111111111111111111111111111111111111111"
	hash2 = "0x2222222222222222222222222222222222222222222222222222222222222222"
)

// bare is the hex of a JSON string, without its prefix; !ok: it is none.
func bare(raw json.RawMessage) (s string, ok bool) {
	err := json.Unmarshal(raw, &s)
	s, ok = strings.CutPrefix(strings.ToLower(s), "0x")
	return s, ok && err == nil
}

// FuzzBlock holds that a block is taken with the number and the hash that stand there, and a time that can be told.
func FuzzBlock(f *testing.F) {
	for _, s := range []string{"null", "{}", `""`, `{"number":"0x10","hash":"` + hash1 + `","timestamp":"0x6553f100","extra":[]}`, `{"number":"0x10","hash":null,"timestamp":"0x1"}`,
		`{"number":"0x010","hash":"` + hash1 + `","timestamp":"0x1"}`, `{"number":"0x1","hash":"` + hash1 + `","timestamp":"0xffffffffffffffff"}`, `{"number":"0x10000000000000000","hash":"0x11","timestamp":1}`,
		`{"number":"","hash":"` + hash1 + `","timestamp":""}`, `{"number":"\u001b","hash":"\u001b","timestamp":"\u001b"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := ethrpc.ReadBlock(raw)
		if err != nil {
			fit.Error(t, err, 500)
			return
		}
		text := strings.ToLower(string(raw))
		if strings.Contains(text, `"number":""`) || b.Time.Year() < 1970 || b.Time.Year() > 9999 || !strings.Contains(text, hex.EncodeToString(b.Hash[:])) || !json.Valid(raw) {
			t.Errorf("%s is read as %+v", raw, b)
		}
		if _, err := b.Time.MarshalJSON(); err != nil {
			t.Error(err)
		}
	})
}

// FuzzWord holds that an answer to a call, and a chain id, are what stands there or nothing.
func FuzzWord(f *testing.F) {
	for _, s := range []string{"null", `""`, `"0x"`, "1", `"0x` + strings.Repeat("0", 63) + `1"`, `"0x` + strings.Repeat("0", 64) + `"`, `"0x` + strings.Repeat("0", 63) + `2"`, `"0x` + strings.Repeat("0", 62) + `1"`,
		`"0x` + strings.Repeat("F", 64) + `"`, `"0x2105"`, `"0x02105"`, `"0x` + strings.Repeat("0", 128) + `"`, `"\u001b"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		digits, isHex := bare(raw)
		b, err := ethrpc.ReadBytes(raw)
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
		if err := ethrpc.ReadChainID(raw, 8453); err != nil {
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

// FuzzLogs holds that a list of logs is taken whole, where each is of the contract, the topics and the blocks that were
// asked for, sorted and once.
func FuzzLogs(f *testing.F) {
	at := common.HexToAddress("0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C")
	req := ethrpc.ScanRequest{Contract: at, Topics: []common.Hash{common.HexToHash(hash1)}, From: 5, To: 20, ToHash: common.HexToHash(hash2)}
	log := `{"address":"` + strings.ToLower(at.Hex()) + `","topics":["` + hash1 + `"],"data":"0x01","blockNumber":"0x7","blockHash":"` + hash1 + `","transactionHash":"` + hash2 + `","transactionIndex":"0x0","logIndex":"0x1","removed":false}`
	end := `{"number":"0x14","hash":"` + hash2 + `","timestamp":"0x1"}`
	for _, s := range []string{"null", "[]", "[null]", "[{}]", "{}", "[" + log + "]", "[" + log + "," + log + "]", "[" + log + "," + strings.Replace(log, `"0x1","removed"`, `"0x0","removed"`, 1) + "]",
		"[" + strings.Replace(log, "0x7", "0x15", 1) + "]", "[" + strings.Replace(log, "false", "true", 1) + "]", "[" + strings.Replace(log, hash1, hash2, 1) + "]", "[" + strings.Replace(log, "2f83", "0f83", 1) + "]",
		"[" + strings.Replace(log, "0x7", "0x14", 1) + "]", `[{"address":"\u001b"}]`} {
		f.Add([]byte(s), []byte(end))
	}
	f.Add([]byte("[]"), []byte("null"))
	f.Add([]byte("[]"), []byte(strings.Replace(end, "0x14", "0x13", 1)))
	f.Add([]byte("[]"), []byte(strings.Replace(end, hash2, hash1, 1)))
	f.Fuzz(func(t *testing.T, raw, block []byte) {
		logs, last, err := ethrpc.ReadLogs(req, req.From, req.To, raw, block)
		if err != nil {
			fit.Error(t, err, 1000)
			return
		}
		var all []json.RawMessage
		if err := json.Unmarshal(raw, &all); err != nil || len(all) != len(logs) || last != req.ToHash {
			t.Fatalf("%s up to %s is read as %d logs", raw, last, len(logs))
		}
		for i, l := range logs {
			if l.Address != at || l.Topics[0] != req.Topics[0] || len(l.Topics) > 4 || l.BlockNumber < req.From || l.BlockNumber > req.To || len(l.Data) > len(raw) {
				t.Errorf("taken: %+v", l)
			}
			if i > 0 && (logs[i-1].BlockNumber > l.BlockNumber || logs[i-1].BlockNumber == l.BlockNumber && (logs[i-1].Index >= l.Index || logs[i-1].BlockHash != l.BlockHash)) {
				t.Errorf("%+v comes after %+v", l, logs[i-1])
			}
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

const canary = "c4n4ry-0123456789"

// FuzzProviderError holds that a provider's words are shown in short and without secrets, and are not taken for what
// excludes each other.
func FuzzProviderError(f *testing.F) {
	for _, s := range []string{"", "KEY", "header not found", "missing trie node KEY", "query returned more than 10000 results", "daily request count exceeded, request rate limited: block range", "batch too large",
		"execution reverted: \x1b[2J", "invalid argument 1: block not found", strings.Repeat("x", 190) + "KEY", strings.Repeat(" ", 4090) + "KEY", `{"error":"KEY"}`, "\xff", "the method eth_getProof does not exist/is not available"} {
		f.Add(-32000, s, 429)
		f.Add(-32601, s, 503)
		f.Add(3, s, 301)
	}
	f.Fuzz(func(t *testing.T, code int, text string, status int) {
		text = strings.ReplaceAll(text, "KEY", canary)
		is, said := ethrpc.Answered(code, text, canary)
		fit.Error(t, said, 1200, canary[:8], canary[len(canary)-8:])
		lower := strings.ToLower(text)
		switch {
		case is.Pruned && code == -32601, is.FormRefused && is.UnknownBlock, is.TooWide && strings.Contains(lower, "rate limit"),
			is.Revert && code != 3 && !strings.Contains(lower, "revert") && !strings.Contains(lower, "invalid") && !strings.Contains(lower, "out of gas") && !strings.Contains(lower, "stack") && !strings.Contains(lower, "opcode"):
			t.Errorf("%d %q is taken for %+v", code, text, is)
		}
		is, refused := ethrpc.Refused(status, []byte(text), canary)
		fit.Error(t, refused, 1200, canary[:8], canary[len(canary)-8:])
		if is.Pruned || is.UnknownBlock || is.FormRefused || is.Revert || is.Passing != (status == 429 || status == 503) || errors.Is(refused, ethrpc.ErrNoState) {
			t.Errorf("HTTP status %d %q is taken for %+v", status, text, is)
		}
	})
}
