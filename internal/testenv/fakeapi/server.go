// Package fakeapi is a small Phala Cloud API for tests, the demo and e2e: a world that can be changed while it
// serves, and faults that it can be told to commit.
package fakeapi

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// Server answers, under any prefix, GET /kms/on-chain/{chain}, /kms, /kms/{id} and /kms/phala/next_app_id. It is safe
// for concurrent use.
type Server struct {
	mux      *http.ServeMux
	closed   chan struct{}
	closing  sync.Once
	mu       sync.Mutex
	chains   map[string]Chain
	kms      []KMS // nil: what the chains make
	fault    *Fault
	key      string
	requests int
	reserved int
}

// New returns a healthy server that knows the given chains and wants no key.
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

// Set adds a chain, or replaces the one of that name.
func (s *Server) Set(c Chain) {
	c = c.clone()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chains[c.ChainName] = c
}

// Update changes a chain that is there. f must not keep the pointer.
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

// RequireKey makes the server refuse requests without this X-API-Key; empty: it wants none.
func (s *Server) RequireKey(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = key
}

// Requests counts the requests so far, the failed ones included.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// Close lets go of the requests that the fault Hang holds.
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

// reply commits the fault, or else gives the body, or where it is not ok the refusal.
func (s *Server) reply(w http.ResponseWriter, r *http.Request, f *Fault, ok bool, status int, detail string, body []byte) {
	switch {
	case f != nil:
		f.commit(w, r, body, s.closed)
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
	_, _ = w.Write(body) // a client that went away is the client's affair
}
