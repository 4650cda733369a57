package selftest

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxAsked bounds a request, in bytes.
const maxAsked = 1 << 20

type request struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// serve answers on l until the function that it returns is called.
func serve(l net.Listener, h http.Handler) (end func()) {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) }) // it ends with the close below, and says so
	return func() {
		s.Close()
		serving.Wait()
	}
}

// handler is a provider that has the recorded answers, and an API that claims.
func (b *Bundle) handler(claim []byte) http.Handler {
	results := map[string]json.RawMessage{}
	for _, c := range b.Calls {
		results[key(c.Method, c.Params)] = c.Result
	}
	answer := func(r request) map[string]any {
		if result, ok := results[key(r.Method, r.Params)]; ok {
			return map[string]any{"jsonrpc": "2.0", "id": r.ID, "result": result}
		}
		return map[string]any{"jsonrpc": "2.0", "id": r.ID, "error": map[string]any{"code": -32000, "message": "header not found"}}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/kms/on-chain/base", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(claim)
	})
	mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) {
		var raw json.RawMessage
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAsked)).Decode(&raw); err != nil {
			http.Error(w, "no JSON", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		var batch []request
		if json.Unmarshal(raw, &batch) == nil {
			answers := []map[string]any{}
			for _, one := range batch {
				answers = append(answers, answer(one))
			}
			_ = json.NewEncoder(w).Encode(answers)
			return
		}
		var one request
		_ = json.Unmarshal(raw, &one) // what is none is no recorded call
		_ = json.NewEncoder(w).Encode(answer(one))
	})
	return mux
}

// key tells calls apart. No parameters can be spelled in three ways.
func key(method string, params json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, params) != nil || b.String() == "null" || b.String() == "[]" {
		return method
	}
	return method + b.String()
}
