// Package deploy_test holds what is deployed beside the program against the program.
package deploy_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
	"github.com/kms-auditor/kms-auditor/kmsapi"
	"github.com/kms-auditor/kms-auditor/metrics"
)

// added are the labels that Prometheus adds, and the le of a histogram.
var added = []string{"job", "instance", "le"}

// served returns the labels of every metric that the program serves.
func served() map[string][]string {
	reg := prometheus.NewRegistry()
	metrics.New(reg, metrics.Build{})
	descs := make(chan *prometheus.Desc)
	go func() {
		reg.Describe(descs)
		close(descs)
	}()
	out := map[string][]string{"up": nil, "kms_auditor:audit_period_seconds": {"chain"}}
	says := regexp.MustCompile(`fqName: "(\w+)".*variableLabels: \{([^}]*)\}`)
	for d := range descs {
		m := says.FindStringSubmatch(d.String())
		labels := strings.Split(m[2], ",")
		out[m[1]] = labels
		if strings.HasSuffix(m[1], "_duration_seconds") {
			out[m[1]+"_bucket"] = labels
		}
	}
	return out
}

// values are the closed sets of label values that expressions select from.
func values() map[string][]string {
	kinds := make([]string, len(audit.Kinds))
	for i, k := range audit.Kinds {
		kinds[i] = string(k)
	}
	return map[string][]string{
		"kind": kinds, "severity": {"critical", "warning", "info"}, "verdict": {"consistent", "drift", "unknown"},
		"level":  {"proven", "incomplete", "events", "unchecked", "agreed", "single"},
		"result": append(slices.Clone(kmsapi.Results), transport.Results...), "job": {"kms-auditor"},
		"trust": strings.Fields(strings.Trim(fmt.Sprint(audit.Trusts), "[]")),
	}
}

var (
	selector = regexp.MustCompile(`\b(up|kms_auditor[:_]\w+)\b(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
	grouping = regexp.MustCompile(`\b(?:by|on|group_left|group_right)\s*\(([^)]*)\)`)
)

// check fails the test where an expression names what the program does not serve.
func check(t *testing.T, where, expr string) {
	t.Helper()
	var known []string
	found := selector.FindAllStringSubmatch(expr, -1)
	if len(found) == 0 {
		t.Errorf("%s has no metric: %s", where, expr)
	}
	for _, m := range found {
		labels, ok := served()[m[1]]
		if !ok {
			t.Errorf("%s: no metric %s is served", where, m[1])
		}
		labels = append(slices.Clone(labels), added...)
		known = append(known, labels...)
		for _, m2 := range matcher.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(labels, m2[1]) {
				t.Errorf("%s: %s has no label %s", where, m[1], m2[1])
			}
			if !strings.HasPrefix(m2[3], "$") && m2[2]+m2[3] != "!=" { // a variable; or any value
				checkValue(t, where, m2[1], m2[3])
			}
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		for label := range strings.FieldsFuncSeq(g[1], func(r rune) bool { return r == ',' || r == ' ' }) {
			if !slices.Contains(known, label) {
				t.Errorf("%s: no metric in it has the label %s", where, label)
			}
		}
	}
}

// checkValue fails the test where an alternative of a matcher's value matches nothing.
func checkValue(t *testing.T, where, label, value string) {
	t.Helper()
	alternatives := []string{value}
	if head, tail, ok := strings.Cut(value, ")"); ok { // (a|b)_c|d
		first, rest, _ := strings.Cut(tail, "|")
		alternatives = nil
		for a := range strings.SplitSeq(strings.TrimPrefix(head, "("), "|") {
			alternatives = append(alternatives, a+first)
		}
		value = rest
	}
	if value != "" {
		alternatives = append(alternatives, strings.Split(value, "|")...)
	}
	for _, a := range alternatives {
		if !slices.ContainsFunc(values()[label], func(v string) bool { return regexp.MustCompile("^(?:" + a + ")$").MatchString(v) }) {
			t.Errorf("%s: %s is never %q", where, label, a)
		}
	}
}

// panel is what a Grafana dashboard says of one of its panels.
type panel struct {
	ID          int
	Type, Title string
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct{ Expr string }
}

func TestTheDashboardShowsWhatIsServed(t *testing.T) {
	b, err := os.ReadFile("grafana/kms-auditor.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		UID        string
		Panels     []panel
		Templating struct {
			List []struct{ Name, Type, Definition string }
		}
		Annotations struct {
			List []struct{ Name, Expr string }
		}
	}
	if err := json.Unmarshal(b, &dashboard); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range dashboard.Templating.List {
		names = append(names, v.Name)
		if v.Type == "query" {
			check(t, "variable "+v.Name, v.Definition)
		}
	}
	if !slices.Equal(names, []string{"datasource", "instance", "chain", "contract", "page"}) {
		t.Errorf("variables %q", names)
	}
	for _, a := range dashboard.Annotations.List {
		check(t, "annotation "+a.Name, a.Expr)
	}
	places := map[[2]int]string{}
	ids := map[int]bool{}
	for _, p := range dashboard.Panels {
		if ids[p.ID] {
			t.Errorf("%s has the id %d of another panel", p.Title, p.ID)
		}
		ids[p.ID] = true
		for i := range p.GridPos.W * p.GridPos.H {
			at := [2]int{p.GridPos.X + i%p.GridPos.W, p.GridPos.Y + i/p.GridPos.W}
			if other := places[at]; other != "" || at[0] >= 24 {
				t.Fatalf("%s lies on %q or beyond the edge", p.Title, other)
			}
			places[at] = p.Title
		}
		if len(p.Targets) == 0 && p.Type != "row" {
			t.Errorf("%s shows nothing", p.Title)
		}
		for _, q := range p.Targets {
			check(t, "panel "+p.Title, q.Expr)
			for _, m := range selector.FindAllStringSubmatch(q.Expr, -1) {
				if !strings.Contains(m[2], `instance=~"$instance"`) {
					t.Errorf("%s shows %s of every instance", p.Title, m[1])
				}
			}
		}
	}
}

// TestThePagesNameWhatIsServed, with every label, whether or not they spell the prefix of a metric.
func TestThePagesNameWhatIsServed(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := os.ReadFile("prometheus/kms-auditor.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	alert := regexp.MustCompile(`\bKMSAuditor[A-Z]\w+`)
	found, short := 0, regexp.MustCompile("`([a-z_]+_(?:total|seconds|number|dropped|successful))(\\{[^}`]*\\})?")
	for _, page := range append(pages, "../README.md", "../SECURITY.md") {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		text := short.ReplaceAllStringFunc(string(b), func(s string) string {
			if strings.HasPrefix(s, "`node_") { // of the node exporter
				return s
			}
			return "`kms_auditor_" + strings.TrimPrefix(s[1:], "kms_auditor_")
		})
		for _, name := range alert.FindAllString(text, -1) {
			if !strings.Contains(string(rules), "alert: "+name+"\n") {
				t.Errorf("%s names %s, and there is no such alert", page, name)
			}
		}
		for line := range strings.Lines(text) {
			if strings.Contains(line, "kms_auditor") && selector.MatchString(line) {
				found++
				check(t, page, line)
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d lines with metrics were found", found)
	}
}
