package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"time"
)

// meter serves a handler, delays every request, and counts requests and all bytes of the connections, in both directions,
// including headers.
type meter struct {
	*httptest.Server
	delay           atomic.Int64 // of a request, in nanoseconds
	requests, bytes atomic.Int64
}

func newMeter(to http.Handler) *meter {
	m := &meter{}
	m.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.requests.Add(1)
		// Read the body to its end first. The server closes it when the answer begins, and a transport that still reads it
		// would then abort the answer.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		time.Sleep(time.Duration(m.delay.Load()))
		to.ServeHTTP(w, r)
	}))
	m.Listener = listener{m.Listener, &m.bytes}
	m.Start()
	return m
}

// transport passes answers on unchanged, over kept-alive connections.
func transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableCompression, t.MaxIdleConnsPerHost = true, 256
	return t
}

// listener adds up the bytes of the connections that it accepts.
type listener struct {
	net.Listener
	bytes *atomic.Int64
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return conn{c, l.bytes}, err
}

type conn struct {
	net.Conn
	bytes *atomic.Int64
}

func (c conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.bytes.Add(int64(n))
	return n, err
}

func (c conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.bytes.Add(int64(n))
	return n, err
}
