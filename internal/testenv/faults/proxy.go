// Package faults stands between a client and what it asks, a JSON-RPC node or the API, and lets several things go wrong
// at once, for tests.
//
// What happens to time, connections and bytes is the same on both sides and stands here. What a node can get wrong in
// JSON-RPC is a rpcfault.Fault; what the API can get wrong in its answer is a fakeapi.Fault.
package faults

import (
	"net/http"
	"sync"

	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// Fault is one thing that goes wrong with some requests.
type Fault struct {
	When When
	Wire Wire           // the zero value changes nothing
	RPC  rpcfault.Fault // for nodes
}

// When chooses requests by their number, from 0. The zero value is all of them.
type When struct {
	From  int
	Count int // zero: without end
	Every int // the first of so many; zero: each
}

func (w When) hits(n int) bool {
	return n >= w.From && (w.Count == 0 || n < w.From+w.Count) && (w.Every == 0 || (n-w.From)%w.Every == 0)
}

// Wire spoils the answer of next, or answers in its place. Until over is closed it may take its time.
type Wire func(w http.ResponseWriter, r *http.Request, next http.Handler, over <-chan struct{})

// Proxy is an http.Handler that passes everything on but for its faults.
type Proxy struct {
	serve  func(http.ResponseWriter, *http.Request, rpcfault.Fault)
	faults []Fault
	over   chan struct{}
	once   sync.Once

	mu       sync.Mutex
	requests int
}

// Node returns a Proxy of the JSON-RPC node at a URL.
func Node(url string, faults ...Fault) *Proxy {
	node := rpcfault.New(url)
	return &Proxy{serve: node.Serve, faults: faults, over: make(chan struct{})}
}

// API returns a Proxy of an HTTP handler.
func API(h http.Handler, faults ...Fault) *Proxy {
	serve := func(w http.ResponseWriter, r *http.Request, _ rpcfault.Fault) { h.ServeHTTP(w, r) }
	return &Proxy{serve: serve, faults: faults, over: make(chan struct{})}
}

// Requests is the number of requests so far.
func (p *Proxy) Requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

// Close lets go of the requests that faults hold.
func (p *Proxy) Close() { p.once.Do(func() { close(p.over) }) }

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	n := p.requests
	p.requests++
	p.mu.Unlock()

	var wires []Wire
	var spoil []rpcfault.Fault
	for _, f := range p.faults {
		if f.When.hits(n) {
			wires, spoil = append(wires, f.Wire), append(spoil, f.RPC)
		}
	}
	var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, rpcfault.Join(spoil...)) })
	for _, wire := range wires {
		if wire != nil {
			next := h
			h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { wire(w, r, next, p.over) })
		}
	}
	h.ServeHTTP(w, r)
}
