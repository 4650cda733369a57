package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/exporter-toolkit/web"
	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

// maxScrapes is the number of scrapes that are answered at the same time.
const maxScrapes = 8

const style = `body { font-family: system-ui, sans-serif; margin: 0 }
header { background: #1f4e5f; color: #fff; padding: 1rem }
main { padding: 1rem }`

func handler(o Options) (http.Handler, error) {
	landing, err := web.NewLandingPage(web.LandingConfig{
		Name:        "kms-auditor",
		Description: "Whether the API tells the truth about the KMS contract",
		Version:     o.Version,
		CSS:         style,
		Profiling:   "false",
		Links: []web.LandingLinks{
			{Address: "/api/v1/report", Text: "Report", Description: "the last audit, as JSON"},
			{Address: "/metrics", Text: "Metrics", Description: "for Prometheus"},
			{Address: "/-/healthy", Text: "Healthy", Description: "whether the process is alive"},
			{Address: "/-/ready", Text: "Ready", Description: "whether an audit has finished"},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("making the landing page: %w", err)
	}
	errorLog, err := zap.NewStdLogAt(o.Logger, zap.ErrorLevel)
	if err != nil {
		return nil, fmt.Errorf("bridging the scrapes' log: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", landing)
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{
		ErrorLog:            errorLog,
		ErrorHandling:       promhttp.ContinueOnError,
		EnableOpenMetrics:   true,
		MaxRequestsInFlight: maxScrapes,
	}))
	mux.HandleFunc("GET /api/v1/report", lastReport(o.Report))
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "healthy")
	})
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if o.Report() == nil {
			http.Error(w, "no audit has finished yet", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	return guard(mux), nil
}

func lastReport(last func() *audit.Report) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		r := last()
		if r == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, `{"error": "no audit has finished yet"}`)
			return
		}
		var body bytes.Buffer
		if err := render.JSON(&body, r); err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprintln(w, `{"error": "the report cannot be written as JSON"}`)
			return
		}
		w.Write(body.Bytes())
	}
}

// guard adds the security headers, where the web configuration has not set them already.
func guard(next http.Handler) http.Handler {
	digest := sha256.Sum256([]byte(style))
	headers := map[string]string{
		"X-Content-Type-Options": "nosniff",
		"Referrer-Policy":        "no-referrer",
		"Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'sha256-" +
			base64.StdEncoding.EncodeToString(digest[:]) + "'",
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range headers {
			if w.Header().Get(name) == "" {
				w.Header().Set(name, value)
			}
		}
		next.ServeHTTP(w, r)
	})
}
