//go:build e2e

package soak_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// flaky is a proxy in front of an API or a node that sometimes fails.
type flaky struct {
	inner http.Handler

	mu     sync.Mutex
	fault  string
	until  time.Time // the fault's end
	only   string    // suffix of the paths that fail
	passed int
	failed int
}

// The ways to fail. Stale is only for nodes: it has only old blocks.
const (
	reset     = "reset"
	broken    = "500"
	slow      = "slow"
	truncated = "truncated"
	garbled   = "garbled"
	stale     = "stale"
)

var faults = []string{reset, broken, slow, truncated, garbled}

// fail makes paths with a suffix fail for some time.
func (f *flaky) fail(how, only string, last time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.only, f.until = how, only, time.Now().Add(last)
}

func (f *flaky) heal() { f.fail("", "", 0) }

// counts returns the numbers of good and failed requests.
func (f *flaky) counts() (passed, failed int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.passed, f.failed
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	fault := f.fault
	if time.Now().After(f.until) || !strings.HasSuffix(r.URL.Path, f.only) {
		fault = ""
	}
	if fault == "" {
		f.passed++
	} else {
		f.failed++
	}
	f.mu.Unlock()
	switch fault {
	case reset:
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
	case broken:
		http.Error(w, "out of order", http.StatusInternalServerError)
	case slow:
		select {
		case <-time.After(time.Duration(100+rand.IntN(1500)) * time.Millisecond):
			f.inner.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	case truncated, garbled:
		whole := httptest.NewRecorder()
		f.inner.ServeHTTP(whole, r)
		body := whole.Body.Bytes()
		if fault == truncated {
			body = body[:len(body)/2]
		} else if len(body) > 0 {
			body[rand.IntN(len(body))] ^= 0x80 // the JSON here is ASCII, so this byte is invalid
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body) // the client may have disconnected
	default:
		f.inner.ServeHTTP(w, r)
	}
}

// lag makes a provider have no block newer than one.
func (p *provider) lag(block uint64) {
	at := json.RawMessage(fmt.Sprintf(`"0x%x"`, block))
	p.rpc.Set(rpcfault.Fault{Name: stale, Ask: func(c *rpcfault.Call) {
		for i, param := range c.Params {
			if string(param) == `"latest"` {
				c.Params[i] = at
			}
		}
	}})
}

func (p *provider) catchUp() { p.rpc.Set(rpcfault.Fault{}) }
