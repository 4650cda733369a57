package metrics_test

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kms-auditor/kms-auditor/internal/testenv/page"
	"github.com/kms-auditor/kms-auditor/metrics"
)

//go:generate go test -run TestTheTableOfMetrics . -write

// registered notes the collectors that are registered with it.
type registered struct {
	prometheus.Registerer
	all []prometheus.Collector
}

func (r *registered) Register(c prometheus.Collector) error {
	r.all = append(r.all, c)
	return nil
}

func (r *registered) MustRegister(all ...prometheus.Collector) { r.all = append(r.all, all...) }

func TestTheTableOfMetrics(t *testing.T) {
	var reg registered
	metrics.New(&reg, metrics.Build{})
	says := regexp.MustCompile(`^Desc\{fqName: "(\w+)", help: ("(?:[^"\\]|\\.)*"), .*variableLabels: \{([^}]*)\}`)
	var rows [][]string
	for _, c := range reg.all {
		kind := "gauge"
		switch c.(type) {
		case *prometheus.CounterVec:
			kind = "counter"
		case *prometheus.HistogramVec:
			kind = "histogram"
		}
		descs := make(chan *prometheus.Desc)
		go func() {
			c.Describe(descs)
			close(descs)
		}()
		for d := range descs {
			m := says.FindStringSubmatch(d.String())
			if m == nil {
				t.Fatalf("%s", d)
			}
			help, err := strconv.Unquote(m[2])
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, []string{"`" + m[1] + "`", kind, strings.ReplaceAll(m[3], ",", ", "), help})
		}
	}
	slices.SortFunc(rows, func(a, b []string) int { return strings.Compare(strings.Trim(a[0], "`"), strings.Trim(b[0], "`")) })
	page.Check(t, "../docs/metrics.md", "metrics", page.Table(append([][]string{{"metric", "type", "labels", "meaning"}}, rows...)...))
}
