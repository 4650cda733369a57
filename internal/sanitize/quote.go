// Package sanitize parses hex from outside into ids and addresses, makes text from outside bounded and printable, and
// keeps secrets out of all output.
package sanitize

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxLen is the number of bytes of a foreign text that Quote and Plain keep.
const MaxLen = 200

// Quote returns s as a Go string literal of at most MaxLen bytes of s, with what was cut off marked by "…".
func Quote(s string) string {
	head, cut := shorten(s)
	q := strconv.Quote(head)
	if cut {
		q += "…"
	}
	return q
}

// Plain returns s without quotes: at most MaxLen bytes, white space folded,
// and every rune that is not printable (control, bidirectional, invalid) replaced by U+FFFD.
func Plain(s string) string {
	if isPlain(s) {
		return s
	}
	head, cut := shorten(s)
	head = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, strings.Join(strings.Fields(strings.ToValidUTF8(head, string(unicode.ReplacementChar))), " "))
	if cut {
		head += "…"
	}
	return head
}

// isPlain reports whether s is short ASCII that Plain does not change, as nearly every text is.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == ' ' && (i == 0 || i == len(s)-1 || s[i-1] == ' ') {
			return false
		}
	}
	return len(s) <= MaxLen
}

// shorten cuts s at a rune boundary.
func shorten(s string) (string, bool) {
	if len(s) <= MaxLen {
		return s, false
	}
	n := MaxLen
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n], true
}
