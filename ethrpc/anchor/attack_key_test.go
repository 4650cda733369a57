package anchor_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
)

// TestNoDocumentShowsTheKey: an endpoint that echoes the path it was asked for.
func TestNoDocumentShowsTheKey(t *testing.T) {
	w := newWorld(t)
	for _, body := range []string{`{"version":"` + secret + `","data":{}}`, `{"` + secret + `":1,"` + secret + `":2}`, `"` + secret + `"`, secret} {
		c := w.client(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { _, _ = rw.Write([]byte(body)) }))
		_, failed := c.Sync(t.Context(), common.Hash{}, w.now)
		for _, f := range failed {
			if strings.Contains(f.Error(), secret) {
				t.Errorf("%s: %s", body, f)
			}
		}
	}
}
