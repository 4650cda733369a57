package daemon_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/daemon"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

const canary = "c4n4ry-5ecret"

// monitor counts the beats that reach it.
type monitor struct {
	url    string
	beats  atomic.Int64
	answer atomic.Pointer[http.HandlerFunc] // nil: 200
}

func newMonitor(t *testing.T) *monitor {
	t.Helper()
	m := &monitor{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && r.URL.Path == "/"+canary {
			m.beats.Add(1)
		}
		if h := m.answer.Load(); h != nil {
			(*h)(w, r)
		}
	}))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	m.url = srv.URL + "/" + canary
	return m
}

// eventually polls until the answer is yes.
func (d *server) eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	late := time.After(time.Minute)
	for !yes() {
		select {
		case <-d.reports:
		case <-late:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func metric(t *testing.T, d *server, series string) bool {
	t.Helper()
	_, page := get(t, d.url+"/metrics")
	return strings.Contains(page, "\nkms_auditor_"+series)
}

func TestHeartbeats(t *testing.T) {
	for _, row := range []struct {
		sentence string
		on       string
		drift    bool // is found
		want     bool
	}{
		{"every audit that finishes beats", "completed", true, true},
		{"one that is consistent beats", "consistent", false, true},
		{"drift does not beat where consistent is asked for", "consistent", true, false},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			w, m := newWorld(t), newMonitor(t)
			defer verifyNone(t)()
			defer w.close()
			if row.drift {
				w.claim(device, stranger)
			}
			cfg := w.config(t)
			cfg.Heartbeat = config.Heartbeat{URL: sanitize.NewSecret(m.url), On: row.on}
			d := serve(t, cfg, daemon.Options{Log: zap.NewNop()})
			if row.want {
				d.eventually(t, "three beats", func() bool { return m.beats.Load() > 2 })
				d.eventually(t, "beats are counted", func() bool { return !metric(t, d, `heartbeats_total{result="ok"} 0`) })
			} else {
				for range 3 {
					d.until(t, audit.Drift)
				}
				if n := m.beats.Load(); n > 0 || !metric(t, d, `heartbeats_total{result="ok"} 0`) {
					t.Errorf("%d beats", n)
				}
			}
			d.stop(t)
		})
	}
}

// TestAHeartbeatThatFailsChangesNothing: it is logged and counted, audits go on, and its URL shows nowhere.
func TestAHeartbeatThatFailsChangesNothing(t *testing.T) {
	for _, row := range []struct {
		sentence string
		url      string // empty: the monitor's
		answer   http.HandlerFunc
		logged   string // empty: it does not end
	}{
		{"the monitor refuses", "", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, canary, http.StatusNotFound) }, "the response has status 404"},
		{"the monitor sends elsewhere", "", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, "the response has status 302"},
		{"the monitor hangs up", "", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		{"nobody is there", "http://127.0.0.1:1/" + canary, nil, "connection refused"},
		{"the monitor does not answer", "", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, ""},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			w, m := newWorld(t), newMonitor(t)
			defer verifyNone(t)()
			defer w.close()
			if row.url == "" {
				row.url = m.url
				m.answer.Store(&row.answer)
			}
			cfg := w.config(t)
			cfg.Heartbeat.URL = sanitize.NewSecret(row.url)
			core, logs := observer.New(zapcore.DebugLevel)
			d := serve(t, cfg, daemon.Options{Log: zap.New(core)})
			if row.logged != "" {
				d.eventually(t, "it is logged", func() bool { return logs.FilterMessage("heartbeat failed").Len() > 0 })
				d.eventually(t, "it is counted", func() bool { return !metric(t, d, `heartbeats_total{result="failed"} 0`) })
			}
			for range 3 {
				d.until(t, audit.Consistent)
			}
			d.stop(t)
			for _, e := range logs.FilterMessage("heartbeat failed").All() {
				said, _ := e.ContextMap()["error"].(string)
				if !strings.Contains(said, row.logged) || strings.Contains(said, canary) || strings.Contains(said, strings.Split(row.url, "/")[2]) {
					t.Errorf("logged %q, want %q and no part of the URL", said, row.logged)
				}
			}
		})
	}
}
