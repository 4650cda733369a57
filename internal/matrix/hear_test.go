package matrix_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"

	"github.com/kms-auditor/kms-auditor/internal/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/faults"
)

// committing marks a request for which fakeapi commits a fault already.
type committing struct{}

// commits has fakeapi commit a fault for one request, of several the last.
func (g *rig) commits(f fakeapi.Fault) faults.Wire {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler, _ <-chan struct{}) {
		if r.Context().Value(committing{}) != nil {
			next.ServeHTTP(w, r)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), committing{}, true))
		g.serving.Lock()
		defer g.serving.Unlock()
		g.server.Fail(f)
		next.ServeHTTP(w, r)
		g.server.Heal()
	}
}

func isDetail(r *http.Request) bool { return strings.Contains(r.URL.Path, "/kms/on-chain/") }

// overhear keeps what the API says to the auditor, which may use it before the handler returns.
func (g *rig) overhear(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isDetail(r) {
			w = &tapped{ResponseWriter: w, note: g.note}
		}
		h.ServeHTTP(w, r)
	})
}

func (g *rig) note(body []byte) {
	sum := sha256.Sum256(body)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.heard[hex.EncodeToString(sum[:])] = read(body)
}

// lie is what the API would say with one more edit.
func (g *rig) lie(e edit) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return encode(g.scene.claim(g.scene.now().snapshot, append(slices.Clone(g.edits), e)))
}

// tapped notes all that was written, each time that more is.
type tapped struct {
	http.ResponseWriter
	note func([]byte)
	body []byte
}

func (t *tapped) Write(b []byte) (int, error) {
	t.body = append(t.body, b...)
	t.note(t.body)
	return t.ResponseWriter.Write(b)
}

func (t *tapped) Unwrap() http.ResponseWriter { return t.ResponseWriter }
