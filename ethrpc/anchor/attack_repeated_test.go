package anchor_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
)

// TestOneUpdateManyTimes is kept once.
func TestOneUpdateManyTimes(t *testing.T) {
	w := newWorld(t)
	c := w.client(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, r)
		b := rec.Body.Bytes()
		if strings.Contains(r.URL.Path, "updates") {
			var all []json.RawMessage
			_ = json.Unmarshal(b, &all)
			for range 40 {
				all = append(all, all[len(all)-1])
			}
			b, _ = json.Marshal(all)
		}
		if strings.Contains(r.URL.Path, "bootstrap") && !strings.Contains(r.URL.Path, w.checkpoint.Hex()) {
			http.Error(rw, "no", 404)
			return
		}
		_, _ = rw.Write(b)
	}))
	for n := uint64(2); n < 6; n++ {
		w.finalize(n*period + 20)
		head, _ := c.Sync(t.Context(), common.Hash{}, w.now)
		if n := len(head.Documents.Updates); n > 10 {
			t.Fatalf("%d updates are kept", n)
		}
	}
}
