package sanitize_test

import (
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

const digits = "6427f4f5ded88b72d326bd973e581c1689c5080c6444a0cf90fec7d9e4c8b92a"

func TestParseID(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		ok       bool
	}{
		{"bare digits are taken", digits, true},
		{"a prefix is taken", "0x" + digits, true},
		{"an upper-case prefix is taken", "0X" + digits, true},
		{"any case is taken", "0x" + strings.ToUpper(digits), true},
		{"nothing is refused", "", false},
		{"a prefix alone is refused", "0x", false},
		{"a digit too few is refused, not padded", digits[1:], false},
		{"a digit too many is refused, not cropped", digits + "0", false},
		{"64 bytes are refused", digits + digits, false},
		{"two prefixes are refused", "0x0x" + digits[2:], false},
		{"a letter is refused", "g" + digits[1:], false},
		{"white space is refused", " " + digits[1:], false},
		{"a sign is refused", "-" + digits[1:], false},
		{"32 other characters of two bytes are refused", strings.Repeat("é", 32), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id, err := sanitize.ParseID(tt.in)
			if (err == nil) != tt.ok || tt.ok && id.Hex() != "0x"+digits {
				t.Errorf("ParseID(%q) = %s, %v", tt.in, id, err)
			}
		})
	}
}

func TestParseAddress(t *testing.T) {
	const address = "0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C"
	for _, in := range []string{address, strings.ToLower(address), address[2:]} {
		if a, err := sanitize.ParseAddress(in); err != nil || a.Hex() != address {
			t.Errorf("ParseAddress(%q) = %s, %v", in, a, err)
		}
	}
	for _, in := range []string{"", address[:41], address + "0", "0x" + digits} {
		if a, err := sanitize.ParseAddress(in); err == nil {
			t.Errorf("ParseAddress(%q) = %s", in, a)
		}
	}
}
