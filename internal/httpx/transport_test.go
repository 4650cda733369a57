package httpx_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/internal/httpx"
)

func TestHeadersWithoutAnEndAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name    string
		size    int
		refused bool
	}{{"60 KiB are read", 60 << 10, false}, {"64 KiB are too much", 64 << 10, true}} {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X", strings.Repeat("x", tt.size))
			}))
			defer s.Close()
			transport := httpx.Transport()
			defer transport.CloseIdleConnections()
			resp, err := (&http.Client{Transport: transport}).Get(s.URL)
			if err == nil {
				resp.Body.Close()
			}
			if (err != nil) != tt.refused {
				t.Errorf("%v, want an error: %t", err, tt.refused)
			}
		})
	}
}
