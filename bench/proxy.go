package main

import (
	"bytes"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"time"
)

// proxy stands before a server, makes every request wait, and counts: requests, and all bytes of the connections, in
// both directions, headers included. It speaks HTTP/1.1 and keeps connections.
type proxy struct {
	*httptest.Server
	delay           atomic.Int64 // of a request, in nanoseconds
	requests, bytes atomic.Int64
}

// newProxy starts a proxy before upstream.
func newProxy(upstream string) (*proxy, error) {
	to, err := url.Parse(upstream)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableCompression, transport.MaxIdleConnsPerHost = true, 256
	pass := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ErrorLog:  log.New(io.Discard, "", 0), // of answers that the client does not read to their end
	}
	p := &proxy{}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.requests.Add(1)
		// Read to its end first: the server closes it when the answer begins, and a transport that still looks for its
		// end would then break off the answer.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		time.Sleep(time.Duration(p.delay.Load()))
		pass.ServeHTTP(w, r)
	}))
	p.Listener = counting{p.Listener, &p.bytes}
	p.Start()
	return p, nil
}

// traffic is what went through a proxy so far.
type traffic struct{ requests, bytes int64 }

func (p *proxy) traffic() traffic { return traffic{p.requests.Load(), p.bytes.Load()} }

func (t traffic) since(past traffic) traffic {
	return traffic{t.requests - past.requests, t.bytes - past.bytes}
}

// counting adds up the bytes of all connections that it accepts.
type counting struct {
	net.Listener
	n *atomic.Int64
}

func (l counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return counted{c, l.n}, nil
}

type counted struct {
	net.Conn
	n *atomic.Int64
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n.Add(int64(n))
	return n, err
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.n.Add(int64(n))
	return n, err
}
