package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/kms-auditor/kms-auditor/audit"
)

// rule is an alert, or a recording rule.
type rule struct {
	Alert, Record, Expr string
	For                 string
	KeepFiringFor       string `yaml:"keep_firing_for"`
	Labels, Annotations map[string]string
}

func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(b, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func rules(t *testing.T) (all []rule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	readYAML(t, "prometheus/kms-auditor.rules.yml", &file)
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("no rules")
	}
	return all
}

// headings returns the anchors of a document under docs.
func headings(t *testing.T, name string) map[string]bool {
	t.Helper()
	b, err := os.ReadFile("../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(b), -1) {
		out[strings.ToLower(strings.ReplaceAll(m[1], " ", "-"))] = true
	}
	return out
}

func TestAlertsLookAtWhatIsServed(t *testing.T) {
	for _, r := range rules(t) {
		check(t, r.Alert+r.Record, r.Expr)
	}
}

// An annotation whose query matches nothing looks as if nothing more were known.
func TestAnnotationsLookAtWhatIsServed(t *testing.T) {
	known, found := served(), 0
	query := regexp.MustCompile("(kms_auditor_\\w+)(?:` \\$of|%s|{([^}`]*)})")
	for _, r := range rules(t) {
		for name, text := range r.Annotations {
			of := regexp.MustCompile("\\$of := printf `{([^}]*)}`").FindStringSubmatch(text)
			for _, m := range query.FindAllStringSubmatch(text, -1) {
				found++
				if m[2] == "" && of != nil {
					m[2] = of[1]
				}
				labels, ok := known[m[1]]
				if !ok || m[2] == "" {
					t.Errorf("%s of %s: %s is not served, or by no labels", name, r.Alert, m[1])
				}
				for _, l := range regexp.MustCompile(`(\w+)(?:=|!=)[%"]`).FindAllStringSubmatch(m[2], -1) {
					if !slices.Contains(append(slices.Clone(labels), added...), l[1]) {
						t.Errorf("%s of %s: %s has no label %s", name, r.Alert, m[1], l[1])
					}
				}
			}
			for _, m := range regexp.MustCompile(`\.Labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
				if !slices.Contains(slices.Concat(known["kms_auditor_open_finding_info"], known["kms_auditor_chain_info"]), m[1]) {
					t.Errorf("%s of %s: nothing has the label %s", name, r.Alert, m[1])
				}
			}
		}
	}
	if found < 20 {
		t.Errorf("%d queries found in annotations", found)
	}
}

// A second critical finding of a contract waits for a scrape, for the rules, and for Alertmanager's group.
func TestASecondCriticalFindingPagesWithinAMinute(t *testing.T) {
	var manager struct {
		Route struct {
			Routes []struct {
				Receiver      string
				GroupInterval time.Duration `yaml:"group_interval"`
			}
		}
	}
	var prometheus struct {
		Global struct {
			Scrape time.Duration `yaml:"scrape_interval"`
		}
	}
	var rules struct {
		Groups []struct{ Interval time.Duration }
	}
	readYAML(t, "alertmanager/alertmanager.yml", &manager)
	readYAML(t, "prometheus/prometheus.yml", &prometheus)
	readYAML(t, "prometheus/kms-auditor.rules.yml", &rules)
	page, scrape, group := manager.Route.Routes[0], prometheus.Global.Scrape, rules.Groups[0].Interval
	if page.Receiver != "page" || min(scrape, group, page.GroupInterval) == 0 || scrape+group+page.GroupInterval >= time.Minute {
		t.Errorf("receiver %s pages again after %s + %s + %s", page.Receiver, scrape, group, page.GroupInterval)
	}
}

func TestEveryAlertTellsWhatToDo(t *testing.T) {
	const docs = "https://github.com/kms-auditor/kms-auditor/blob/main/docs/"
	operating, findings := headings(t, "operating.md"), headings(t, "findings.md")
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s has severity %q", r.Alert, s)
		}
		if r.For == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s lacks for, summary or description", r.Alert)
		}
		// What is absent cannot flap, and a new configuration that works ends its alert.
		if r.KeepFiringFor == "" && r.Alert != "KMSAuditorAbsent" && r.Alert != "KMSAuditorReloadFailed" {
			t.Errorf("%s lacks keep_firing_for", r.Alert)
		}
		if strings.Contains(r.Expr, "by (chain, contract, kind, list, id)") && !strings.Contains(r.Annotations["description"], "$labels.id") {
			t.Errorf("the description of %s does not show the id", r.Alert)
		}
		page, anchor, _ := strings.Cut(strings.TrimPrefix(r.Annotations["runbook_url"], docs), "#")
		switch {
		case page == "findings.md" && anchor == "{{ $labels.kind }}":
			for _, k := range audit.Kinds {
				if !findings[string(k)] {
					t.Errorf("%s: findings.md has no heading %s", r.Alert, k)
				}
			}
		case page != "operating.md" || anchor != strings.ToLower(r.Alert) || !operating[anchor]:
			t.Errorf("the runbook of %s leads nowhere: %s", r.Alert, r.Annotations["runbook_url"])
		}
	}
}

func TestKubernetesHasTheSameAlerts(t *testing.T) {
	var file, object struct{ Groups, Spec any }
	readYAML(t, "prometheus/kms-auditor.rules.yml", &file)
	readYAML(t, "kubernetes/monitoring/prometheusrule.yaml", &object)
	if diff := cmp.Diff(map[string]any{"groups": file.Groups}, object.Spec); diff != "" {
		t.Errorf("make deploy was forgotten (-file +object):\n%s", diff)
	}
}

// One finding is one alert: of the alerts on open findings exactly one selects each kind but the informative ones.
func TestEachKindHasOneAlert(t *testing.T) {
	selects := regexp.MustCompile(`(?s)open_finding\{(.*)\}`)
	for _, k := range audit.Kinds {
		var by []string
		for _, r := range rules(t) {
			m := selects.FindStringSubmatch(r.Expr)
			if m == nil {
				continue
			}
			selected := true
			for _, m := range matcher.FindAllStringSubmatch(m[1], -1) {
				got := map[string]string{"kind": string(k), "severity": string(k.Severity())}[m[1]]
				matches := regexp.MustCompile("^(?:" + m[3] + ")$").MatchString(got)
				selected = selected && matches == !strings.HasPrefix(m[2], "!")
			}
			if selected {
				by = append(by, r.Alert)
			}
		}
		want := 1
		if k.Severity() == audit.Info {
			want = 0
		}
		if len(by) != want {
			t.Errorf("%s (%s) raises %q, want %d alerts", k, k.Severity(), by, want)
		}
	}
}

// promtool runs the tests; here they are counted.
func TestEachAlertIsTestedFiringAndNot(t *testing.T) {
	files, err := filepath.Glob("prometheus/*_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	firing, quiet := map[string]bool{}, map[string]bool{}
	for _, f := range files {
		var file struct {
			Tests []struct {
				Rules []struct {
					Alertname string
					Exp       []any `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
			}
		}
		readYAML(t, f, &file)
		for _, test := range file.Tests {
			for _, r := range test.Rules {
				map[bool]map[string]bool{true: firing, false: quiet}[len(r.Exp) > 0][r.Alertname] = true
			}
		}
	}
	for _, r := range rules(t) {
		if r.Alert != "" && (!firing[r.Alert] || !quiet[r.Alert]) {
			t.Errorf("%s is tested firing: %t, and not firing: %t", r.Alert, firing[r.Alert], quiet[r.Alert])
		}
	}
}
