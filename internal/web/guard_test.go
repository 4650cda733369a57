package web_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/web"
)

// guarded are the headers that every answer has, and how their values begin.
var guarded = map[string]string{
	"Cache-Control":                "no-store",
	"Content-Security-Policy":      "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; ",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Referrer-Policy":              "no-referrer",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	for name, r := range map[string]*audit.Report{"before the first audit": nil, "after it": first} {
		h, err := web.Handler(options(r))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/", "/entries", "/entries?%zz", "/metrics", "/api/v1/report", "/api/v1/history", "/api/v1/history?x=y", "/-/healthy",
			"/-/ready", "/-/reload", "/none", "//entries", "/a/../metrics", "/%2e%2e/etc/passwd", "/api/v1/report/", "/favicon.ico"} {
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "ODD"} {
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, httptest.NewRequest(method, path, nil))
				for header, value := range guarded {
					if got := rec.Header().Values(header); len(got) != 1 || !strings.HasPrefix(got[0], value) {
						t.Errorf("%s: %s %s: %d, and %s is %q", name, method, path, rec.Code, header, got)
					}
				}
				reads, reloads := method == "GET" || method == "HEAD", method == "POST" && path == "/-/reload"
				if rec.Code >= 200 && rec.Code < 300 && !reads && !reloads {
					t.Errorf("%s: %s %s: %d", name, method, path, rec.Code)
				}
				if to := rec.Header().Get("Location"); strings.Contains(to, "//") {
					t.Errorf("%s: %s %s leads to %s", name, method, path, to)
				}
			}
		}
	}
}

// TestWhatARequestMayCost speaks to the server as no client would.
func TestWhatARequestMayCost(t *testing.T) {
	s := serve(t, options(first), 1)
	for _, tt := range []struct {
		name, head string
		body       io.Reader
		status     int
	}{
		{"a header of 15 kB is read", "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 15<<10) + "\r\n\r\n", nil, 200},
		{"a header without an end is not", "GET / HTTP/1.1\r\nHost: x\r\nX: ", forever{}, 431},
		{"nor a query without an end", "GET /entries?", forever{}, 431},
		{"a body without an end is not read", "POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n", forever{}, 403},
		{"nor one in pieces", "POST /-/reload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", forever{}, 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := net.Dial("tcp", s.addrs[0])
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			sent := make(chan int64)
			go func() {
				n, _ := io.Copy(c, io.MultiReader(strings.NewReader(tt.head), body(tt.body))) // it is cut
				sent <- n
			}()
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != tt.status {
				t.Errorf("%s, want %d", resp.Status, tt.status)
			}
			c.Close()
			<-sent
		})
	}
}

// TestWhoSaysNothingIsCut waits for as long as the server does.
func TestWhoSaysNothingIsCut(t *testing.T) {
	t.Parallel()
	s := serve(t, options(first), 1)
	for _, said := range []string{"", "GET / HTTP/1.1\r\nHost:"} {
		c, err := net.Dial("tcp", s.addrs[0])
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, said); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); err != nil { // until the server closes
			t.Errorf("after %q: %v", said, err)
		}
	}
}

type forever struct{}

func (forever) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func body(r io.Reader) io.Reader {
	if r == nil {
		return strings.NewReader("")
	}
	return r
}

func TestNoMoreConnectionsThanAllowed(t *testing.T) {
	s := serve(t, options(first), 1)
	dial := func() net.Conn {
		c, err := net.Dial("tcp", s.addrs[0])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	var open []net.Conn
	for range web.MaxConnections {
		open = append(open, dial())
	}
	last := dial()
	if _, err := io.WriteString(last, "GET /-/healthy HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 1)
	last.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := last.Read(answer); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one more is answered, or cut: %v", err)
	}
	open[0].Close()
	last.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := last.Read(answer); err != nil {
		t.Errorf("one more is not answered once there is room: %v", err)
	}
}

// TestProbesAreAnsweredBesideSlowReaders, who hold all connections that they can get.
func TestProbesAreAnsweredBesideSlowReaders(t *testing.T) {
	s := serve(t, options(first), 1)
	for range 300 {
		c, err := net.Dial("tcp", s.addrs[0])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := io.WriteString(c, "GET /api/v1/report HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for _, row := range []struct {
		path   string
		status int
	}{{"/-/healthy", http.StatusOK}, {"/", http.StatusServiceUnavailable}, {"/-/healthy", http.StatusOK}} {
		answer, err := client.Get("http://" + s.addrs[0] + row.path)
		if err != nil {
			t.Fatal(err)
		}
		if answer.Body.Close(); answer.StatusCode != row.status || !answer.Close {
			t.Errorf("%s is answered with %d, and the connection is closed: %t", row.path, answer.StatusCode, answer.Close)
		}
	}
}

func TestNoMoreRenderingsThanAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at, most atomic.Int64
		release := make(chan struct{})
		h := web.MaxInFlight(2, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			if n := at.Add(1); n > most.Load() {
				most.Store(n)
			}
			<-release
			at.Add(-1)
		}))
		for range 5 {
			go h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		}
		for left := int64(5); left > 0; left-- {
			if synctest.Wait(); at.Load() != min(2, left) {
				t.Fatalf("%d at a time, %d left", at.Load(), left)
			}
			release <- struct{}{}
		}
		if synctest.Wait(); most.Load() != 2 {
			t.Errorf("%d at a time", most.Load())
		}
	})
}
