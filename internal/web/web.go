// Package web serves the daemon's status page, last report, history, metrics and probes over HTTP.
//
// Listen binds, so that an occupied port is an error before the first audit. Serve answers until its context ends.
// TLS and basic auth come from a web configuration file of the Prometheus exporter-toolkit.
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/exporter-toolkit/web"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

// shutdown is how long open requests may take to finish.
const shutdown = 3 * time.Second

// Options are the data sources and settings of Serve.
type Options struct {
	Report     func() *audit.Report     // the last report, possibly of an earlier process; nil before the first
	Ready      func() bool              // whether an audit of this process has finished
	State      *state.State             // the history, past findings and last comparisons
	Plan       func() Plan              // the schedule that runs now
	Explorers  func() map[string]string // the base URL of each chain's block explorer, by the chain's name; optional
	Gatherer   prometheus.Gatherer
	Logger     *zap.Logger
	Version    string
	Config     Config
	ConfigFile string // exporter-toolkit's web configuration; empty for plain HTTP without authentication
}

// Check returns an error if a web configuration file, or a certificate that it names, is invalid. An empty name is valid.
func Check(configFile string) error {
	if err := web.Validate(configFile); err != nil {
		return fmt.Errorf("reading %s: %w", configFile, err)
	}
	return nil
}

// Listen binds all of addrs (host:port or :port). On an error it binds none.
func Listen(addrs []string) ([]net.Listener, error) {
	var bound []net.Listener
	for _, a := range addrs {
		l, err := net.Listen("tcp", a)
		if err != nil {
			closeAll(bound)
			return nil, fmt.Errorf("listening on %s: %w", a, err)
		}
		bound = append(bound, l)
	}
	return bound, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
	}
}

// Serve answers on the listeners until ctx ends, then lets open requests finish within three seconds and returns nil.
// If one listener fails, it stops all of them and returns the error. It always closes the listeners. Without listeners it returns at once.
func Serve(ctx context.Context, listeners []net.Listener, o Options) error {
	defer closeAll(listeners)
	h := handler(o)
	errorLog, _ := zap.NewStdLogAt(o.Logger, zap.WarnLevel) // the level is a valid one
	logger := slog.New(zapslog.NewHandler(o.Logger.Core(), zapslog.AddStacktraceAt(slog.LevelError+1)))
	group, ctx := errgroup.WithContext(ctx)
	for _, l := range listeners {
		// The toolkit changes the server, so listeners cannot share one.
		server := &http.Server{
			Handler:           h,
			ErrorLog:          errorLog,
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       10 * time.Second,
			WriteTimeout:      30 * time.Second,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    16 << 10,
			ConnContext:       markConn,
		}
		group.Go(func() error {
			err := web.Serve(limit(l), server, &web.FlagConfig{WebConfigFile: &o.ConfigFile}, logger)
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return fmt.Errorf("serving on %s: %w", l.Addr(), err)
		})
		group.Go(func() error {
			<-ctx.Done()
			grace, cancel := context.WithTimeout(context.Background(), shutdown)
			defer cancel()
			if server.Shutdown(grace) != nil {
				return server.Close() // drops requests that take longer
			}
			return nil
		})
	}
	return group.Wait()
}

func handler(o Options) http.Handler {
	errorLog, _ := zap.NewStdLogAt(o.Logger, zap.ErrorLevel) // the level is a valid one
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
		if !o.Ready() {
			http.Error(w, "no audit has finished yet", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	return guard(probesOnly(mux))
}

// Limits of requests that are answered at the same time.
const (
	maxScrapes    = 8
	maxRenderings = 4 // of pages that are rendered for each request
)

// headers are added to every answer, unless the web configuration or the handler sets them.
var headers = map[string]string{
	"Cache-Control":                "no-store",
	"Content-Security-Policy":      policy,
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Referrer-Policy":              "no-referrer",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
}

func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range headers {
			if w.Header().Get(name) == "" {
				w.Header().Set(name, value)
			}
		}
		next.ServeHTTP(w, r)
	})
}

// maxInFlight answers n requests at a time; others wait.
func maxInFlight(n int64, next http.Handler) http.Handler {
	slots := semaphore.NewWeighted(n)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if slots.Acquire(r.Context(), 1) == nil {
			defer slots.Release(1)
			next.ServeHTTP(w, r)
		}
	})
}

// Config describes and reloads the running configuration.
type Config struct {
	Running func() string // a sentence about it, without secrets
	Reload  func() error  // reads it again; an error means that nothing changed; optional
}

// ErrReloadOff is the error of Config.Reload if reloading over HTTP is off.
var ErrReloadOff = errors.New("reloading over HTTP is off: set web.reload to true and send SIGHUP, or restart")

// reload answers POST /-/reload, with the problems of the configuration if it has any. It refuses cross-origin requests.
func reload(c Config) http.Handler {
	return http.NewCrossOriginProtection().Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		err := ErrReloadOff
		if c.Reload != nil {
			err = c.Reload()
		}
		switch {
		case errors.Is(err, ErrReloadOff):
			http.Error(w, err.Error(), http.StatusForbidden)
		case err != nil:
			http.Error(w, fmt.Sprintf("not reloaded; the running configuration %s\n%v", c.Running(), err), http.StatusBadRequest)
		default:
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			fmt.Fprintf(w, "reloaded; the running configuration %s\n", c.Running())
		}
	}))
}
