package web_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

func TestRoutes(t *testing.T) {
	var want bytes.Buffer
	if err := render.JSON(&want, first); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name         string
		report       *audit.Report
		method, path string
		status       int
		body         string // contained in the answer
	}{
		{"the page links the report", nil, "GET", "/", 200, `href="api/v1/report"`},
		{"the page names the version", nil, "GET", "/", 200, "1.0.0"},
		{"the process is healthy before the first audit", nil, "GET", "/-/healthy", 200, "healthy"},
		{"it is not ready before the first audit", nil, "GET", "/-/ready", 503, "no audit"},
		{"it is ready once an audit has finished", first, "GET", "/-/ready", 200, "ready"},
		{"there is no report before the first audit", nil, "GET", "/api/v1/report", 503, `"error"`},
		{"the report is as render writes it", first, "GET", "/api/v1/report", 200, want.String()},
		{"a head of the report has no body", first, "HEAD", "/api/v1/report", 200, ""},
		{"metrics are scraped", first, "GET", "/metrics", 200, "up_and_running 1"},
		{"a head of the metrics has no body", first, "HEAD", "/metrics", 200, ""},
		{"nothing can be posted to the report", first, "POST", "/api/v1/report", 405, ""},
		{"nothing can be deleted from the metrics", first, "DELETE", "/metrics", 405, ""},
		{"the page takes no form", first, "POST", "/", 405, ""},
		{"unknown pages are not found", first, "GET", "/api/v1/reports", 404, ""},
		{"there is no profiling", first, "GET", "/debug/pprof/heap", 404, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := options(tt.report)
			reg := prometheus.NewRegistry()
			up := prometheus.NewGauge(prometheus.GaugeOpts{Name: "up_and_running", Help: "Test."})
			up.Set(1)
			reg.MustRegister(up)
			o.Gatherer = reg
			s := serve(t, o, 1)
			resp, body := ask(t, client, request(t, tt.method, "http://"+s.addrs[0]+tt.path))
			if resp.StatusCode != tt.status || !strings.Contains(body, tt.body) {
				t.Errorf("%s %s = %d %q, want %d and %q", tt.method, tt.path, resp.StatusCode, body, tt.status, tt.body)
			}
			if tt.method == "HEAD" && body != "" {
				t.Errorf("a body: %q", body)
			}
			if strings.HasPrefix(tt.path, "/api/") && tt.status != 405 && tt.status != 404 {
				if resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Content-Type") != "application/json" {
					t.Errorf("headers of the report: %v", resp.Header)
				}
				if tt.method == "GET" && !json.Valid([]byte(body)) {
					t.Errorf("no JSON: %q", body)
				}
			}
		})
	}
}

func TestOpenMetricsIsServedToThoseWhoAskForIt(t *testing.T) {
	s := serve(t, options(nil), 1)
	req := request(t, "GET", "http://"+s.addrs[0]+"/metrics")
	req.Header.Set("Accept", "application/openmetrics-text;version=1.0.0")
	resp, body := ask(t, client, req)
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/openmetrics-text") || !strings.HasSuffix(body, "# EOF\n") {
		t.Errorf("%s: %q", resp.Header.Get("Content-Type"), body)
	}
}

type broken struct{ prometheus.Gauge }

func (b broken) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(b.Desc(), errors.New("out of order"))
}

func TestABrokenCollectorIsLoggedAndLeavesTheRest(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	o := options(nil)
	o.Logger = zap.New(core)
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		prometheus.NewGauge(prometheus.GaugeOpts{Name: "sound", Help: "Test."}),
		broken{prometheus.NewGauge(prometheus.GaugeOpts{Name: "broken", Help: "Test."})})
	o.Gatherer = reg
	s := serve(t, o, 1)
	resp, body := ask(t, client, request(t, "GET", "http://"+s.addrs[0]+"/metrics"))
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, "sound 0") {
		t.Errorf("%d %q, want the sound metric", resp.StatusCode, body)
	}
	if logs.FilterMessageSnippet("out of order").Len() != 1 {
		t.Errorf("logs: %v", logs.All())
	}
}
