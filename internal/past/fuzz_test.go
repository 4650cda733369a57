package past_test

import (
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/fit"
	"github.com/kms-auditor/kms-auditor/internal/hexid"
	"github.com/kms-auditor/kms-auditor/internal/history"
	"github.com/kms-auditor/kms-auditor/internal/past"
)

// FuzzFind holds that a text means an id only where it is that id, its beginning or its name, and no two.
func FuzzFind(f *testing.F) {
	for _, s := range []string{"", "0x", key(1).Hex(), strings.ToUpper(key(2).Hex()), key(1).Hex()[:10], key(1).Hex()[2:12], key(1).Hex()[:9], "00000007", "0x00000001g", "dstack-1", "\x1b[2J", strings.Repeat("0", 400), id(7).Hex()} {
		f.Add(s)
	}
	twin := event(30, 1, true, 2)
	twin.Key[31] = 0xff
	p := open(f, state(f, map[history.Target][]history.Event{kms: {event(10, 1, true, 1), event(20, 2, true, 1), twin}},
		report(1000, 5, image(1, audit.ClaimAllowed, audit.ChainAllowed, ""), image(3, audit.ClaimAllowed, audit.ChainAllowed, ""))))
	known := map[string]string{key(1).Hex(): "dstack-1", key(2).Hex(): "", key(3).Hex(): "dstack-3", twin.Key.Hex(): ""}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := p.Find(s, past.Filter{})
		if whole, bad := hexid.ParseID(s); bad == nil {
			if got != whole.Hex() || err != nil {
				t.Errorf("%q is found as %q (%v)", s, got, err)
			}
			return
		}
		digits := strings.ToLower(s)
		digits = strings.TrimPrefix(digits, "0x")
		var fits []string
		for id, name := range known {
			if len(digits) >= 8 && strings.HasPrefix(id[2:], digits) || s != "" && name == s {
				fits = append(fits, id)
			}
		}
		switch {
		case err != nil:
			fit.Error(t, err, 1500)
			if len(fits) < 2 {
				t.Errorf("%q may only be %q: %v", s, fits, err)
			}
		case len(fits) > 1, len(fits) == 1 && got != fits[0], len(fits) == 0 && got != "":
			t.Errorf("%q is found as %q, and may be %q", s, got, fits)
		}
	})
}
