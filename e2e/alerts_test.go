//go:build e2e

package e2e_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/testenv"
)

// check runs a checker, which must be content.
func check(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %q: %v\n%s", name, args, err, out)
	}
}

func TestAlertRules(t *testing.T) {
	t.Parallel()
	const rules = "../deploy/prometheus/kms-auditor.rules.yml"
	check(t, "promtool", "check", "rules", "--lint-fatal", rules)
	check(t, "promtool", "check", "config", "../deploy/prometheus/prometheus.yml")
	check(t, "amtool", "check-config", "../deploy/alertmanager/alertmanager.yml")
	tests, err := filepath.Glob("../deploy/prometheus/*_test.yml")
	must(t, err)
	check(t, "promtool", append([]string{"test", "rules"}, tests...)...)
}

// message is what Alertmanager posts to a webhook.
type message struct {
	Status      string
	Receiver    string
	GroupLabels map[string]string
	Alerts      []struct {
		Status              string
		Labels, Annotations map[string]string
	}
}

// pager is a webhook that keeps the messages it gets.
type pager chan message

func (p pager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var m message
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p <- m
}

// next waits for the next message about an alert.
func (p pager) next(t testing.TB, alert string) message {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case m := <-p:
			if m.GroupLabels["alertname"] == alert {
				return m
			}
			t.Logf("%s to %s: %v", m.Status, m.Receiver, m.GroupLabels)
		case <-late:
			t.Fatalf("no message about %s within %s", alert, patience)
		}
	}
}

// shipped copies a deployed file to dir, with replacements of which each must change something.
func shipped(t testing.TB, dir, path string, replace ...[2]string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../deploy", path))
	must(t, err)
	for _, r := range replace {
		changed := regexp.MustCompile(r[0]).ReplaceAll(text, []byte(r[1]))
		if bytes.Equal(changed, text) {
			t.Fatalf("%s has no %s", path, r[0])
		}
		text = changed
	}
	to := filepath.Join(dir, filepath.Base(path))
	must(t, os.WriteFile(to, text, 0o600))
	return to
}

// everything chooses all in the variables of a dashboard.
var everything = strings.NewReplacer("$chain", ".*", "$contract", ".*", "$instance", ".*", "$__rate_interval", "1m")

// annotates waits until every annotation of a dashboard marks something.
func (p *prometheus) annotates(t testing.TB, dashboard string) {
	t.Helper()
	var board struct {
		Annotations struct{ List []struct{ Name, Expr string } }
	}
	must(t, json.Unmarshal([]byte(readFile(t, dashboard)), &board))
	for _, a := range board.Annotations.List {
		eventually(t, "annotation "+a.Name, func() bool {
			_, body := get(t, p.url+"/api/v1/query?query="+url.QueryEscape(everything.Replace(a.Expr)))
			return strings.Contains(body, `"metric":`)
		})
	}
}

// draws waits until every panel of a dashboard has something to show.
func (p *prometheus) draws(t testing.TB, dashboard string) {
	t.Helper()
	var board struct {
		Panels []struct {
			Type, Title string
			Targets     []struct{ Expr string }
		}
	}
	must(t, json.Unmarshal([]byte(readFile(t, dashboard)), &board))
	for _, panel := range board.Panels {
		if panel.Type == "row" || panel.Title == "Accepted differences run out" { // nothing is accepted here
			continue
		}
		eventually(t, "panel "+panel.Title, func() bool {
			shown := false
			for _, q := range panel.Targets {
				status, body := get(t, p.url+"/api/v1/query?query="+url.QueryEscape(everything.Replace(q.Expr)))
				if status != http.StatusOK {
					t.Fatalf("panel %s: %d %s", panel.Title, status, body)
				}
				shown = shown || strings.Contains(body, `"metric":`)
			}
			return shown
		})
	}
}

// startPaging starts what is deployed: Prometheus, which scrapes a daemon, and Alertmanager, which posts to the pagers.
// Only addresses and waiting times are others.
func startPaging(t testing.TB, url, waits string) (page, team pager, p *prometheus) {
	t.Helper()
	page, team = make(pager, 100), make(pager, 100)
	dir := t.TempDir()
	alertmanager, err := exec.LookPath("prometheus-alertmanager")
	must(t, err)
	_, alerts := start(t, `"?Listening on"? address=(127\.0\.0\.1:\d+)`, alertmanager, []string{
		"--config.file=" + shipped(t, dir, "alertmanager/alertmanager.yml",
			[2]string{`http://localhost:5001/page`, testenv.Serve(t, page)}, [2]string{`http://localhost:5001/team`, testenv.Serve(t, team)},
			[2]string{`group_wait: \w+`, "group_wait: 0s"}, [2]string{`group_interval: \w+`, "group_interval: 1s"}),
		"--storage.path=" + filepath.Join(dir, "alertmanager"), "--web.listen-address=127.0.0.1:0", "--cluster.listen-address=",
	}, nil, nil)

	shipped(t, dir, "prometheus/kms-auditor.rules.yml", [2]string{`\b(for|keep_firing_for): \w+`, "$1: " + waits})
	program, err := exec.LookPath("prometheus")
	must(t, err)
	_, addr := start(t, `msg="Listening on" address=(127\.0\.0\.1:\d+)`, program, []string{
		"--config.file=" + shipped(t, dir, "prometheus/prometheus.yml",
			[2]string{`kms-auditor:10726`, strings.TrimPrefix(url, "http://")}, [2]string{`alertmanager:9093`, alerts},
			[2]string{`_interval: \w+`, "_interval: 1s"}),
		"--storage.tsdb.path=" + filepath.Join(dir, "prometheus"), "--web.listen-address=127.0.0.1:0",
	}, nil, nil)
	return page, team, &prometheus{"http://" + addr}
}

// What is deployed pages with the id and the runbook, and takes it back.
func TestAPageArrivesAndIsTakenBack(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2, 2)
	d := startDaemon(t, s.settings)
	page, team, p := startPaging(t, d.url, "1s")
	d.finds(t, "consistent")

	t.Log("the API calls a device refused that the contract trusts")
	lie := s.claim()
	lie.Contracts[0].Devices[1].Allowed = new(false)
	must(t, s.api.put(lie))
	m := page.next(t, "KMSAuditorCriticalFinding")
	if m.Status != "firing" || m.Receiver != "page" || len(m.Alerts) != 1 {
		t.Fatalf("%+v is no page about one finding", m)
	}
	id, contract := s.devices[1].Hex(), s.kms.Address().Hex()
	want := map[string]string{
		"summary":     "KMS contract " + short(contract) + " on base trusts device " + short(id) + ", which the API calls refused",
		"description": "KMS contract " + contract + " on base: claim_denied_chain_allowed, device " + id + ".",
		"runbook_url": "https://github.com/kms-auditor/kms-auditor/blob/main/docs/findings.md#claim_denied_chain_allowed",
	}
	if diff := cmp.Diff(want, m.Alerts[0].Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	if got := m.Alerts[0].Labels["id"]; got != id {
		t.Errorf("the page is about %q, want %s", got, id)
	}

	p.draws(t, "../deploy/grafana/kms-auditor.json")

	t.Log("the contract follows, and then refuses a device that the API still offers")
	must(t, s.kms.RemoveDevice(t.Context(), s.devices[1]))
	if m := page.next(t, "KMSAuditorCriticalFinding"); m.Status != "resolved" || m.Alerts[0].Labels["id"] != id {
		t.Errorf("%+v does not take the page back", m)
	}
	must(t, s.kms.RemoveDevice(t.Context(), s.devices[0]))
	if m := team.next(t, "KMSAuditorWarningFinding"); m.Status != "firing" || m.Alerts[0].Labels["id"] != s.devices[0].Hex() {
		t.Errorf("%+v does not tell the team of %s", m, s.devices[0])
	}
	p.annotates(t, "../deploy/grafana/kms-auditor.json")
}

// short is the head and the tail of an id.
func short(id string) string { return id[:6] + "…" + id[len(id)-3:] }
