// Package sanitize parses hex from outside into ids and addresses, makes text from outside bounded and printable, and
// keeps secrets out of all output.
package sanitize

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
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
	head, more := shorten(s, MaxLen)
	return strconv.Quote(head) + more
}

// Plain returns s without quotes: at most MaxLen bytes, white space folded,
// and every rune that is not printable (control, bidirectional, invalid) replaced by U+FFFD.
func Plain(s string) string {
	if len(s) <= MaxLen && !strings.ContainsFunc(s, func(r rune) bool { return r < '!' || r > '~' }) {
		return s // as nearly every text is
	}
	head, more := shorten(s, MaxLen)
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, strings.Join(strings.Fields(strings.ToValidUTF8(head, string(unicode.ReplacementChar))), " ")) + more
}

// linked matches what chats make links of.
var linked = regexp.MustCompile(`\.([A-Za-z])|:(/)`)

// NoMarkup returns s for chats and pagers, where foreign text must add no link, mention or line: Plain, of ASCII letters, digits and
// harmless punctuation, with U+FFFD for the rest. What exceeds most bytes is cut off.
func NoMarkup(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '`':
			return '\''
		case r > '~' && r != '…', strings.ContainsRune(`<>&|*~@\`, r):
			return unicode.ReplacementChar
		}
		return r
	}, Plain(s))
	head, more := shorten(linked.ReplaceAllString(s, string(unicode.ReplacementChar)+"$1$2"), most)
	return head + more
}

// shorten cuts s at a rune boundary after at most most bytes. more is the mark of what was cut off, or empty.
func shorten(s string, most int) (head, more string) {
	if len(s) <= most {
		return s, ""
	}
	n := most
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

// Mask stands wherever a secret stood.
const Mask = "[redacted]"

// Secret is a text that prints as Mask under every verb and encoding. The zero value is empty and prints as "".
// Compare two by Reveal, not with ==.
type Secret struct {
	// A pointer, since fmt shows unexported fields of others' structs without asking their methods.
	v *string
}

// NewSecret returns v as a secret.
func NewSecret(v string) Secret { return Secret{&v} }

// Reveal returns the secret itself, for the one place that sends it.
func (s Secret) Reveal() string {
	if s.v == nil {
		return ""
	}
	return *s.v
}

// Empty reports whether there is no secret.
func (s Secret) Empty() bool { return s.Reveal() == "" }

func (s Secret) String() string {
	if s.Empty() {
		return ""
	}
	return Mask
}

// GoString keeps %#v from printing the field.
func (s Secret) GoString() string { return `sanitize.NewSecret("` + s.String() + `")` }

// MarshalText keeps encoders from printing the field.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Redactor cuts known secrets out of texts and errors. The zero value cuts nothing.
type Redactor struct{ old *[]string }

// minimum is the shortest text that is searched for: shorter ones would mask parts of ordinary words.
const minimum = 4

// NewRedactor returns a Redactor for the given secrets, in every spelling that a URL, JSON or a Go string gives them.
func NewRedactor(secrets ...string) Redactor {
	var old []string
	for _, s := range secrets {
		asJSON, _ := json.Marshal(s) // a text always encodes
		asGo := strconv.Quote(s)
		for _, v := range []string{s, url.PathEscape(s), url.QueryEscape(s), string(asJSON[1 : len(asJSON)-1]), asGo[1 : len(asGo)-1]} {
			if len(v) >= minimum && !slices.Contains(old, v) {
				old = append(old, v)
			}
		}
	}
	// The longest first, so that no part of a secret is left standing beside the mask of another.
	slices.SortStableFunc(old, func(a, b string) int { return len(b) - len(a) })
	return Redactor{&old}
}

// URLParts returns what of a URL must never be shown: the whole, host, userinfo (also as basic auth sends it), path, its
// longer segments, and query values.
func URLParts(raw string) []string {
	parts := []string{raw}
	u, err := url.Parse(raw)
	if err != nil {
		return parts
	}
	parts = append(parts, u.String(), u.Redacted(), u.Host, u.Hostname(), u.RequestURI(), u.RawQuery)
	if u.User != nil {
		pass, _ := u.User.Password()
		basic := base64.StdEncoding.EncodeToString([]byte(u.User.Username() + ":" + pass))
		parts = append(parts, u.User.String(), u.User.Username(), pass, basic)
	}
	if len(u.Path) > 1 {
		parts = append(parts, u.Path, u.EscapedPath())
	}
	for seg := range strings.SplitSeq(u.Path, "/") {
		// Shorter segments ("rpc", "v2", "mainnet") are words that errors use, and no keys.
		if len(seg) > 7 {
			parts = append(parts, seg)
		}
	}
	for _, vs := range u.Query() {
		parts = append(parts, vs...)
	}
	return parts
}

// HeaderParts returns what of a header's value must never be shown: the whole, and what follows a scheme such as Bearer.
func HeaderParts(v string) []string {
	_, token, _ := strings.Cut(v, " ")
	return []string{v, token}
}

// Text returns s without the secrets.
func (r Redactor) Text(s string) string {
	if r.old == nil {
		return s
	}
	for _, o := range *r.old {
		s = strings.ReplaceAll(s, o, Mask)
	}
	return s
}

// Error returns err with the secrets cut out of its message; errors.Is and errors.As still see through it.
func (r Redactor) Error(err error) error {
	if err == nil {
		return nil
	}
	msg := err.Error()
	clean := r.Text(msg)
	if clean == msg {
		return err
	}
	return &redacted{msg: clean, err: err}
}

type redacted struct {
	msg string
	err error
}

func (e *redacted) Error() string { return e.msg }
func (e *redacted) Unwrap() error { return e.err }
