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

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/testenv"
)

// check runs a checker, which must pass.
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

// The group of a finding that fires may begin with one that is resolved.
func TestAResolvedAlertIsNotTheTitleOfAPage(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data.json")
	must(t, os.WriteFile(data, []byte(`{"status": "firing", "alerts": [
		{"status": "resolved", "annotations": {"summary": "it was wrong"}}, {"status": "firing", "annotations": {"summary": "it is wrong"}}]}`), 0o600))
	for name, want := range map[string]string{
		"title": "it is wrong",
		"slack": "*Resolved: it was wrong*\n\n<|What to do>\n*it is wrong*\n\n<|What to do>",
	} {
		out, err := exec.Command("amtool", "template", "render", "--template.glob", "../deploy/alertmanager/kms-auditor.tmpl",
			"--template.data", data, "--template.text", `{{ template "kms-auditor.`+name+`" . }}`).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%s is %q (%v), want %q", name, got, err, want)
		}
	}
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

// pager is a webhook that keeps its messages.
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
	return p.within(t, alert, patience)
}

func (p pager) within(t testing.TB, alert string, most time.Duration) message {
	t.Helper()
	late := time.After(most)
	for {
		select {
		case m := <-p:
			if m.GroupLabels["alertname"] == alert {
				return m
			}
			t.Logf("%s to %s: %v", m.Status, m.Receiver, m.GroupLabels)
		case <-late:
			t.Fatalf("no message about %s within %s", alert, most)
		}
	}
}

// shipped copies a file of deploy to dir with replacements. Each replacement must change something.
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

// draws waits until every panel of a dashboard has data.
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

// startPaging starts Prometheus, which scrapes a daemon, and Alertmanager, which posts to the pagers, with the deployed files.
// Only addresses and, unless waits is empty, waiting times differ.
func startPaging(t testing.TB, url, waits string) (page, team pager, p *prometheus) {
	t.Helper()
	page, team = make(pager, 100), make(pager, 100)
	dir := t.TempDir()
	var rules, intervals, groups [][2]string
	if waits != "" {
		rules, intervals = [][2]string{{`\b(for|keep_firing_for): \w+`, "$1: " + waits}, {` interval: \w+`, " interval: 1s"}}, [][2]string{{`_interval: \w+`, "_interval: 1s"}}
		groups = [][2]string{{`group_wait: \w+`, "group_wait: 0s"}, {`group_interval: \w+`, "group_interval: 1s"}}
	}
	shipped(t, dir, "alertmanager/kms-auditor.tmpl")
	alertmanager, err := exec.LookPath("prometheus-alertmanager")
	must(t, err)
	_, alerts := start(t, `"?Listening on"? address=(127\.0\.0\.1:\d+)`, alertmanager, []string{
		"--config.file=" + shipped(t, dir, "alertmanager/alertmanager.yml", append(groups,
			[2]string{`http://localhost:5001/page`, testenv.Serve(t, page)}, [2]string{`http://localhost:5001/team`, testenv.Serve(t, team)})...),
		"--storage.path=" + filepath.Join(dir, "alertmanager"), "--web.listen-address=127.0.0.1:0", "--cluster.listen-address=",
	}, nil, nil)

	shipped(t, dir, "prometheus/kms-auditor.rules.yml", rules...)
	program, err := exec.LookPath("prometheus")
	must(t, err)
	_, addr := start(t, `msg="Listening on" address=(127\.0\.0\.1:\d+)`, program, []string{
		"--config.file=" + shipped(t, dir, "prometheus/prometheus.yml", append(intervals,
			[2]string{`kms-auditor:10726`, strings.TrimPrefix(url, "http://")}, [2]string{`alertmanager:9093`, alerts})...),
		"--storage.tsdb.path=" + filepath.Join(dir, "prometheus"), "--web.listen-address=127.0.0.1:0",
	}, nil, nil)
	return page, team, &prometheus{"http://" + addr}
}

// TestAPageArrivesAndIsTakenBack checks that the deployed rules page with the id and the runbook, and resolve the page.
func TestAPageArrivesAndIsTakenBack(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2, 2)
	s.settings.Web.ExternalURL, s.settings.Chains[0].Explorer = "https://audit.example.com", "https://explorer.example.com/"
	d := startDaemon(t, s.settings)
	page, team, p := startPaging(t, d.url, "1s")
	d.finds(t, "consistent")
	p.becomes(t, `kms_auditor_entries{list="device",verdict="match"}`, 2) // so that Prometheus sees the change

	t.Log("the API calls a device refused that the contract trusts")
	lie := s.claim()
	lie.Contracts[0].Devices[1].Allowed, lie.Contracts[0].Devices[1].NodeName = new(false), new("prod9")
	must(t, s.api.put(lie))
	m := page.next(t, "KMSAuditorCriticalFinding")
	if m.Status != "firing" || m.Receiver != "page" || len(m.Alerts) != 1 {
		t.Fatalf("%+v is not a page about one finding", m)
	}
	id, contract := s.devices[1].Hex(), s.kms.Address().Hex()
	tx := regexp.MustCompile(`0x[0-9a-f]{64}`).FindString(m.Alerts[0].Annotations["explorer_url"])
	since, err := time.Parse("2006-01-02 15:04 MST", strings.TrimPrefix(strings.Split(m.Alerts[0].Annotations["description"], ".")[0], "Open since "))
	if err != nil || time.Since(since) > 5*time.Minute {
		t.Errorf("it is open since %s (%v)", since, err)
	}
	if receipt, err := s.client.TransactionReceipt(t.Context(), common.HexToHash(tx)); err != nil || receipt.Logs[0].Address != s.kms.Address() {
		t.Errorf("transaction %q: %v, or it is not about the contract", tx, err)
	}
	want := map[string]string{
		"summary": "KMS contract " + short(contract) + " on base trusts device " + short(id) + " (prod9?), which the API says is refused",
		"description": "Open since " + since.Format("2006-01-02 15:04 MST") + ". Last changed on chain by transaction " + tx +
			". Finding claim_denied_chain_allowed of KMS contract " + contract + " on base, device " + id + ".",
		"status_url":   "https://audit.example.com/",
		"explorer_url": "https://explorer.example.com/tx/" + tx,
		"runbook_url":  "https://github.com/kms-auditor/kms-auditor/blob/main/docs/findings.md#claim_denied_chain_allowed",
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
		t.Errorf("%+v does not resolve the page", m)
	}
	must(t, s.kms.RemoveDevice(t.Context(), s.devices[0]))
	if m := team.next(t, "KMSAuditorWarningFinding"); m.Status != "firing" || m.Alerts[0].Labels["id"] != s.devices[0].Hex() {
		t.Errorf("%+v does not tell the team of %s", m, s.devices[0])
	}
	p.annotates(t, "../deploy/grafana/kms-auditor.json")
}

// short returns the first and last digits of an id.
func short(id string) string { return id[:6] + "…" + id[len(id)-3:] }
