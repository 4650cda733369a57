//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// configured is a daemon with a configuration that the test changes.
type configured struct {
	*daemon
	path string
}

func startConfigured(t testing.TB, s settings) *configured {
	t.Helper()
	d := &configured{&daemon{more: make(chan struct{})}, writeConfig(t, s)}
	var addr string
	d.process, addr = start(t, `"msg":"serving".*"addresses":\["([^"]+)"`, filepath.Join(bin, "kms-auditor"), []string{"audit", "-c", d.path}, nil, d.add)
	d.url = "http://" + addr
	return d
}

// configure rewrites the file. A value other than a string is written as JSON.
func (d *configured) configure(t testing.TB, c any) {
	t.Helper()
	text, ok := c.(string)
	if !ok {
		b, err := json.Marshal(c)
		must(t, err)
		text = string(b)
	}
	must(t, os.WriteFile(d.path, []byte(text), 0o600))
}

func (d *configured) post(t testing.TB) (status int, body string) {
	t.Helper()
	resp, err := http.Post(d.url+"/-/reload", "", nil)
	must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(b)
}

// value returns the value of a series on a metrics page.
func value(t testing.TB, page, series string) float64 {
	t.Helper()
	m := regexp.MustCompile(`(?m)^kms_auditor_` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(page)
	if m == nil {
		t.Errorf("no series %s in\n%s", series, page)
		return -1
	}
	v, err := strconv.ParseFloat(m[1], 64)
	must(t, err)
	return v
}

const finished = `audits_total{chain="base",verdict="consistent"}`

// scrape fetches the metrics in a loop until it is stopped. It reports errors and the number of scrapes.
func (d *daemon) scrape(t *testing.T, n int) (stop func() (scrapes int64)) {
	var asked atomic.Int64
	var running sync.WaitGroup
	end := make(chan struct{})
	for range n {
		running.Go(func() {
			for last := 0.0; ; {
				select {
				case <-end:
					return
				default:
				}
				status, page := get(t, d.url+"/metrics")
				if status != http.StatusOK {
					t.Errorf("a scrape got %d: %s", status, page)
					return
				}
				now := value(t, page, finished)
				if now < last {
					t.Errorf("the counter of audits fell from %v to %v", last, now)
					return
				}
				last = now
				asked.Add(1)
			}
		})
	}
	return func() int64 {
		close(end)
		running.Wait()
		return asked.Load()
	}
}

var loadedAt = regexp.MustCompile(`was loaded at (\S+) and audits base on schedule \\?"@every (\d+)s`)

// TestReloadsUnderLoad reloads twenty times, by POST or by SIGHUP. Every other configuration is invalid.
func TestReloadsUnderLoad(t *testing.T) {
	t.Parallel()
	const canary = "c4n4ry-5ecret"
	s := newScene(t, 2, 2)
	s.settings.State = filepath.Join(t.TempDir(), "state.db")
	s.settings.Web.Reload = true
	elsewhere := func(f func(*settings)) settings {
		c := s.settings
		web := *c.Web
		c.Web = &web
		f(&c)
		return c
	}
	bad := []struct {
		config any
		told   string
	}{
		{"schedul: '@hourly'\nchains: []\n", "schedul: unknown key"},
		{"api: {api_key_file: phak_" + canary + "}\n", "not the secret itself"},
		{"chains: [{name: base, chain_id: 1, providers: [{name: a, url: 'ftp://" + canary + "'}]}]\n", "must be a URL"},
		{elsewhere(func(c *settings) { c.State += "2" }), "state: was changed, which takes a restart"},
		{elsewhere(func(c *settings) { c.Web.Listen = []string{"127.0.0.1:10726"} }), "web.listen: was changed, which takes a restart"},
	}
	d := startConfigured(t, s.settings)
	d.finds(t, "consistent")
	stop := d.scrape(t, 3)

	every := 1 // seconds between audits, by the configuration that runs
	for i := range 20 {
		good, told := i%2 == 0, ""
		if good {
			every = 3600 + i // so that an audit is caused by the reload and not by the schedule
			next := s.settings
			next.Schedule = fmt.Sprintf("@every %ds", every)
			d.configure(t, next)
		} else {
			one := bad[i/2%len(bad)]
			d.configure(t, one.config)
			told = one.told
		}
		var answer string
		from := len(d.logged())
		if i%4 < 2 {
			var status int
			status, answer = d.post(t)
			if want := map[bool]int{true: 200, false: 400}[good]; status != want || !strings.Contains(answer, told) {
				t.Fatalf("reload %d got %d, want %d and %q:\n%s", i, status, want, told, answer)
			}
		} else {
			must(t, d.cmd.Process.Signal(syscall.SIGHUP))
			answer, _ = d.await(t, from, `"event":"config_reloaded"`, fmt.Sprintf(`"ok":%t`, good), told)
		}
		page := d.page(t, "/metrics")
		if ok := value(t, page, "config_last_reload_successful") == 1; ok != good {
			t.Errorf("after reload %d the metric says that it succeeded: %t", i, ok)
		}
		running := loadedAt.FindStringSubmatch(answer)
		if running == nil || running[2] != strconv.Itoa(every) {
			t.Fatalf("reload %d does not report that the configuration of every %d s is active:\n%s", i, every, answer)
		}
		at, err := time.Parse(time.RFC3339, running[1])
		must(t, err)
		if got := value(t, page, "config_last_reload_success_timestamp_seconds"); got != float64(at.UnixMilli())/1000 {
			t.Errorf("after reload %d the metric has %f, and the answer %s", i, got, at)
		}
		if good {
			_, next := d.await(t, from, `"event":"config_reloaded"`)
			d.await(t, next, `"event":"audit_finished"`, `"verdict":"consistent"`)
		}
	}
	if n := stop(); n < 40 {
		t.Errorf("only %d scrapes were made", n)
	} else {
		t.Logf("%d scrapes", n)
	}
	code := d.end(t, syscall.SIGTERM)
	log := strings.Join(d.logged(), "\n")
	started, ended := strings.Count(log, `"event":"audit_started"`), strings.Count(log, `"event":"audit_finished"`)
	if code != 0 || ended < 11 || started-ended > 1 || strings.Count(log, `"verdict":"consistent"`) < ended {
		t.Errorf("exit code %d; %d audits began and %d ended:\n%s", code, started, ended, log)
	}
	if strings.Contains(log, canary) {
		t.Errorf("the log shows a secret:\n%s", log)
	}
}

// TestReloadChangesWhatIsAudited adds a chain, then removes the first one. A daemon that does not allow reloads over HTTP refuses one.
func TestReloadChangesWhatIsAudited(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1, 1)
	s.settings.Schedule, s.settings.Web.Reload = "@every 1h", true
	other := s.claim()
	other.ChainName = "other"
	must(t, s.api.put(other))
	d := startConfigured(t, s.settings)
	d.await(t, 0, `"event":"audit_finished"`, `"verdict":"consistent"`)

	second := s.settings.Chains[0]
	second.Name = "other"
	both := s.settings
	both.Chains = []chainSettings{s.settings.Chains[0], second}
	d.configure(t, both)
	from := len(d.logged())
	if status, body := d.post(t); status != http.StatusOK || !strings.Contains(body, "audits base, other on") {
		t.Fatalf("%d %s", status, body)
	}
	d.await(t, from, `"event":"audit_finished"`, `"verdict":"consistent"`, `"chain":"other"`)
	page := d.page(t, "/metrics")
	if n := value(t, page, finished); n != 2 {
		t.Errorf("the chain that stays counts %v audits, want 2", n)
	}
	if n := value(t, page, strings.Replace(finished, "base", "other", 1)); n != 1 {
		t.Errorf("the chain that is new counts %v audits, want 1", n)
	}
	if n := strings.Count(page, `kms_auditor_rpc_requests_total{chain="other"`); n != len(transport.Methods)*len(transport.Results) {
		t.Errorf("the chain that is new has %d series of calls", n)
	}

	both.Chains, both.Web = []chainSettings{second}, &webSettings{Listen: s.settings.Web.Listen}
	d.configure(t, both)
	from = len(d.logged())
	if status, body := d.post(t); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	d.await(t, from, `"event":"audit_finished"`, `"verdict":"consistent"`)
	if page := d.page(t, "/metrics"); strings.Contains(page, `chain="base"`) {
		t.Errorf("the chain that is gone has series:\n%s", page)
	}
	if status, body := d.post(t); status != http.StatusForbidden || !strings.Contains(body, "web.reload") {
		t.Errorf("a reload that is not allowed is answered with %d %s", status, body)
	}
}
