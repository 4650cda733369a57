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
