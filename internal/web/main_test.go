package web_test

import (
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/state"
	"github.com/kms-auditor/kms-auditor/internal/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var first = &audit.Report{Schema: audit.Schema, AuditID: "0198f3c2", Version: "1.0.0", Chains: []audit.Chain{}}

func options(r *audit.Report) web.Options {
	nothing := &state.State{}
	nothing.SetChainID("base", 8453)
	return web.Options{
		Report:   func() *audit.Report { return r },
		Ready:    func() bool { return r != nil },
		State:    nothing,
		Plan:     func() web.Plan { return web.Plan{} },
		Gatherer: prometheus.NewRegistry(),
		Logger:   zap.NewNop(),
		Version:  "1.0.0",
	}
}

// running is a Server behind real listeners.
type running struct {
	addrs []string
	stop  context.CancelFunc
	ended chan error
}

// serve starts a Server on n free ports, and expects a clean end with the test.
func serve(t testing.TB, o web.Options, n int) *running {
	t.Helper()
	free := make([]string, n)
	for i := range free {
		free[i] = "127.0.0.1:0"
	}
	listeners, err := web.Listen(free)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{ended: make(chan error, 1)}
	for _, l := range listeners {
		r.addrs = append(r.addrs, l.Addr().String())
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.ended <- web.Serve(ctx, listeners, o)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		select {
		case err := <-r.ended:
			if err != nil {
				t.Errorf("Serve = %v", err)
			}
		default: // the test took it
		}
	})
	return r
}

// client keeps no connection open, so that no goroutine outlives a test.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// ask sends one request and reads its answer to the end.
func ask(t *testing.T, c *http.Client, req *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func request(t *testing.T, method, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}
