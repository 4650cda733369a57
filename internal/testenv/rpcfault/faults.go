package rpcfault

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Status answers every request with an HTTP status and, unless empty, a Retry-After header.
func Status(code int, retryAfter string) Fault {
	return Fault{Name: fmt.Sprintf("HTTP %d", code), HTTP: func(w http.ResponseWriter, r *http.Request, _ []Call, _ bool) bool {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		// Some providers echo the URL, with the key.
		http.Error(w, "no luck at "+r.URL.String(), code)
		return true
	}}
}

// Body answers every request with status 200 and a body.
func Body(name, contentType, body string) Fault {
	return Fault{Name: name, HTTP: func(w http.ResponseWriter, _ *http.Request, _ []Call, _ bool) bool {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write([]byte(body))
		return true
	}}
}

// Redirect sends every request elsewhere.
func Redirect(to string) Fault {
	return Fault{Name: "redirect", HTTP: func(w http.ResponseWriter, r *http.Request, _ []Call, _ bool) bool {
		http.Redirect(w, r, to, http.StatusTemporaryRedirect)
		return true
	}}
}

// Hang gives no answer until the client disconnects.
var Hang = Fault{Name: "hang", HTTP: func(_ http.ResponseWriter, r *http.Request, _ []Call, _ bool) bool {
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}}

// Huge sends an endless answer.
var Huge = Fault{Name: "huge body", HTTP: func(w http.ResponseWriter, _ *http.Request, _ []Call, _ bool) bool {
	w.Header().Set("Content-Type", "application/json")
	chunk := append([]byte(`["`), bytes.Repeat([]byte("x"), 1<<20)...)
	for {
		if _, err := w.Write(chunk); err != nil {
			return true
		}
	}
}}

// NoBatches refuses every batch, but answers single calls.
var NoBatches = MaxBatch(1)

// MaxBatch refuses batches of more than n calls.
func MaxBatch(n int) Fault {
	return Fault{Name: fmt.Sprintf("batches over %d refused", n), HTTP: func(w http.ResponseWriter, _ *http.Request, calls []Call, batch bool) bool {
		if !batch || len(calls) <= n && n > 1 {
			return false
		}
		write(w, Answer{Version: "2.0", ID: json.RawMessage("null"), Error: &Error{-32600, "batch of this size is not allowed"}})
		return true
	}}
}

// Result gives every eth_call the same result.
func Result(name, result string) Fault {
	return Fault{Name: name, Reply: func(c Call, a *Answer) {
		if c.Method == "eth_call" && !ProbesBlockHash(c, a) {
			a.Result, a.Error = json.RawMessage(result), nil
		}
	}}
}

// ProbesBlockHash reports whether a call is the probe at a random block hash, which a node must refuse.
func ProbesBlockHash(c Call, a *Answer) bool {
	return a.Error != nil && len(c.Params) == 2 && bytes.Contains(c.Params[1], []byte("blockHash"))
}

// Refuse answers every call of a method with an error object.
func Refuse(method string, code int, message string) Fault {
	return Fault{Name: message, Reply: func(c Call, a *Answer) {
		if c.Method == method {
			a.Result, a.Error = nil, &Error{code, message}
		}
	}}
}

// ChainID answers eth_chainId with id.
func ChainID(id uint64) Fault {
	return Fault{Name: "other chain", Reply: func(c Call, a *Answer) {
		if c.Method == "eth_chainId" {
			a.Result = json.RawMessage(fmt.Sprintf(`"0x%x"`, id))
		}
	}}
}

// The ways to spoil a whole batch.
var (
	ShortBatch = Fault{Name: "short batch", Batch: func(a []Answer) []Answer { return a[:len(a)-1] }}
	LongBatch  = Fault{Name: "long batch", Batch: func(a []Answer) []Answer {
		return append(a, Answer{Version: "2.0", ID: json.RawMessage("987654"), Result: json.RawMessage(`"0x1"`)})
	}}
	Reordered = Fault{Name: "reordered batch", Batch: func(a []Answer) []Answer { slices.Reverse(a); return a }}
	TwiceOne  = Fault{Name: "one answer twice", Batch: func(a []Answer) []Answer { a[len(a)-1] = a[0]; return a }}
	ForeignID = Fault{Name: "an id that was not asked", Batch: func(a []Answer) []Answer {
		a[len(a)-1].ID = json.RawMessage("987654")
		return a
	}}
	NoIDs = Fault{Name: "no ids", Reply: func(_ Call, a *Answer) { a.ID = nil }}
)

// OtherBlock answers every request for a block with the newest block.
var OtherBlock = Fault{Name: "another block", Ask: func(c *Call) {
	if strings.HasPrefix(c.Method, "eth_getBlockBy") {
		c.Method, c.Params[0] = "eth_getBlockByNumber", json.RawMessage(`"latest"`)
	}
}}

// IgnoresBlockHash answers calls at a block hash as of the newest block.
var IgnoresBlockHash = Fault{Name: "block hash ignored", Ask: func(c *Call) {
	for i, p := range c.Params {
		if strings.Contains(string(p), "blockHash") {
			c.Params[i] = json.RawMessage(`"latest"`)
		}
	}
}}

// RefusesBlockObject accepts a block only as a number or a tag.
var RefusesBlockObject = Fault{Name: "block object refused", Reply: func(c Call, a *Answer) {
	for _, p := range c.Params {
		if strings.Contains(string(p), "blockHash") {
			a.Result, a.Error = nil, &Error{-32602, "invalid argument 1: json: cannot unmarshal object into Go value of type string"}
		}
	}
}}
