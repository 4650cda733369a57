//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// prometheus is a server that scrapes one daemon every second.
type prometheus struct{ url string }

func startPrometheus(t testing.TB, d *daemon) *prometheus {
	t.Helper()
	path, err := exec.LookPath("prometheus")
	must(t, err)
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs: [{job_name: kms-auditor, static_configs: [{targets: [%q]}]}]
`, strings.TrimPrefix(d.url, "http://")), 0o600))
	_, addr := start(t, `msg="Listening on" address=(127\.0\.0\.1:\d+)`, path, []string{
		"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0",
	}, nil, nil)
	return &prometheus{"http://" + addr}
}

// value returns the current value of an expression, and whether it has one.
func (p *prometheus) value(t testing.TB, expr string) (value float64, ok bool) {
	t.Helper()
	status, body := get(t, p.url+"/api/v1/query?query="+url.QueryEscape(expr))
	if status == http.StatusServiceUnavailable {
		return 0, false // it is still starting
	}
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK || len(answer.Data.Result) > 1 {
		t.Fatalf("%s: %d %v %s", expr, status, err, body)
	}
	for _, r := range answer.Data.Result {
		value, err := strconv.ParseFloat(r.Value[1].(string), 64)
		must(t, err)
		return value, true
	}
	return 0, false
}

// becomes waits until an expression has a value.
func (p *prometheus) becomes(t testing.TB, expr string, want float64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s becomes %v", expr, want), func() bool {
		got, ok := p.value(t, expr)
		return ok && got == want
	})
}

// vanishes waits until an expression has no value.
func (p *prometheus) vanishes(t testing.TB, expr string) {
	t.Helper()
	eventually(t, expr+" vanishes", func() bool {
		_, ok := p.value(t, expr)
		return !ok
	})
}

func TestPrometheus(t *testing.T) {
	t.Parallel()
	s := newScene(t, 10, 30)
	d := startDaemon(t, s.settings)
	p := startPrometheus(t, d)
	const (
		denied   = `kms_auditor_findings{kind="claim_allowed_chain_denied",severity="warning"}`
		mismatch = `kms_auditor_entries{list="device",verdict="mismatch"}`
		drift    = `kms_auditor_target_verdict{verdict="drift"}`
		unknown  = `kms_auditor_target_verdict{verdict="unknown"}`
		compared = `kms_auditor_last_comparison_timestamp_seconds`
		audited  = `kms_auditor_last_audit_timestamp_seconds`
	)

	t.Log("both sides agree")
	p.becomes(t, denied, 0)
	p.becomes(t, mismatch, 0)
	p.becomes(t, `kms_auditor_entries{list="os_image",verdict="match"}`, 30)
	lint(t, d)

	t.Log("the contract refuses a device that the API offers")
	must(t, s.kms.RemoveDevice(t.Context(), s.devices[3]))
	p.becomes(t, denied, 1)
	p.becomes(t, mismatch, 1)
	p.becomes(t, drift, 1)
	p.becomes(t, fmt.Sprintf(`kms_auditor_open_finding{id="%s"}`, s.devices[3].Hex()), 1)
	lint(t, d)

	t.Log("the provider is down while the finding is open")
	s.proxy.Set(rpcfault.Status(http.StatusServiceUnavailable, ""))
	p.becomes(t, unknown, 1)
	for _, state := range []string{"kms_auditor_entries", "kms_auditor_audited_block_number"} {
		p.vanishes(t, "count("+state+")")
	}
	p.becomes(t, denied, 1)
	p.becomes(t, "count(kms_auditor_open_finding)", 1)
	stood, ok := p.value(t, compared)
	last, _ := p.value(t, audited)
	if !ok || stood == 0 || stood >= last {
		t.Errorf("last comparison at %v (%t), last audit at %v", stood, ok, last)
	}
	eventually(t, "two more audits", func() bool {
		now, _ := p.value(t, audited)
		return now > last+2
	})
	if now, _ := p.value(t, compared); now != stood {
		t.Errorf("%s moved from %v to %v while the provider is down", compared, stood, now)
	}
	lint(t, d)

	t.Log("the provider is back, and then the device too")
	s.proxy.Set(rpcfault.Fault{})
	p.becomes(t, denied, 1)
	must(t, s.kms.AllowDevice(t.Context(), s.devices[3]))
	p.becomes(t, denied, 0)
	p.becomes(t, drift, 0)
	p.becomes(t, unknown, 0)
	p.vanishes(t, "count(kms_auditor_open_finding)")
	eventually(t, "comparing goes on", func() bool {
		now, _ := p.value(t, compared)
		return now > stood
	})
}

func TestWhatAnAuditOfTheDaemonCosts(t *testing.T) {
	s := live(t, startNode(t, "anvil"))
	d := startDaemon(t, s.settings)
	d.finds(t, "consistent") // the first audit makes more requests
	before := d.cost(t, s)
	for range 5 {
		d.finds(t, "consistent")
	}
	after := d.cost(t, s)
	audits := after.audits - before.audits
	trips, asked := (after.trips-before.trips)/audits, (after.requests-before.requests)/audits
	kib := (after.bytes - before.bytes) / audits / 1024
	t.Logf("%v audits of a live contract: %v round trips to the provider of %.1f KiB, and %v requests to the API for each", audits, trips, kib, asked)
	if trips != 1 || asked != 1 || kib > 8 { // one proof shows that nothing changed
		t.Errorf("an audit costs %v round trips to the provider, %v KiB, and %v requests to the API", trips, kib, asked)
	}
	if after.trips != after.seen || after.requests != after.served {
		t.Errorf("the metrics count %v and %v, provider and API %v and %v", after.trips, after.requests, after.seen, after.served)
	}
}

// cost has the counts so far: by the daemon's metrics, and at the other end.
type cost struct{ audits, trips, requests, seen, served, bytes float64 }

// cost returns the counts at a moment between two audits.
func (d *daemon) cost(t *testing.T, s *scene) cost {
	t.Helper()
	for {
		d.audit(t)
		from := len(d.logged())
		body := d.page(t, "/metrics")
		served, err := s.api.requests()
		must(t, err)
		c := cost{
			audits: sum(t, body, "kms_auditor_audits_total"), trips: sum(t, body, "kms_auditor_rpc_round_trips_total"),
			requests: sum(t, body, "kms_auditor_api_requests_total"), seen: float64(s.proxy.Requests()), served: float64(served), bytes: float64(s.proxy.Bytes()),
		}
		if !strings.Contains(strings.Join(d.logged()[from:], "\n"), "audit_started") {
			return c
		}
	}
}

// sum returns the sum of a metric's series.
func sum(t testing.TB, metrics, name string) (total float64) {
	t.Helper()
	found := regexp.MustCompile(`(?m)^`+name+`\{.*\} (\S+)$`).FindAllStringSubmatch(metrics, -1)
	if len(found) == 0 {
		t.Fatalf("no %s in\n%s", name, metrics)
	}
	for _, m := range found {
		v, err := strconv.ParseFloat(m[1], 64)
		must(t, err)
		total += v
	}
	return total
}

// lint fails the test if promtool complains about the daemon's metrics.
func lint(t *testing.T, d *daemon) {
	t.Helper()
	lintText(t, d.page(t, "/metrics"))
}

func lintText(t *testing.T, text string) {
	t.Helper()
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
