//go:build e2e

package e2e_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/kms-auditor/kms-auditor/internal/testenv"
)

var updateGolden = flag.Bool("update", false, "write the golden files of TestNotifications")

const notifications = "testdata/notifications"

// pages are the addresses that a notification goes to, with Alertmanager's own templates and with those of deploy/alertmanager, and
// what the golden files keep of it.
var pages = map[string][]string{
	"webhook":           {"receiver", "status", "alerts", "commonAnnotations", "commonLabels", "groupLabels", "truncatedAlerts"},
	"slack-default":     {"title", "title_link", "text", "fallback"},
	"pagerduty-default": {"client", "client_url", "event_action", "payload"},
	"slack":             {"title", "title_link", "text", "fallback"},
	"pagerduty":         {"client", "client_url", "event_action", "payload"},
}

// delivery is a notification as it arrives.
type delivery struct {
	page     string
	resolved bool
	body     map[string]any
}

// deliveries keeps notifications by the address that they went to.
type deliveries chan delivery

func (d deliveries) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	got := delivery{page: strings.Trim(r.URL.Path, "/")}
	if err := json.NewDecoder(r.Body).Decode(&got.body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if all, ok := got.body["attachments"].([]any); ok {
		got.body = all[0].(map[string]any)
	}
	maps.DeleteFunc(got.body, func(field string, _ any) bool { return !slices.Contains(pages[got.page], field) })
	title, _ := got.body["title"].(string)
	got.resolved = got.body["status"] == "resolved" || got.body["event_action"] == "resolve" || strings.HasPrefix(title, "Resolved: ")
	d <- got
	_, _ = io.WriteString(w, "ok")
}

// next waits for one notification to each of the pages; Slack's defaults send none when an alert resolves.
func (d deliveries) next(t *testing.T, resolved bool) map[string]any {
	t.Helper()
	out, want := map[string]any{}, len(pages)
	if resolved {
		want--
	}
	for late := time.After(patience); len(out) < want; {
		select {
		case got := <-d:
			if got.resolved != resolved || out[got.page] != nil {
				t.Fatalf("unexpected: %+v", got)
			}
			out[got.page] = got.body
		case <-late:
			t.Fatalf("only %q got a notification (resolved: %t) within %s", slices.Sorted(maps.Keys(out)), resolved, patience)
		}
	}
	return out
}

// startNotifying starts Alertmanager with the deployed routes and templates, of which each receiver notifies all of the pages at url.
func startNotifying(t *testing.T, url string) (alertmanager string) {
	t.Helper()
	dir := t.TempDir()
	shipped(t, dir, "alertmanager/kms-auditor.tmpl")
	path := shipped(t, dir, "alertmanager/alertmanager.yml", [2]string{`(?m)^    # `, "    "},
		[2]string{`group_wait: \w+`, "group_wait: 300ms"}, [2]string{`group_interval: \w+`, "group_interval: 500ms"})
	type object = map[string]any
	var file object
	must(t, yaml.Unmarshal([]byte(readFile(t, path)), &file))
	ours := object{}
	for _, r := range file["receivers"].([]any) {
		for _, kind := range []string{"slack", "pagerduty"} {
			if all, ok := r.(object)[kind+"_configs"].([]any); ok {
				ours[kind] = all[0]
			}
		}
	}
	slack, pager := ours["slack"].(object), ours["pagerduty"].(object)
	delete(slack, "api_url_file")
	delete(pager, "routing_key_file")
	slack["api_url"], pager["url"], pager["routing_key"] = url+"/slack", url+"/pagerduty", "key"
	for _, r := range file["receivers"].([]any) {
		r := r.(object)
		r["webhook_configs"] = []any{object{"url": url + "/webhook"}}
		r["slack_configs"] = []any{object{"api_url": url + "/slack-default", "channel": "#kms"}, slack}
		r["pagerduty_configs"] = []any{object{"url": url + "/pagerduty-default", "routing_key": "key"}, pager}
	}
	text, err := yaml.Marshal(file)
	must(t, err)
	must(t, os.WriteFile(path, text, 0o600))
	program, err := exec.LookPath("prometheus-alertmanager")
	must(t, err)
	_, addr := start(t, `"?Listening on"? address=(127\.0\.0\.1:\d+)`, program, []string{
		"--config.file=" + path, "--storage.path=" + filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0",
		"--web.external-url=http://alertmanager.example", "--web.route-prefix=/", "--cluster.listen-address=",
	}, nil, nil)
	return "http://" + addr
}

// ruleAlerts are the alerts of one test of the rules, which promtool runs.
type ruleAlerts struct {
	Name  string
	Tests []struct {
		Alertname string
		Alerts    []struct {
			Labels      map[string]string `yaml:"exp_labels"`
			Annotations map[string]string `yaml:"exp_annotations"`
		} `yaml:"exp_alerts"`
	} `yaml:"alert_rule_test"`
}

// TestNotifications keeps what somebody reads who is woken by each alert: as a webhook gets it, by Alertmanager's default templates of
// Slack and PagerDuty, and by those of deploy/alertmanager. Read the golden files after -update.
func TestNotifications(t *testing.T) {
	t.Parallel()
	inbox := make(deliveries, 100)
	alertmanager := startNotifying(t, testenv.Serve(t, inbox))
	var file struct{ Tests []ruleAlerts }
	must(t, yaml.Unmarshal([]byte(readFile(t, "../deploy/prometheus/notifications_test.yml")), &file))
	// They began, and are over, at times of the past.
	began := time.Date(2025, 12, 1, 2, 15, 0, 0, time.UTC)
	post := func(test ruleAlerts, ends time.Time) {
		var all []map[string]any
		for _, a := range test.Tests[0].Alerts {
			labels := maps.Clone(a.Labels)
			labels["alertname"] = test.Tests[0].Alertname
			all = append(all, map[string]any{"labels": labels, "annotations": a.Annotations, "startsAt": began, "endsAt": ends,
				"generatorURL": "http://prometheus.example/graph"})
		}
		body, err := json.Marshal(all)
		must(t, err)
		resp, err := http.Post(alertmanager+"/api/v2/alerts", "application/json", bytes.NewReader(body))
		must(t, err)
		defer resp.Body.Close()
		if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
			t.Fatalf("posting alerts: %s: %s", resp.Status, text)
		}
	}
	written := map[string]bool{}
	for _, test := range file.Tests {
		alert := test.Tests[0].Alertname
		written[alert] = true
		post(test, time.Now().Add(time.Hour))
		got, err := yaml.Marshal(inbox.next(t, false))
		must(t, err)
		post(test, began.Add(time.Minute))
		inbox.next(t, true)

		golden := filepath.Join(notifications, alert+".yaml")
		if *updateGolden {
			must(t, os.WriteFile(golden, got, 0o600))
		}
		if diff := cmp.Diff(readFile(t, golden), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", golden, diff)
		}
	}
	var names []string
	for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(readFile(t, "../deploy/prometheus/kms-auditor.rules.yml"), -1) {
		names = append(names, m[1])
	}
	kept, err := filepath.Glob(notifications + "/*")
	must(t, err)
	for i := range kept {
		kept[i] = strings.TrimSuffix(filepath.Base(kept[i]), ".yaml")
	}
	slices.Sort(names)
	if diff := cmp.Diff(names, slices.Sorted(maps.Keys(written))); diff != "" {
		t.Errorf("alerts without a notification (-rules +notifications_test.yml):\n%s", diff)
	}
	if diff := cmp.Diff(names, kept); diff != "" {
		t.Errorf("golden files (-rules +%s):\n%s", notifications, diff)
	}
}

// The deployed intervals hold: only addresses are others.
func TestASecondCriticalFindingPagesWhileTheFirstIsOpen(t *testing.T) {
	t.Parallel()
	s := newScene(t, 3, 1)
	d := startDaemon(t, s.settings)
	page, _, _ := startPaging(t, d.url, "")
	d.finds(t, "consistent")
	lie := s.claim()
	firing := map[string]bool{}
	for i, most := range []time.Duration{time.Minute, time.Minute} {
		lie.Contracts[0].Devices[i].Allowed = new(false)
		firing[s.devices[i].Hex()] = true
		must(t, s.api.put(lie))
		d.await(t, 0, `"finding_opened"`, s.devices[i].Hex())
		opened := time.Now()
		m := page.within(t, "KMSAuditorCriticalFinding", most)
		got := map[string]bool{}
		for _, a := range m.Alerts {
			got[a.Labels["id"]] = a.Status == "firing"
		}
		if diff := cmp.Diff(firing, got); diff != "" {
			t.Fatalf("page %d (-want +got):\n%s", i+1, diff)
		}
		t.Logf("page %d came after %s", i+1, time.Since(opened).Round(time.Second))
	}
}
