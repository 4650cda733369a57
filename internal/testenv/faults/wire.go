package faults

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"time"
)

// Late answers after a delay.
func Late(delay time.Duration) Wire {
	return Jitter(func() time.Duration { return delay })
}

// Jitter answers after a delay that is another each time.
func Jitter(delay func() time.Duration) Wire {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler, over <-chan struct{}) {
		if wait(r, delay(), over) {
			next.ServeHTTP(w, r)
		}
	}
}

// UpTo draws delays below most. It is safe for concurrent use.
func UpTo(most time.Duration) func() time.Duration {
	return func() time.Duration { return rand.N(most) }
}

// HalfOpen takes the request and never answers.
func HalfOpen(_ http.ResponseWriter, r *http.Request, _ http.Handler, over <-chan struct{}) {
	// Until the body is read, the server does not look whether the client is still there.
	_, _ = io.Copy(io.Discard, r.Body)
	select {
	case <-r.Context().Done():
	case <-over:
	}
	panic(http.ErrAbortHandler)
}

// Reset closes the connection so that the client's kernel sees RST.
func Reset(w http.ResponseWriter, _ *http.Request, _ http.Handler, _ <-chan struct{}) {
	conn := hijack(w)
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// Drip sends the answer in pieces of so many bytes, a delay before each.
func Drip(piece int, delay time.Duration) Wire {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler, over <-chan struct{}) {
		code, header, body := record(r, next)
		begin(w, code, header)
		for len(body) > 0 && wait(r, delay, over) {
			n := min(piece, len(body))
			_, _ = w.Write(body[:n])
			_ = http.NewResponseController(w).Flush()
			body = body[n:]
		}
		if len(body) > 0 {
			panic(http.ErrAbortHandler)
		}
	}
}

// BreaksOff announces the whole answer, and closes the connection after half of it.
func BreaksOff(w http.ResponseWriter, r *http.Request, next http.Handler, _ <-chan struct{}) {
	code, header, body := record(r, next)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	begin(w, code, header)
	_, _ = w.Write(body[:len(body)/2])
	panic(http.ErrAbortHandler)
}

// Truncated answers with the first half, as if that were all.
func Truncated(w http.ResponseWriter, r *http.Request, next http.Handler, _ <-chan struct{}) {
	code, header, body := record(r, next)
	begin(w, code, header)
	_, _ = w.Write(body[:len(body)/2])
}

// Corrupt makes one byte somewhere a zero byte, which nothing that is JSON has.
func Corrupt(seed uint64) Wire {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler, _ <-chan struct{}) {
		code, header, body := record(r, next)
		// The line's end is no part of what is said.
		if n := len(bytes.TrimSpace(body)); n > 0 {
			body[rand.New(rand.NewPCG(seed, 0)).IntN(n)] = 0
		}
		begin(w, code, header)
		_, _ = w.Write(body)
	}
}

// Status answers with another HTTP status and what a proxy says along with it.
func Status(code int) Wire {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler, _ <-chan struct{}) {
		http.Error(w, "no luck today", code)
	}
}

// Says answers with a body in place of any other.
func Says(contentType string, body func() []byte) Wire {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler, _ <-chan struct{}) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(body())
	}
}

// First does something before the request is passed on.
func First(do func()) Wire {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler, _ <-chan struct{}) {
		do()
		next.ServeHTTP(w, r)
	}
}

// wait reports whether the time passed while the client was there.
func wait(r *http.Request, d time.Duration, over <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
	case <-over:
	}
	return false
}

// record is the whole answer of next.
func record(r *http.Request, next http.Handler) (code int, header http.Header, body []byte) {
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, r)
	return rec.Code, rec.Header(), rec.Body.Bytes()
}

func begin(w http.ResponseWriter, code int, header http.Header) {
	for k, v := range header {
		w.Header()[k] = v
	}
	w.WriteHeader(code)
}

// hijack takes the connection; an answer that was begun in memory has none, and then is broken off.
func hijack(w http.ResponseWriter) net.Conn {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	return conn
}
