package web

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/net/netutil"
)

// The limit of open connections of a listener, so that readers cannot use up the sockets that audits need; more wait. Those
// beyond maxConnections are reserved for probes: slow readers must not cause a restart of the daemon.
const (
	maxConnections = 256
	reserved       = 16
)

// reserve limits a listener, and marks the connections reserved for probes.
type reserve struct {
	net.Listener
	open atomic.Int64
}

func limit(l net.Listener) net.Listener {
	return &reserve{Listener: netutil.LimitListener(l, maxConnections+reserved)}
}

func (r *reserve) Accept() (net.Conn, error) {
	c, err := r.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &counted{Conn: c, close: sync.OnceFunc(func() { r.open.Add(-1) }), forProbes: r.open.Add(1) > maxConnections}, nil
}

type counted struct {
	net.Conn
	close     func()
	forProbes bool
}

func (c *counted) Close() error {
	c.close()
	return c.Conn.Close()
}

type forProbes struct{}

// markConn is the http.Server.ConnContext of a limited listener.
func markConn(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if mine, ok := c.(*counted); ok && mine.forProbes {
		return context.WithValue(ctx, forProbes{}, true)
	}
	return ctx
}

// probesOnly refuses requests other than probes with 503 on a reserved connection, and closes it.
func probesOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Context().Value(forProbes{}) != nil {
			w.Header().Set("Connection", "close")
			if !strings.HasPrefix(r.URL.Path, "/-/") {
				http.Error(w, "too many connections are open: try again later", http.StatusServiceUnavailable)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
