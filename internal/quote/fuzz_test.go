package quote_test

import (
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kms-auditor/kms-auditor/internal/fit"
	"github.com/kms-auditor/kms-auditor/internal/quote"
)

// FuzzQuote holds that what is shown of a foreign text is printable, bounded, and its beginning.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "prod5", "\x1b[31mred", "a\u202Eb", "a\r\n b", "\xff", `"\`, strings.Repeat("é", quote.Max), strings.Repeat("\x00", 2*quote.Max), strings.Repeat("\xbf", 2*quote.Max)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		cut, plain := quote.Cut(s), quote.Plain(s)
		fit.Text(t, cut, 4*quote.Max+len(`""…`))
		fit.Text(t, plain, 3*quote.Max+len("…"))
		literal, long := strings.CutSuffix(cut, `"…`)
		if long {
			literal += `"`
		}
		head, err := strconv.Unquote(literal)
		if err != nil || !strings.HasPrefix(s, head) || long != (len(s) > quote.Max) || !long && head != s {
			t.Errorf("Cut(%q) = %s (%v)", s, cut, err)
		}
		if !utf8.ValidString(plain) || plain != strings.Join(strings.Fields(plain), " ") && !long {
			t.Errorf("Plain(%q) = %q", s, plain)
		}
		if again := quote.Plain(plain); len(plain) <= quote.Max && again != plain {
			t.Errorf("Plain(%q) = %q, and of that %q", s, plain, again)
		}
	})
}
