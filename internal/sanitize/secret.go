package sanitize

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

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
