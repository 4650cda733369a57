// Package rpcfault stands between a client and a real JSON-RPC node and spoils what passes, for tests: calls and answers,
// and what happens to time, connections and bytes. What the API can get wrong in its answer is a fakeapi.Fault.
// Every Fault is one way in which providers were seen to misbehave.
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

// Fault spoils what passes; nil hooks let it pass as it is.
type Fault struct {
	Name string
	// When chooses the requests that the fault is about.
	When When
	// HTTP answers in the node's place and reports whether it did.
	HTTP func(w http.ResponseWriter, r *http.Request, calls []Call, batch bool) bool
	// Ask changes a call before the node gets it.
	Ask func(*Call)
	// Reply changes the node's answer to a call.
	Reply func(Call, *Answer)
	// Batch changes a whole answered batch.
	Batch func([]Answer) []Answer
	// Send sends the body of the answer.
	Send func(w http.ResponseWriter, body []byte)
}

// When chooses requests by their number since the fault is in force, from 0. The zero value is all of them.
type When struct {
	From  int
	Count int // zero: without end
	Every int // the first of so many; zero: each
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
	bytes    int // of questions and answers
	before   int // requests before the fault was in force
}

// New returns a Proxy that passes everything on to the node at upstream.
func New(upstream string) *Proxy { return &Proxy{upstream: upstream} }

// Set puts a fault in force; the zero Fault heals.
func (p *Proxy) Set(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.before = f, p.requests
}

// Watch calls seen with every call before it is passed on.
func (p *Proxy) Watch(seen func(Call)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = seen
}

// Requests is the number of HTTP requests so far.
func (p *Proxy) Requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

// Bytes is the number of bytes of all bodies so far, both ways.
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
	_, _ = w.Write(body) // the client may be gone, which is its own affair
}

// pass asks the node, always as a batch, and spoils question and answer.
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
	req.Header.Set("Accept-Encoding", "identity") // gzip takes half the time of a test with the race detector
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
	// The client may be gone, which is its own affair.
	_ = json.NewEncoder(w).Encode(v)
}
