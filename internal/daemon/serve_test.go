package daemon_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/daemon"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/web"
	"github.com/kms-auditor/kms-auditor/metrics"
)

// server is a Daemon that serves.
type server struct {
	url     string
	reports chan *audit.Report // the newest one, if it was not taken yet
	end     context.CancelFunc
	ended   chan error
}

func serve(t *testing.T, cfg *config.Config, opt daemon.Options) *server {
	t.Helper()
	d := &server{reports: make(chan *audit.Report, 1), ended: make(chan error, 1)}
	opt.Build = metrics.Build{Version: "v1.2.3", Revision: "abc", GoVersion: "go1"}
	opt.Reported = func(r *audit.Report, _ []audit.Change) {
		select {
		case <-d.reports:
		default:
		}
		d.reports <- r
	}
	a, err := daemon.New(cfg, opt)
	if err != nil {
		t.Fatal(err)
	}
	listeners, err := web.Listen([]string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	d.url = "http://" + listeners[0].Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	d.end = cancel
	go func() {
		defer a.Close()
		d.ended <- a.Serve(ctx, listeners)
	}()
	return d
}

// until waits for a report of the verdict.
func (d *server) until(t *testing.T, v audit.Verdict) *audit.Report {
	t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case r := <-d.reports:
			if r.Verdict == v {
				return r
			}
		case err := <-d.ended:
			t.Fatalf("it ended with %v", err)
		case <-late:
			t.Fatalf("no audit was %s for a minute", v)
		}
	}
}

// stop ends the daemon, and fails where that takes more than five seconds.
func (d *server) stop(t *testing.T) {
	t.Helper()
	d.end()
	select {
	case err := <-d.ended:
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("it did not end within five seconds")
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestServesWhatWasAudited(t *testing.T) {
	w := newWorld(t)
	w.claim(device, stranger)
	d := serve(t, w.config(t), daemon.Options{Log: zap.NewNop()})
	d.until(t, audit.Drift)
	for _, row := range []struct{ sentence, path, part string }{
		{"the report is served", "/api/v1/report", `"claim_allowed_chain_denied"`},
		{"it names the version", "/api/v1/report", `"version": "v1.2.3"`},
		{"the daemon is ready", "/-/ready", "ready"},
		{"the verdict is a metric", "/metrics", `kms_auditor_target_verdict{chain="base",contract="` + contract.Hex() + `",verdict="drift"} 1`},
		{"the build is a metric", "/metrics", `kms_auditor_build_info{goversion="go1",revision="abc",version="v1.2.3"} 1`},
		{"requests to the API are counted", "/metrics", `kms_auditor_api_requests_total{endpoint="`},
		{"round trips to a provider are counted", "/metrics", `kms_auditor_rpc_round_trips_total{chain="base",provider="local"}`},
		{"the process is measured", "/metrics", "go_goroutines"},
	} {
		if code, body := get(t, d.url+row.path); code != http.StatusOK || !strings.Contains(body, row.part) {
			t.Errorf("%s: %d without %s in\n%s", row.sentence, code, row.part, body)
		}
	}
	d.stop(t)
}

// TestWhatIsServedWhileTheAPIIsDown compares once, and then cannot.
func TestWhatIsServedWhileTheAPIIsDown(t *testing.T) {
	has := []string{
		`kms_auditor_target_verdict{chain="base",contract="` + contract.Hex() + `",verdict="unknown"} 1`,
		`kms_auditor_last_comparison_timestamp_seconds{chain="base",contract="` + contract.Hex() + `"} 1.`,
	}
	lacks := []string{"kms_auditor_entries{", "kms_auditor_completeness{"}
	for _, row := range []struct {
		sentence  string
		contracts []config.Contract
	}{
		{"a configured contract is unknown", []config.Contract{{Address: contract}}},
		{"so is one that only the API listed", nil},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			w := newWorld(t)
			cfg := w.config(t)
			cfg.Chains[0].Contracts = row.contracts
			d := serve(t, cfg, daemon.Options{Log: zap.NewNop()})
			d.until(t, audit.Consistent)
			w.api.Fail(fakeapi.Fault{Name: fakeapi.HTML})
			d.until(t, audit.Unknown)
			_, body := get(t, d.url+"/metrics")
			for _, s := range has {
				if !strings.Contains(body, s) {
					t.Errorf("no %s in\n%s", s, body)
				}
			}
			for _, s := range lacks {
				if strings.Contains(body, s) {
					t.Errorf("%s in\n%s", s, body)
				}
			}
			if counted := `kms_auditor_audits_total{chain="base",verdict="unknown"} `; !strings.Contains(body, counted) || strings.Contains(body, counted+"0\n") {
				t.Error("no unknown audit is counted")
			}
			d.stop(t)
		})
	}
}

// TestEndsInMidAudit cancels where an audit waits longest, and looks for what is left behind.
func TestEndsInMidAudit(t *testing.T) {
	for _, row := range []struct {
		sentence string
		spoil    func(*world, *config.Config)
		at       string // what happens last before the long wait
	}{
		{"a provider hangs", func(w *world, _ *config.Config) { w.proxy.Set(rpcfault.Hang) }, calledProvider},
		{"the API hangs", func(w *world, _ *config.Config) { w.api.Fail(fakeapi.Fault{Name: fakeapi.Hang}) }, calledAPI},
		{"the API stalls within its answer", func(w *world, _ *config.Config) { w.api.Fail(fakeapi.Fault{Name: fakeapi.Stall}) }, calledAPI},
		{"the API wants to be asked in a minute", func(w *world, _ *config.Config) {
			w.api.Fail(fakeapi.Fault{Name: fakeapi.Status, Status: http.StatusTooManyRequests, RetryAfter: "60"})
		}, calledAPI},
		{"the second pass is an hour away", func(w *world, cfg *config.Config) {
			w.claim(device, stranger)
			cfg.ConfirmDelay, cfg.Timeout = time.Hour, 2*time.Hour
		}, "base: found a difference, looking again in 1h0m0s"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			w := newWorld(t)
			defer verifyNone(t)()
			defer w.close()
			cfg := w.config(t)
			row.spoil(w, cfg)
			d := serve(t, cfg, daemon.Options{
				Log:      zap.NewNop(),
				Progress: func(chain, doing string) { w.tell(chain + ": " + doing) },
			})
			for event := range w.events {
				if event == row.at {
					break
				}
			}
			d.stop(t)
			select {
			case r := <-d.reports:
				t.Errorf("the audit that was cut off was reported as %s", r.Verdict)
			default:
			}
		})
	}
}

// verifyNone fails the test if a goroutine is left that was not there when it was first called. Those of the test's own
// node, which may begin later, do not count: the auditor's clients, over HTTP, have no such goroutines.
func verifyNone(t *testing.T) func() {
	before := goleak.IgnoreCurrent()
	return func() {
		goleak.VerifyNone(t, before,
			goleak.IgnoreAnyFunction("github.com/ethereum/go-ethereum/rpc.(*Client).read"),
			goleak.IgnoreAnyFunction("github.com/ethereum/go-ethereum/rpc.(*Client).dispatch"),
			goleak.IgnoreAnyFunction("github.com/ethereum/go-ethereum/core/txpool.(*TxPool).SubscribeTransactions.JoinSubscriptions.func1.2"))
	}
}

func TestEndsWithItsListener(t *testing.T) {
	w := newWorld(t)
	defer verifyNone(t)()
	a, err := daemon.New(w.config(t), daemon.Options{Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	defer a.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := a.Serve(t.Context(), []net.Listener{l}); err == nil || !strings.Contains(err.Error(), "serving on") {
		t.Errorf("a daemon whose listener is gone ended with %v", err)
	}
}
