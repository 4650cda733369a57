package simtest_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"strings"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/metrics"
)

// alerts are the metrics, and the rules that page.
type alerts struct {
	metrics *metrics.Metrics
	reg     *prometheus.Registry
	paging  [][]matcher // selectors of kms_auditor_open_finding
}

type matcher struct {
	label, op string
	value     *regexp.Regexp
}

var (
	selector  = regexp.MustCompile(`(?s)kms_auditor_open_finding\{(.*?)\}`)
	condition = regexp.MustCompile(`(\w+)(=~|!~|!=|=)"([^"]*)"`)
)

// rules reads the selectors of the alert rules that page.
func rules() (out [][]matcher) {
	text, err := os.ReadFile("../../deploy/prometheus/kms-auditor.rules.yml")
	must(err)
	var file struct {
		Groups []struct {
			Rules []struct {
				Expr   string
				Labels map[string]string
			}
		}
	}
	must(yaml.Unmarshal(text, &file))
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			found := selector.FindStringSubmatch(r.Expr)
			if found == nil || r.Labels["severity"] != "critical" {
				continue
			}
			var all []matcher
			for _, m := range condition.FindAllStringSubmatch(found[1], -1) {
				if !strings.HasSuffix(m[2], "~") {
					m[3] = regexp.QuoteMeta(m[3])
				}
				all = append(all, matcher{m[1], m[2], regexp.MustCompile("^(?:" + m[3] + ")$")})
			}
			out = append(out, all)
		}
	}
	return out
}

var pagingRules = rules()

func newAlerts() *alerts {
	a := &alerts{reg: prometheus.NewRegistry(), paging: pagingRules}
	a.metrics = metrics.New(a.reg, metrics.Build{})
	a.metrics.Configure([]metrics.Chain{{Name: "test"}})
	return a
}

// check feeds a report to the metrics. The series must be its findings, and the critical findings must page.
func (a *alerts) check(r *audit.Report) error {
	a.metrics.Report(r)
	families, err := a.reg.Gather()
	if err != nil {
		return err
	}
	series, pages := map[string]bool{}, map[string]bool{}
	for _, f := range families {
		if f.GetName() != "kms_auditor_open_finding" {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			name := fmt.Sprint(labels["contract"], labels["kind"], labels["list"], labels["id"])
			series[name] = m.GetGauge().GetValue() == 1
			for _, rule := range a.paging {
				pages[name] = pages[name] || all(rule, labels)
			}
		}
	}
	maps.DeleteFunc(pages, func(_ string, pages bool) bool { return !pages })
	open, critical := map[string]bool{}, map[string]bool{}
	for _, t := range r.Chains[0].Targets {
		for _, f := range t.Findings {
			id := f.ID
			if f.Kind == audit.MalformedID {
				id = ""
			}
			name := fmt.Sprint(t.Contract, f.Kind, f.List, id)
			open[name] = true
			if f.Severity == audit.Critical {
				critical[name] = true
			}
		}
	}
	if diff := cmp.Diff(open, series); diff != "" {
		return fmt.Errorf("the series of open findings differ from the findings:\n%s", diff)
	}
	if diff := cmp.Diff(critical, pages); diff != "" {
		return fmt.Errorf("the findings that page differ from the critical ones:\n%s", diff)
	}
	return nil
}

func all(rule []matcher, labels map[string]string) bool {
	for _, m := range rule {
		if m.value.MatchString(labels[m.label]) != strings.HasPrefix(m.op, "=") {
			return false
		}
	}
	return true
}
