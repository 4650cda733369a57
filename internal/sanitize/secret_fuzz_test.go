package sanitize_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// spellings are how a text comes into an error: as it is, in a URL, in JSON, and quoted.
func spellings(s string) []string {
	asJSON, err := json.Marshal(s)
	if err != nil {
		panic(err) // a text always encodes
	}
	quoted := strconv.Quote(s)
	return []string{s, url.PathEscape(s), url.QueryEscape(s), string(asJSON[1 : len(asJSON)-1]), quoted[1 : len(quoted)-1]}
}

// FuzzRedact holds that a secret never comes through, however it is spelt and whatever stands beside it.
func FuzzRedact(f *testing.F) {
	f.Add(canary, "key=", "&n=1")
	f.Add("aaaa", "aaa", "aaaaa")
	f.Add("a b+c%20d", "%20", "%")
	f.Add("tok\u200ben<&>", "\"", "\\")
	f.Add("abc", "too short ", " to be searched for")
	f.Fuzz(func(t *testing.T, hidden, before, after string) {
		// A mask may complete what has its own characters.
		if len(hidden) < 4 || strings.ContainsAny(hidden, "[]") || strings.Contains(sanitize.Mask, hidden) {
			return
		}
		r := sanitize.NewRedactor(hidden)
		for _, spelt := range spellings(hidden) {
			text := before + spelt + after
			err := r.Error(errors.Join(io.EOF, errors.New(text)))
			for _, got := range []string{r.Text(text), err.Error()} {
				if strings.Contains(got, spelt) || !strings.Contains(got, sanitize.Mask) {
					t.Errorf("%q comes through in %q", spelt, got)
				}
			}
			if !errors.Is(err, io.EOF) {
				t.Errorf("%v has lost its cause", err)
			}
		}
	})
}

// FuzzURL holds that no part of a URL that may be a key comes through in the ways in which libraries print URLs.
func FuzzURL(f *testing.F) {
	f.Add("https://user:pass-word@node.example.org:8545/v3/0123456789abcdef?key=canary-query&n=1")
	f.Add("http://token@[::1]:8545/%6Bey-%2F-key?a=b+c%20d#fragment")
	f.Add("//host/path")
	f.Add("mailto:somebody@example.org")
	f.Add("https://h/?key=%zz&token=0123456789")
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := url.Parse(raw)
		if err != nil || strings.ContainsAny(raw, "[]") {
			return
		}
		r := sanitize.NewRedactor(sanitize.URLParts(raw)...)
		hidden := append(strings.Split(u.Path, "/"), u.Path, u.Host)
		for _, vs := range u.Query() {
			hidden = append(hidden, vs...)
		}
		if u.User != nil {
			pass, _ := u.User.Password()
			hidden = append(hidden, u.User.Username(), pass)
		}
		for _, printed := range []string{raw, u.String(), u.Redacted(), u.RequestURI(), u.Path, u.EscapedPath(), u.RawQuery, u.Host, (&url.Error{Op: "Post", URL: u.Redacted(), Err: io.EOF}).Error()} {
			got := r.Text("calling " + printed + " ended")
			for _, h := range hidden {
				if len(h) > 7 && !strings.Contains("calling  ended Post \"[redacted]\": EOF", h) && strings.Contains(got, h) {
					t.Errorf("%q of %q comes through: %q", h, raw, got)
				}
			}
		}
	})
}
