// Package rpcfault is a proxy in front of a real JSON-RPC node that injects faults, for tests: into calls and answers, timing,
// connections and bytes. Every Fault is one way in which real providers misbehave.
package rpcfault

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"sync"
)

// Call is one JSON-RPC request.
type Call struct {
	Version string            `json:"jsonrpc"`
	ID      json.RawMessage   `json:"id"`
	Method  string            `json:"method"`
	Params  []json.RawMessage `json:"params"`
}

// Answer is one JSON-RPC response.
type Answer struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *Error          `json:"error,omitempty"`
}

// Error is a JSON-RPC error object.
type Error struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// Fault has hooks that change requests and answers. Nil hooks change nothing.
type Fault struct {
	Name string
	// When selects the requests.
	When When
	// HTTP may answer instead of the node, and reports whether it did.
	HTTP func(w http.ResponseWriter, r *http.Request, calls []Call, batch bool) bool
	// Ask changes a call before it goes to the node.
	Ask func(*Call)
	// Reply changes the node's answer to a call.
	Reply func(Call, *Answer)
	// Batch changes a whole batch of answers.
	Batch func([]Answer) []Answer
	// Send writes the body of the answer.
	Send func(w http.ResponseWriter, body []byte)
}

// When selects requests by their number since Set, from 0. The zero value selects all.
type When struct {
	From  int
	Count int // zero means no limit
	Every int // selects the first of every so many; zero means each
}

func (w When) hits(n int) bool {
	return n >= w.From && (w.Count == 0 || n < w.From+w.Count) && (w.Every == 0 || (n-w.From)%w.Every == 0)
}

// Proxy is an http.Handler in front of a node. Its methods may be called while it serves.
type Proxy struct {
	upstream string

	mu       sync.Mutex
	fault    Fault
	seen     func(Call)
	requests int
	bytes    int // of requests and answers
	before   int // requests before Set
}

// New returns a Proxy without faults, in front of the node at upstream.
func New(upstream string) *Proxy { return &Proxy{upstream: upstream} }

// Set sets the fault. The zero Fault ends it.
func (p *Proxy) Set(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.before = f, p.requests
}

// Watch calls seen for every call before it is passed on.
func (p *Proxy) Watch(seen func(Call)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = seen
}

// Requests returns the number of HTTP requests so far.
func (p *Proxy) Requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

// Bytes returns the number of bytes of all bodies so far, in both directions.
func (p *Proxy) Bytes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes
}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	var fault Fault
	if p.fault.When.hits(p.requests - p.before) {
		fault = p.fault
	}
	p.requests++
	seen := p.seen
	p.mu.Unlock()

	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	var calls []Call
	batch := bytes.HasPrefix(bytes.TrimSpace(body), []byte("["))
	if !batch {
		calls = make([]Call, 1)
		err = json.Unmarshal(body, &calls[0])
	} else {
		err = json.Unmarshal(body, &calls)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if seen != nil {
		for _, c := range calls {
			seen(c)
		}
	}
	if fault.HTTP != nil && fault.HTTP(w, r, calls, batch) {
		return
	}
	answers, err := p.pass(r, fault, calls)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	if batch && fault.Batch != nil {
		answers = fault.Batch(answers)
	}
	var answer any = answers
	if !batch {
		answer = answers[0]
	}
	w.Header().Set("Content-Type", "application/json")
	asked := len(body)
	if body, err = json.Marshal(answer); err != nil {
		panic(http.ErrAbortHandler)
	}
	p.mu.Lock()
	p.bytes += asked + len(body)
	p.mu.Unlock()
	if fault.Send != nil {
		fault.Send(w, body)
		return
	}
	_, _ = w.Write(body) // the client may have disconnected
}

// pass sends the calls to the node, always as a batch, and applies the fault.
func (p *Proxy) pass(r *http.Request, fault Fault, calls []Call) ([]Answer, error) {
	asked := make([]Call, len(calls))
	for i, c := range calls {
		asked[i] = c
		asked[i].Params = append([]json.RawMessage{}, c.Params...)
		if fault.Ask != nil {
			fault.Ask(&asked[i])
		}
	}
	body, err := json.Marshal(asked)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, p.upstream, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept-Encoding", "identity") // gzip is slow with the race detector
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answers []Answer
	if err := json.NewDecoder(resp.Body).Decode(&answers); err != nil {
		return nil, err
	}
	if fault.Reply != nil {
		byID := map[string]Call{}
		for _, c := range calls {
			byID[string(c.ID)] = c
		}
		for i := range answers {
			fault.Reply(byID[string(answers[i].ID)], &answers[i])
		}
	}
	return answers, nil
}

func write(w http.ResponseWriter, v any) {
	// The client may have disconnected.
	_ = json.NewEncoder(w).Encode(v)
}
