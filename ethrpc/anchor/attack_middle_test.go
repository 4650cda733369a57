package anchor_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ethereum/go-ethereum/common"
)

// TestDocumentsProveTheirHeadWhereTheEndpointFailsInTheMiddle of a Sync.
func TestDocumentsProveTheirHeadWhereTheEndpointFailsInTheMiddle(t *testing.T) {
	w := newWorld(t)
	var fails atomic.Bool
	c := w.client(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if fails.Load() && strings.Contains(r.URL.Path, "finality") {
			http.Error(rw, "down", http.StatusServiceUnavailable)
			return
		}
		w.ServeHTTP(rw, r)
	}))
	w.says(c, start, true)
	w.finalize(3*period + 5)
	fails.Store(true)
	head, failed := c.Sync(t.Context(), common.Hash{}, w.now)
	again, err := head.Documents.Replay(w.now)
	if err != nil || again.Finalized != head.Finalized || again.Attested != head.Attested {
		t.Fatalf("%+v, %v\n%v", again, err, failed)
	}
}
