package daemon_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/daemon"
	"github.com/kms-auditor/kms-auditor/internal/state"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// file is what a daemon reads when it is reloaded.
type file struct {
	cfg config.Config
	err error
}

// reloadable starts a daemon that can be reloaded over HTTP, with the configuration that then stands in the file.
func reloadable(t *testing.T, cfg *config.Config) (d *server, f *atomic.Pointer[file], logs *observer.ObservedLogs, hangup chan<- os.Signal) {
	t.Helper()
	cfg.Web.Reload = true
	f = &atomic.Pointer[file]{}
	f.Store(&file{cfg: *cfg})
	core, logs := observer.New(zapcore.DebugLevel)
	signals := make(chan os.Signal, 1)
	d = serve(t, cfg, daemon.Options{Log: zap.New(core), Hangup: signals, Load: func() (*config.Config, error) {
		now := *f.Load()
		return &now.cfg, now.err
	}})
	return d, f, logs, signals
}

func (d *server) reload(t *testing.T) (int, string) {
	t.Helper()
	resp, err := http.Post(d.url+"/-/reload", "", nil)
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

func TestReloadTakesAllOrNothing(t *testing.T) {
	w := newWorld(t)
	d, f, logs, _ := reloadable(t, w.config(t))
	good := f.Load().cfg
	for _, row := range []struct {
		sentence string
		change   func(*file)
		status   int
		answer   []string
		gauge    string
	}{
		{"a good configuration runs", func(f *file) { f.cfg.Schedule = "@every 7s" }, 200, []string{`audits base on schedule "@every 7s" in UTC`}, "1"},
		{"a bad one changes nothing, and every problem is told", func(f *file) {
			f.cfg.Schedule, f.err = "@every 8s", config.Problems{{Line: 3, Path: "chains", Message: "is empty"}, {Line: 4, Path: "web", Message: "is odd"}}
		}, 400, []string{`on schedule "@every 7s"`, "\nline 3: chains: is empty\nline 4: web: is odd\n"}, "0"},
		{"a file that is gone changes nothing", func(f *file) { f.err = errors.New("reading: no such file") }, 400, []string{`"@every 7s"`, "no such file"}, "0"},
		{"another state takes a restart", func(f *file) { f.cfg.State = filepath.Join(t.TempDir(), "s.db") }, 400, []string{`"@every 7s"`, "\nstate: was changed, which takes a restart\n"}, "0"},
		{"other listeners do, and what secures them", func(f *file) { f.cfg.Web.Listen, f.cfg.Web.ConfigFile = nil, "w.yml" }, 400,
			[]string{`"@every 7s"`, "\nweb.listen: was", "\nweb.config_file: was"}, "0"},
		{"what cannot be wired changes nothing", func(f *file) { f.cfg.API.BaseURL = "ftp://" }, 400, []string{`"@every 7s"`, "base URL"}, "0"},
		{"a good one runs again", func(f *file) { f.cfg.Schedule = "@every 9s" }, 200, []string{`"@every 9s"`}, "1"},
		{"one that forbids it is the last", func(f *file) { f.cfg.Web.Reload = false }, 200, nil, "1"},
		{"after it nothing is reloaded over HTTP", func(*file) {}, 403, []string{"web.reload"}, "1"},
	} {
		now := file{cfg: good}
		row.change(&now)
		f.Store(&now)
		logs.TakeAll()
		status, answer := d.reload(t)
		if status != row.status {
			t.Errorf("%s: %d %s", row.sentence, status, answer)
		}
		for _, part := range row.answer {
			if !strings.Contains(answer, part) {
				t.Errorf("%s: the answer lacks %q:\n%s", row.sentence, part, answer)
			}
		}
		if _, page := get(t, d.url+"/metrics"); !strings.Contains(page, "\nkms_auditor_config_last_reload_successful "+row.gauge+"\n") {
			t.Errorf("%s: the metric is not %s", row.sentence, row.gauge)
		}
		told := logs.FilterField(zap.String("event", "config_reloaded")).All()
		if row.status == 403 {
			if len(told) > 0 {
				t.Errorf("%s: logged %v", row.sentence, told)
			}
			continue
		}
		if len(told) != 1 || told[0].ContextMap()["ok"] != (status == 200) || !strings.Contains(answer, told[0].ContextMap()["running"].(string)) {
			t.Errorf("%s: logged %v, and answered\n%s", row.sentence, told, answer)
			continue
		}
		problems, _ := told[0].ContextMap()["problems"].([]any)
		for _, p := range problems {
			if !strings.Contains(answer, "\n"+p.(string)+"\n") {
				t.Errorf("%s: logged %q, and answered\n%s", row.sentence, p, answer)
			}
		}
		if (len(problems) == 0) != (status == 200) {
			t.Errorf("%s: logged %d problems", row.sentence, len(problems))
		}
	}
	d.stop(t)
}

// TestAnAuditUnderWayEndsUnderTheOldConfiguration adds a chain while an audit hangs, and takes the first one away again.
func TestAnAuditUnderWayEndsUnderTheOldConfiguration(t *testing.T) {
	w := newWorld(t)
	defer verifyNone(t)()
	defer w.close()
	cfg := w.config(t)
	w.api.Set(fakeapi.Chain{ChainName: "other", ChainID: 8453})
	release := make(chan struct{})
	w.proxy.Set(rpcfault.Fault{HTTP: func(http.ResponseWriter, *http.Request, []rpcfault.Call, bool) bool {
		<-release
		return false
	}})
	d, f, _, hangup := reloadable(t, cfg)
	for event := range w.events {
		if event == calledProvider {
			break
		}
	}
	both := f.Load().cfg
	other := both.Chains[0]
	other.Name = "other"
	both.Chains = []config.Chain{both.Chains[0], other}
	f.Store(&file{cfg: both})
	if status, answer := d.reload(t); status != http.StatusOK || !strings.Contains(answer, "audits base, other") {
		t.Fatalf("%d %s", status, answer)
	}
	if _, page := get(t, d.url+"/metrics"); strings.Contains(page, `chain="other"`) {
		t.Error("a chain shows while the audit under way does not know it")
	}
	close(release)
	old := <-d.reports
	next := <-d.reports
	if len(old.Chains) != 1 || old.Verdict != audit.Consistent || len(next.Chains) != 2 {
		t.Errorf("the audit under way ends %s with %d chains, the next has %d", old.Verdict, len(old.Chains), len(next.Chains))
	}
	if _, page := get(t, d.url+"/metrics"); !strings.Contains(page, `kms_auditor_rpc_round_trips_total{chain="other",provider="local"}`) {
		t.Errorf("the chain that is new has no series")
	}

	both.Chains = []config.Chain{other}
	f.Store(&file{cfg: both})
	hangup <- syscall.SIGHUP
	for r := range d.reports {
		if len(r.Chains) == 1 {
			break
		}
	}
	if _, page := get(t, d.url+"/metrics"); strings.Contains(page, `chain="base"`) || !strings.Contains(page, `kms_auditor_audits_total{chain="other",verdict="unknown"}`) {
		t.Errorf("the chain that is gone still shows, or the one that stays does not:\n%s", page)
	}
	d.stop(t)
}

// TestReloadKeepsWhatIsRemembered: neither the state file nor what is known of findings goes.
func TestReloadKeepsWhatIsRemembered(t *testing.T) {
	for sentence, path := range map[string]string{"in a file": filepath.Join(t.TempDir(), "state.db"), "in the process": ""} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t)
			w.claim(device, stranger)
			cfg := w.config(t)
			cfg.State = path
			d, _, logs, _ := reloadable(t, cfg)
			first := d.until(t, audit.Drift).Chains[0].Targets[0].Findings[0].FirstSeen
			for range 5 {
				if status, answer := d.reload(t); status != http.StatusOK {
					t.Fatalf("%d %s", status, answer)
				}
				if again := d.until(t, audit.Drift).Chains[0].Targets[0].Findings[0].FirstSeen; !again.Equal(*first) {
					t.Errorf("the finding is known since %s, and before it was %s", again, first)
				}
			}
			if got := findings(logs); len(got) != 1 {
				t.Errorf("the finding was told of as %v, want it opened once", got)
			}
			if s, err := state.Open(path); path != "" && err == nil {
				s.Close()
				t.Error("another process could take the state file")
			}
			d.stop(t)
		})
	}
}
