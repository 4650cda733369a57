package web

import (
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

func handler(o Options) (http.Handler, error) {
	errorLog, err := zap.NewStdLogAt(o.Logger, zap.ErrorLevel)
	if err != nil {
		return nil, fmt.Errorf("bridging the scrapes' log: %w", err)
	}
	mux := http.NewServeMux()
	began := time.Now()
	mux.Handle("GET /{$}", &page{opt: o, began: began})
	mux.Handle("GET /entries", maxInFlight(maxRenderings, entries(o)))
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{
		ErrorLog:            errorLog,
		ErrorHandling:       promhttp.ContinueOnError,
		EnableOpenMetrics:   true,
		MaxRequestsInFlight: maxScrapes,
	}))
	mux.Handle("GET /api/v1/report", &reportHandler{last: o.Report, began: began})
	mux.Handle("GET /api/v1/history", maxInFlight(maxRenderings, timeline(o.State)))
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "healthy")
	})
	mux.Handle("POST /-/reload", reload(o.Config))
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if o.Report() == nil {
			http.Error(w, "no audit has finished yet", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	return guard(mux), nil
}
