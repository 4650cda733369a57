package sanitize_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

func TestForeignText(t *testing.T) {
	long := strings.Repeat("é", sanitize.MaxLen)
	for _, tt := range []struct{ name, in, cut, plain string }{
		{"plain text stays", "prod5", `"prod5"`, "prod5"},
		{"terminal escapes are disarmed", "\x1b[31mred", `"\x1b[31mred"`, "\uFFFD[31mred"},
		{"direction marks are disarmed", "a\u202Eb", `"a\u202eb"`, "a\uFFFDb"},
		{"line breaks do not break the line", "a\r\n b", `"a\r\n b"`, "a b"},
		{"invalid UTF-8 is replaced", "a\xff", `"a\xff"`, "a\uFFFD"},
		{"a long text is cut between two runes", long, `"` + long[:sanitize.MaxLen] + `"…`, long[:sanitize.MaxLen] + "…"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := sanitize.Quote(tt.in); got != tt.cut {
				t.Errorf("Cut = %s, want %s", got, tt.cut)
			}
			if got := sanitize.Plain(tt.in); got != tt.plain || !utf8.ValidString(got) {
				t.Errorf("Plain = %s, want %s", got, tt.plain)
			}
		})
	}
}

func TestForeignTextInChats(t *testing.T) {
	const r = "\uFFFD"
	for sentence, tt := range map[string]struct{ in, want string }{
		"names stay":                         {"prod9, dstack-nvidia-0.5.8 (a_b) #1", "prod9, dstack-nvidia-0.5.8 (a_b) #1"},
		"our own sentences stay":             {"block 5, which L1 does not hold. It's `run`: at 50%", "block 5, which L1 does not hold. It's 'run': at 50%"},
		"Slack makes no link":                {"<http://evil.example|prod9>", r + "http" + r + "//evil" + r + "example" + r + "prod9" + r},
		"an address is no link":              {"https://1.2.3.4/x see www.evil.example", "https" + r + "//1.2.3.4/x see www" + r + "evil" + r + "example"},
		"nobody is mentioned":                {"<!channel> @here", r + "!channel" + r + " " + r + "here"},
		"nothing is bold, struck or escaped": {"*a* ~b~ &lt; \\n", r + "a" + r + " " + r + "b" + r + " " + r + "lt; " + r + "n"},
		"no line breaks":                     {"prod9\n\n[RESOLVED]\tall is well", "prod9 [RESOLVED] all is well"},
		"other scripts are not shown":        {"рrоd9 \u202eabc", r + "r" + r + "d9 " + r + "abc"},
	} {
		t.Run(sentence, func(t *testing.T) {
			if got := sanitize.NoMarkup(tt.in, 100); got != tt.want {
				t.Errorf("NoMarkup = %q, want %q", got, tt.want)
			}
		})
	}
	for in, want := range map[string]string{"0123456789": "0123456789", "0123456789a": "0123456789…", "012345678é": "012345678…"} {
		if got := sanitize.NoMarkup(in, 10); got != want {
			t.Errorf("%q is cut to %q, want %q", in, got, want)
		}
	}
}
