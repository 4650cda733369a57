package kmsapi_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// TestAnAnswerThatComesAgain: a decoded answer is reused only for an identical body.
func TestAnAnswerThatComesAgain(t *testing.T) {
	body := func(name, tail string) string {
		return `{"chain_name":"` + name + `","chain_id":1,"contracts":[]` + strings.Repeat(" ", 100<<10) + "}" + tail
	}
	var answer string
	cut := false
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if cut {
			w.Header().Set("Content-Length", "1000000")
		}
		_, _ = w.Write([]byte(answer))
	}))
	defer srv.Close()
	c, err := kmsapi.New(kmsapi.Options{BaseURL: srv.URL, RetryDelay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, row := range []struct {
		sentence, body, name string
		cut                  bool
	}{
		{"the first", body("a", ""), "a", false},
		{"the same", body("a", ""), "a", false},
		{"another at its beginning", body("b", ""), "b", false},
		{"another at its end", body("b", "\n"), "b", false},
		{"the same with more after it", body("b", "\n\n"), "b", false},
		{"the same with less", body("b", "\n"), "b", false},
		{"the same, cut short by the network", body("b", "\n")[:70<<10], "", true},
		{"the same as before that", body("b", "\n"), "b", false},
		{"what is no JSON any more", body("b", "\n}"), "", false},
		{"the same once more", body("b", "\n"), "b", false},
	} {
		answer, cut = row.body, row.cut
		d, err := c.OnChainDetail(t.Context(), "base")
		if row.name == "" {
			if err == nil {
				t.Errorf("%s: taken for %q", row.sentence, d.ChainName)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", row.sentence, err)
		}
		sum := sha256.Sum256([]byte(row.body))
		if d.ChainName != row.name || d.Source.Body != row.body || d.Source.SHA256 != hex.EncodeToString(sum[:]) || d.Source.FetchedAt.IsZero() {
			t.Errorf("%s: %q with %d bytes and digest %s", row.sentence, d.ChainName, len(d.Source.Body), d.Source.SHA256)
		}
	}
}
