package sanitize_test

import (
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
)

// FuzzQuote holds that what is shown of a foreign text is printable, bounded, and its beginning.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "prod5", "\x1b[31mred", "a\u202Eb", "a\r\n b", "\xff", `"\`, strings.Repeat("é", sanitize.MaxLen), strings.Repeat("\x00", 2*sanitize.MaxLen), strings.Repeat("\xbf", 2*sanitize.MaxLen)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		cut, plain := sanitize.Quote(s), sanitize.Plain(s)
		fit.Text(t, cut, 4*sanitize.MaxLen+len(`""…`))
		fit.Text(t, plain, 3*sanitize.MaxLen+len("…"))
		literal, long := strings.CutSuffix(cut, `"…`)
		if long {
			literal += `"`
		}
		head, err := strconv.Unquote(literal)
		if err != nil || !strings.HasPrefix(s, head) || long != (len(s) > sanitize.MaxLen) || !long && head != s {
			t.Errorf("Cut(%q) = %s (%v)", s, cut, err)
		}
		if !utf8.ValidString(plain) || plain != strings.Join(strings.Fields(plain), " ") && !long {
			t.Errorf("Plain(%q) = %q", s, plain)
		}
		if again := sanitize.Plain(plain); len(plain) <= sanitize.MaxLen && again != plain {
			t.Errorf("Plain(%q) = %q, and of that %q", s, plain, again)
		}
	})
}
