package fakeapi

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

const page = "<!DOCTYPE html><html><body><h1>It will be back soon</h1></body></html>"

// serve answers with the fault; body is the right answer.
func (f *Fault) serve(w http.ResponseWriter, r *http.Request, body []byte, closed <-chan struct{}) {
	switch f.Name {
	case Status:
		f.refuse(w)
	case HTML:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, page)
	case Truncated:
		answer(w, http.StatusOK, body[:len(body)/2])
	case WrongTypes:
		answer(w, http.StatusOK, edit(body, "contracts", json.RawMessage(`"none"`)))
	case Missing:
		answer(w, http.StatusOK, edit(body, f.Path, nil))
	case Replaced:
		answer(w, http.StatusOK, edit(body, f.Path, f.Value))
	case WrongChainID:
		answer(w, http.StatusOK, setChainID(body, true))
	case ForeignRow:
		answer(w, http.StatusOK, setChainID(body, false))
	case Huge:
		w.Header().Set("Content-Type", "application/json")
		writeHuge(w, `{"chain_name": "`)
	case GzipBomb:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		writeHuge(z, "")
		_ = z.Close()
	case Redirect:
		w.Header().Set("Location", f.Location)
		w.WriteHeader(http.StatusFound)
	case Hang, Stall:
		if f.Name == Stall {
			answer(w, http.StatusOK, body[:len(body)/2])
			_ = http.NewResponseController(w).Flush()
		}
		select {
		case <-r.Context().Done():
		case <-closed:
		}
	case Reset:
		rpcfault.ResetConnection(w)
	case Null:
		answer(w, http.StatusOK, []byte("null"))
	case Empty:
		answer(w, http.StatusOK, nil)
	case EchoKey:
		f.echo(w, body, r.Header.Get("X-API-Key"))
	}
}

// refuse sends the error body of the fault's shape.
func (f *Fault) refuse(w http.ResponseWriter) {
	status := f.Status
	if status == 0 {
		status = http.StatusInternalServerError
	}
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	const coded = `{"error_code": "ERR-01-001", "message": "The fake was told to fail", "details": [], "suggestions": [], "links": [], "request_id": "req-body"}`
	switch f.Shape {
	case ShapeList:
		answer(w, status, []byte(`{"detail": [{"loc": ["path", "chain"], "msg": "The fake was told to fail", "type": "value_error"}]}`))
	case ShapeCode:
		answer(w, status, []byte(coded))
	case ShapeNested:
		answer(w, status, []byte(`{"detail": `+coded+`}`))
	case ShapeHTML:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, page)
	case ShapeEmpty:
		w.WriteHeader(status)
	default:
		refuse(w, status, "The fake was told to fail")
	}
}

func (f *Fault) echo(w http.ResponseWriter, body []byte, key string) {
	w.Header().Set("X-Request-ID", key)
	text := encode("your key " + key)
	switch f.Status {
	case http.StatusOK:
		body = edit(body, "contracts.0.devices.0.node_name", text)
		answer(w, http.StatusOK, edit(body, "contracts.0.devices.0.device_id", text))
	case 0:
		answer(w, http.StatusUnauthorized, []byte(`{"error_code": `+string(text)+`, "message": `+string(text)+`}`))
	default:
		answer(w, f.Status, []byte(`{"detail": `+string(text)+`}`))
	}
}

// writeHuge writes head and 100 MB, or as much as the client reads.
func writeHuge(w io.Writer, head string) {
	_, err := io.WriteString(w, head)
	chunk := bytes.Repeat([]byte(" "), 100_000)
	for i := 0; i < 1000 && err == nil; i++ {
		_, err = w.Write(chunk)
	}
}

// edit sets the value at a path, or removes it if value is nil. It panics if the path does not exist: the test is wrong.
func edit(body []byte, path string, value json.RawMessage) []byte {
	name, rest, deeper := strings.Cut(path, ".")
	if i, err := strconv.Atoi(name); err == nil {
		var list []json.RawMessage
		must(json.Unmarshal(body, &list))
		list[i] = edit(list[i], rest, value)
		return encode(list)
	}
	var fields map[string]json.RawMessage
	must(json.Unmarshal(body, &fields))
	if _, ok := fields[name]; !ok {
		panic("fakeapi: nothing at " + path)
	}
	switch {
	case deeper:
		fields[name] = edit(fields[name], rest, value)
	case value == nil:
		delete(fields, name)
	default:
		fields[name] = value
	}
	return encode(fields)
}

// setChainID claims another chain id, everywhere or only in the first row.
func setChainID(body []byte, everywhere bool) []byte {
	var c Chain
	must(json.Unmarshal(body, &c))
	other := c.ChainID + 1
	if everywhere {
		c.ChainID = other
	}
	for i := range c.Contracts {
		if everywhere || i == 0 {
			c.Contracts[i].ChainID = other
		}
	}
	return c.body()
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	must(err)
	return b
}

func must(err error) {
	if err != nil {
		panic(err) // unreachable for values of this package
	}
}
