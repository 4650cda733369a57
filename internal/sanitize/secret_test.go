package sanitize_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

const canary = "canary-7f3a/ä\"x"

func TestNoVerbPrintsASecret(t *testing.T) {
	s := sanitize.NewSecret(canary)
	type holder struct {
		Shown  sanitize.Secret
		hidden sanitize.Secret
		words  sanitize.Redactor
		m      map[string]sanitize.Secret
	}
	h := holder{s, s, sanitize.NewRedactor(canary), map[string]sanitize.Secret{"k": s}}
	asJSON, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{
		fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q %x", s, s, s, s, s, s),
		fmt.Sprintf("%v %+v %#v", h, h, h), fmt.Sprintf("%v %+v %#v", &h, &h, &h), string(asJSON),
	} {
		if strings.Contains(got, "canary") || strings.Contains(got, fmt.Sprintf("%x", "canary")) {
			t.Errorf("printed %s", got)
		}
	}
	if s.Reveal() != canary || s.Empty() || fmt.Sprint(sanitize.Secret{}) != "" {
		t.Error("a secret must reveal itself when asked, and an empty one print nothing")
	}
}

func TestAnErrorWithoutItsSecrets(t *testing.T) {
	const url = "https://user:pass-word@node.example.org:8545/v3/0123456789abcdef?key=canary-query&n=1"
	r := sanitize.NewRedactor(append(sanitize.URLParts(url), canary)...)
	for _, text := range []string{
		url,
		"Post \"https://user:***@node.example.org:8545/v3/0123456789abcdef?key=canary-query&n=1\": EOF",
		"dial tcp: lookup node.example.org: no such host",
		"no luck at /v3/0123456789abcdef?key=canary-query&n=1",
		"project 0123456789abcdef is over its limit",
		"bad user pass-word", "not authorized: Basic dXNlcjpwYXNzLXdvcmQ=", "bad key canary-query", "bad header " + canary,
		`{"error":"canary-7f3a/ä\"x"}`, "canary-7f3a%2F%C3%A4%22x",
	} {
		wrapped := fmt.Errorf("%s: %w", text, io.ErrUnexpectedEOF)
		got := r.Error(wrapped)
		for _, part := range []string{"0123456789abcdef", "canary", "pass-word", "dXNlcjpwYXNzLXdvcmQ", "node.example"} {
			if strings.Contains(got.Error(), part) {
				t.Errorf("%q still says %s", got, part)
			}
		}
		if !errors.Is(got, io.ErrUnexpectedEOF) || !strings.Contains(got.Error(), sanitize.Mask) {
			t.Errorf("%q has lost its cause or its mask", got)
		}
	}
	if got := sanitize.NewRedactor(sanitize.HeaderParts("Bearer tok-en")...).Text("bad token tok-en in Bearer tok-en"); got != "bad token [redacted] in [redacted]" {
		t.Errorf("a header's token is not cut out: %s", got)
	}
	if plain := r.Error(io.EOF); plain != io.EOF {
		t.Errorf("an error without secrets became %v", plain)
	}
}
