//go:build e2e

package e2e_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// secrets has a secret for every place in a configuration that can have one. Every row of TestAudit uses them; none may be shown.
type secrets struct{ key, path, query, user, password, header string }

func newSecrets() secrets {
	return secrets{"phak_canary-of-the-api", "canary-in-path", "canary-in-query", "canary-user", "canary:p@ss/word", "Token canary-in-header"}
}

// guard puts the secrets into the URL of a provider.
func (s secrets) guard(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		panic(err)
	}
	u.User = url.UserPassword(s.user, s.password)
	u.Path = "/v2/" + s.path
	u.RawQuery = url.Values{"key": {s.query}}.Encode()
	return u.String()
}

func (s secrets) provider(name, url string) providerSettings {
	return providerSettings{Name: name, URL: url, Headers: map[string]string{"X-Token": s.header}, Timeout: "2s"}
}

// gate refuses requests without the secrets, so that every row proves that they were sent.
func (s secrets) gate(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if got := (secrets{s.key, strings.TrimPrefix(r.URL.Path, "/v2/"), r.URL.Query().Get("key"), user, password, r.Header.Get("X-Token")}); got != s {
			http.Error(w, "no entry", http.StatusTeapot)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// absent fails the test if text contains a secret in any encoding.
func (s secrets) absent(t *testing.T, where, text string) {
	t.Helper()
	basic := base64.StdEncoding.EncodeToString([]byte(s.user + ":" + s.password))
	for _, canary := range []string{"canary", s.password, url.QueryEscape(s.password), url.PathEscape(s.password), basic} {
		if strings.Contains(text, canary) {
			t.Errorf("%s shows the secret %q:\n%s", where, canary, text)
		}
	}
}

// absentFrom checks an evidence file and the API's answers in it.
func (s secrets) absentFrom(t *testing.T, path string) {
	t.Helper()
	f := decodeEvidence(t, path)
	s.absent(t, "the evidence", readFile(t, path))
	for _, c := range f.Chains {
		for _, look := range []*evidence.Look{&c.First, c.Second} {
			if look != nil && look.Claim != nil {
				s.absent(t, "the API's answer in the evidence", string(look.Claim.Body))
			}
		}
	}
}

// echoing answers with the secrets that were sent in place of the format's verb, as some providers do when they refuse. They come
// first, so that no cut hides them.
func echoing(status int, format string) rpcfault.Fault {
	return rpcfault.Fault{Name: "echo", HTTP: func(w http.ResponseWriter, r *http.Request, _ []rpcfault.Call, _ bool) bool {
		_, token, _ := strings.Cut(r.Header.Get("X-Token"), " ")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, format, fmt.Sprintf("%s with %s and %s", token, r.Header["Authorization"], r.URL))
		return true
	}}
}
