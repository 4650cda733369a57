// Package web serves what the daemon knows over HTTP: the status page, the last report, the history, the metrics, and the probes.
//
// Listen binds first, so that an occupied port is known before the first audit; Serve then answers until its context ends.
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

// shutdown is the time that open requests get to finish.
const shutdown = 3 * time.Second

// Options are what is served.
type Options struct {
	Report     func() *audit.Report     // the last report, also of an earlier process; nil before the first
	Ready      func() bool              // whether an audit of this process has finished
	State      *state.State             // what is remembered
	Plan       func() Plan              // when audits come
	Explorers  func() map[string]string // the base URL of each chain's block explorer, by the chain's name; nil: no links
	Gatherer   prometheus.Gatherer
	Logger     *zap.Logger
	Version    string
	Config     Config
	ConfigFile string // exporter-toolkit's web configuration; empty: plain HTTP, no auth
}

// Check returns what is wrong with a web configuration file, its certificates included. No file is no mistake.
func Check(configFile string) error {
	if err := web.Validate(configFile); err != nil {
		return fmt.Errorf("reading %s: %w", configFile, err)
	}
	return nil
}

// Listen binds all of addrs (host:port, :port), or none.
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
// Where one listener fails, it stops them all and returns that error. It closes the listeners in every case. Without any it returns at once.
func Serve(ctx context.Context, listeners []net.Listener, o Options) error {
	defer closeAll(listeners)
	h := handler(o)
	errorLog, _ := zap.NewStdLogAt(o.Logger, zap.WarnLevel) // the level is a valid one
	logger := slog.New(zapslog.NewHandler(o.Logger.Core(), zapslog.AddStacktraceAt(slog.LevelError+1)))
	group, ctx := errgroup.WithContext(ctx)
	for _, l := range listeners {
		// The toolkit changes the server that it is given, so that two listeners cannot share one.
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
				return server.Close() // cuts the requests that outlast the grace
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

// What is answered at the same time at most.
const (
	maxScrapes    = 8
	maxRenderings = 4 // of what is rendered for each request
)

// headers are those of every answer, unless the web configuration or the answer itself has others.
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

// maxInFlight has the others wait while as many as may are answered.
func maxInFlight(n int64, next http.Handler) http.Handler {
	slots := semaphore.NewWeighted(n)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if slots.Acquire(r.Context(), 1) == nil {
			defer slots.Release(1)
			next.ServeHTTP(w, r)
		}
	})
}

// Config is the configuration that audits run under.
type Config struct {
	Running func() string // which one it is, in a sentence without secrets
	Reload  func() error  // reads it again, and tells why that changed nothing; nil: it cannot be
}

// ErrReloadOff is why Config.Reload did not even try.
var ErrReloadOff = errors.New("reloading over HTTP is off: set web.reload to true and send SIGHUP, or restart")

// reload answers POST /-/reload. Whoever may ask sees what is wrong with the configuration; no page of another site may.
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
