package sanitize_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
)

// FuzzParseID holds that an id or an address is taken exactly where all its digits are there, and that it is those.
func FuzzParseID(f *testing.F) {
	for _, s := range []string{"", "0x", digits, "0X" + digits, "0x" + strings.ToUpper(digits), "0x0x" + digits[2:], digits[:40], "0x" + digits[:39], digits + digits, "g" + digits[1:], strings.Repeat("é", 32), strings.Repeat("\x1b", 4096)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := sanitize.ParseID(s)
		held(t, s, id[:], err)
		a, err := sanitize.ParseAddress(s)
		held(t, s, a[:], err)
	})
}

func held(t *testing.T, s string, got []byte, err error) {
	t.Helper()
	bare := strings.ToLower(s)
	bare = strings.TrimPrefix(bare, "0x")
	want, bad := hex.DecodeString(bare)
	if good := bad == nil && len(want) == len(got); good != (err == nil) || good && string(got) != string(want) {
		t.Errorf("%q is read as %x (%v)", s, got, err)
	}
	if err != nil {
		fit.Error(t, err, 1000)
	}
}
