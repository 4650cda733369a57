// Package sanitize parses untrusted hex into ids and addresses, makes untrusted text bounded and printable, and keeps secrets
// out of all output.
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

// MaxLen is the number of bytes of an untrusted text that Quote and Plain keep.
const MaxLen = 200

// Quote returns s as a Go string literal. After MaxLen bytes it is cut and marked with "…".
func Quote(s string) string {
	head, more := shorten(s, MaxLen)
	return strconv.Quote(head) + more
}

// Plain returns at most MaxLen bytes of s with white space folded. Runes that are not printable (control, bidirectional, invalid)
// are replaced by U+FFFD.
func Plain(s string) string {
	if len(s) <= MaxLen && !strings.ContainsFunc(s, func(r rune) bool { return r < '!' || r > '~' }) {
		return s // the common case
	}
	head, more := shorten(s, MaxLen)
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, strings.Join(strings.Fields(strings.ToValidUTF8(head, string(unicode.ReplacementChar))), " ")) + more
}

// linked matches text that chats turn into links.
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

// ParseID parses a bytes32: exactly 64 hex digits in any case, with or without the prefix 0x.
func ParseID(s string) (common.Hash, error) {
	var id common.Hash
	return id, decode(id[:], s)
}

// ParseAddress parses an address: exactly 40 hex digits in any case, with or without the prefix 0x. The EIP-55 checksum is not
// checked, because sources spell addresses in every way.
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

// JoinNames appends b to the comma-separated names in a, unless it is empty or already there.
func JoinNames(a, b string) string {
	if b == "" || slices.Contains(strings.Split(a, ", "), b) {
		return a
	}
	return Plain(strings.TrimPrefix(a+", "+b, ", "))
}

// BareHex returns a hex text without prefix, in lower case.
func BareHex(s string) string { return strings.TrimPrefix(strings.ToLower(strings.TrimSpace(s)), "0x") }

// Mask replaces secrets.
const Mask = "[redacted]"

// Secret is a text that prints as Mask with every verb and encoding. The zero value is empty and prints as "". Compare secrets by
// Reveal, not with ==.
type Secret struct {
	// A pointer, because fmt prints unexported struct fields without calling their methods.
	v *string
}

// NewSecret returns v as a secret.
func NewSecret(v string) Secret { return Secret{&v} }

// Reveal returns the secret itself. Only the code that sends it should call this.
func (s Secret) Reveal() string {
	if s.v == nil {
		return ""
	}
	return *s.v
}

// Empty reports whether the secret is empty.
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

// Redactor masks known secrets in texts and errors. The zero value masks nothing.
type Redactor struct{ old *[]string }

// minimum is the length of the shortest text that is masked. Shorter ones would match parts of ordinary words.
const minimum = 4

// NewRedactor returns a Redactor for secrets, also as escaped in URLs, JSON and Go strings.
func NewRedactor(secrets ...string) Redactor {
	var old []string
	for _, s := range secrets {
		asJSON, _ := json.Marshal(s) // never fails for a string
		asGo := strconv.Quote(s)
		for _, v := range []string{s, url.PathEscape(s), url.QueryEscape(s), string(asJSON[1 : len(asJSON)-1]), asGo[1 : len(asGo)-1]} {
			if len(v) >= minimum && !slices.Contains(old, v) {
				old = append(old, v)
			}
		}
	}
	// Longest first, so that masking one secret leaves no part of another.
	slices.SortStableFunc(old, func(a, b string) int { return len(b) - len(a) })
	return Redactor{&old}
}

// URLParts returns the secret parts of a URL: the whole, host, userinfo (also in basic auth encoding), path, its longer segments,
// and query values.
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
		// Shorter segments ("rpc", "v2", "mainnet") are not keys, and errors use these words.
		if len(seg) > 7 {
			parts = append(parts, seg)
		}
	}
	for _, vs := range u.Query() {
		parts = append(parts, vs...)
	}
	return parts
}

// HeaderParts returns the secret parts of a header's value: the whole, and the part after a scheme such as Bearer.
func HeaderParts(v string) []string {
	_, token, _ := strings.Cut(v, " ")
	return []string{v, token}
}

// Text returns s with secrets masked.
func (r Redactor) Text(s string) string {
	if r.old == nil {
		return s
	}
	for _, o := range *r.old {
		s = strings.ReplaceAll(s, o, Mask)
	}
	return s
}

// Error returns err with secrets masked in its message. It wraps err.
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
