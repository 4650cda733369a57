// Package sanitize parses hex from outside into ids and addresses, makes text from outside bounded and printable, and
// keeps secrets out of all output.
package sanitize

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ethereum/go-ethereum/common"
)

// MaxLen is the number of bytes of a foreign text that Quote and Plain keep.
const MaxLen = 200

// Quote returns s as a Go string literal of at most MaxLen bytes of s, with what was cut off marked by "…".
func Quote(s string) string {
	head, more := shorten(s)
	return strconv.Quote(head) + more
}

// Plain returns s without quotes: at most MaxLen bytes, white space folded,
// and every rune that is not printable (control, bidirectional, invalid) replaced by U+FFFD.
func Plain(s string) string {
	if len(s) <= MaxLen && !strings.ContainsFunc(s, func(r rune) bool { return r < '!' || r > '~' }) {
		return s // as nearly every text is
	}
	head, more := shorten(s)
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, strings.Join(strings.Fields(strings.ToValidUTF8(head, string(unicode.ReplacementChar))), " ")) + more
}

// shorten cuts s at a rune boundary. more is the mark of what was cut off, or empty.
func shorten(s string) (head, more string) {
	if len(s) <= MaxLen {
		return s, ""
	}
	n := MaxLen
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n], "…"
}

// ParseID reads a bytes32: exactly 64 hex digits in any case, with or without the prefix 0x.
func ParseID(s string) (common.Hash, error) {
	var id common.Hash
	return id, decode(id[:], s)
}

// SpellID spells an id as a report does. Where s spells it so already, it is s, without a copy.
func SpellID(id common.Hash, s string) string {
	b := hex.AppendEncode(append(make([]byte, 0, 2+2*len(id)), "0x"...), id[:])
	if string(b) == s {
		return s
	}
	return string(b)
}

// ParseAddress reads an address: exactly 40 hex digits in any case, with or without the prefix 0x.
// Mixed case is not checked as an EIP-55 checksum: the sources spell addresses in every way.
func ParseAddress(s string) (common.Address, error) {
	var a common.Address
	return a, decode(a[:], s)
}

func decode(dst []byte, s string) error {
	digits := strings.TrimPrefix(s, "0x")
	if len(digits) == len(s) {
		digits = strings.TrimPrefix(s, "0X")
	}
	if len(digits) != 2*len(dst) {
		return fmt.Errorf("%s has %d characters after the prefix, want %d hex digits", Quote(s), len(digits), 2*len(dst))
	}
	if _, err := hex.Decode(dst, []byte(digits)); err != nil {
		return fmt.Errorf("%s is not hex", Quote(s))
	}
	return nil
}

// JoinNames adds another name to a list of names, each once.
func JoinNames(a, b string) string {
	if b == "" || slices.Contains(strings.Split(a, ", "), b) {
		return a
	}
	return Plain(strings.TrimPrefix(a+", "+b, ", "))
}

// BareHex is a hex text without its prefix, in lower case.
func BareHex(s string) string { return strings.TrimPrefix(strings.ToLower(strings.TrimSpace(s)), "0x") }
