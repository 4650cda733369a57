package anchor_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
)

// TestAnEndpointThatServesNoBootstrapLater must not make documents, which evidence holds, grow by 57 kB a day for ever.
func TestAnEndpointThatServesNoBootstrapLater(t *testing.T) {
	w := newWorld(t)
	first := w.checkpoint
	c := w.client(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "bootstrap") && !strings.Contains(r.URL.Path, first.Hex()) {
			http.Error(rw, "LC bootstrap unavailable", 404)
			return
		}
		w.ServeHTTP(rw, r)
	}))
	for n := uint64(2); n < 50; n++ {
		w.finalize(n * period)
		head, failed := c.Sync(t.Context(), common.Hash{}, w.now)
		if n == 49 {
			t.Logf("%d updates; told: %v", len(head.Documents.Updates), failed)
			if len(head.Documents.Updates) > 32 && len(failed) == 0 {
				t.Error("and nobody is told")
			}
		}
	}
}
