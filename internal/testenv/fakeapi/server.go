// Package fakeapi is a small Phala Cloud API for tests, the demo and e2e. Its content can be changed while it serves, and it can
// inject faults.
package fakeapi

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// Server serves, under any prefix, GET /kms/on-chain/{chain}, /kms, /kms/{id} and /kms/phala/next_app_id. It is safe for
// concurrent use.
type Server struct {
	mux      *http.ServeMux
	closed   chan struct{}
	closing  sync.Once
	mu       sync.Mutex
	chains   map[string]Chain
	kms      []KMS // nil if derived from the chains
	fault    *Fault
	key      string
	requests int
	reserved int
}

// New returns a server of the given chains, without a fault and without a key.
func New(chains ...Chain) *Server {
	s := &Server{mux: http.NewServeMux(), closed: make(chan struct{}), chains: map[string]Chain{}}
	for _, c := range chains {
		s.Set(c)
	}
	s.mux.HandleFunc("GET /kms/on-chain/{chain}", s.onChain)
	s.mux.HandleFunc("GET /kms", s.listKMS)
	s.mux.HandleFunc("GET /kms/{id}", s.showKMS)
	s.mux.HandleFunc("GET /kms/phala/next_app_id", s.reserve)
	return s
}

// Set adds a chain, or replaces the one with that name.
func (s *Server) Set(c Chain) {
	c = c.clone()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chains[c.ChainName] = c
}

// Update changes an existing chain. f must not keep the pointer.
func (s *Server) Update(name string, f func(*Chain)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.chains[name]
	if !ok {
		panic("fakeapi: no chain " + name)
	}
	f(&c)
	s.chains[name] = c.clone()
}

// RequireKey makes the server refuse requests without this X-API-Key. An empty key is not required.
func (s *Server) RequireKey(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = key
}

// Requests returns the number of requests so far, including failed ones.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// Close ends the requests that hang by a fault.
func (s *Server) Close() { s.closing.Do(func() { close(s.closed) }) }

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests++
	id, key := s.requests, s.key
	s.mu.Unlock()
	w.Header().Set("X-Request-ID", "req-"+strconv.Itoa(id))
	switch sent := r.Header.Get("X-API-Key"); {
	case key != "" && sent == "":
		refuse(w, http.StatusForbidden, "Not authenticated")
		return
	case key != "" && sent != key:
		refuse(w, http.StatusUnauthorized, "Invalid API key")
		return
	}
	at := strings.Index(r.URL.Path+"/", "/kms/")
	if at < 0 {
		refuse(w, http.StatusNotFound, "Not Found")
		return
	}
	http.StripPrefix(r.URL.Path[:at], s.mux).ServeHTTP(w, r)
}

func (s *Server) onChain(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("chain")
	s.mu.Lock()
	c, known := s.chains[name]
	body := c.body()
	s.mu.Unlock()
	s.reply(w, r, s.takeFault(asked{endpoint: OnChain, chain: name}), known, http.StatusBadRequest, "Unsupported chain: "+name, body)
}

// reply serves the fault, or else the body, or a refusal if ok is false.
func (s *Server) reply(w http.ResponseWriter, r *http.Request, f *Fault, ok bool, status int, detail string, body []byte) {
	switch {
	case f != nil:
		f.serve(w, r, body, s.closed)
	case !ok:
		refuse(w, status, detail)
	default:
		answer(w, http.StatusOK, body)
	}
}

func refuse(w http.ResponseWriter, status int, detail string) {
	answer(w, status, encode(map[string]string{"detail": detail}))
}

func answer(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have disconnected
}
