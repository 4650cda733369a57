package block_test

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/ethrpc/block"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
)

const hash1 = "0x1111111111111111111111111111111111111111111111111111111111111111"

// FuzzBlock checks that a decoded block has the number and the hash of the answer, and a time that RFC 3339 can express.
func FuzzBlock(f *testing.F) {
	for _, s := range []string{"null", "{}", `""`, `{"number":"0x10","hash":"` + hash1 + `","timestamp":"0x6553f100","extra":[]}`, `{"number":"0x10","hash":null,"timestamp":"0x1"}`,
		`{"number":"0x010","hash":"` + hash1 + `","timestamp":"0x1"}`, `{"number":"0x1","hash":"` + hash1 + `","timestamp":"0xffffffffffffffff"}`, `{"number":"0x10000000000000000","hash":"0x11","timestamp":1}`,
		`{"number":"","hash":"` + hash1 + `","timestamp":""}`, `{"number":"\u001b","hash":"\u001b","timestamp":"\u001b"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := block.Decode(&transport.Call{Result: raw})
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

// FuzzTag checks that a parsed tag formats as its input, except for case and leading zeros.
func FuzzTag(f *testing.F) {
	for _, s := range []string{"", "finalized", "safe", "latest", "latest-5", "latest-0", "latest--1", "latest-+1", "007", "51375546", "-1", "9223372036854775807", "9223372036854775808", hash1, "0X" + hash1[2:], "0x1", "Latest", " latest", "\x1b[2J", strings.Repeat("9", 400)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := block.ParseTag(s)
		if err != nil {
			fit.Error(t, err, 1200)
			return
		}
		again, err := block.ParseTag(p.String())
		if err != nil || again.String() != p.String() || again.Fixed() != p.Fixed() || p.Fixed() != (s[0] >= '0' && s[0] <= '9') {
			t.Errorf("%q is read as %q, and that as %q (%v)", s, p, again, err)
		}
		if digits := strings.TrimLeft(strings.TrimPrefix(s, "latest-"), "0"); digits != "" && !strings.HasSuffix(p.String(), strings.ToLower(digits)) {
			t.Errorf("%q is read as %q", s, p)
		}
	})
}
