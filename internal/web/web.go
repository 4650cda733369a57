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
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

// shutdown is the time that open requests get to finish.
const shutdown = 3 * time.Second

// Options are what is served.
type Options struct {
	Report     func() *audit.Report // the last report; nil before the first
	State      *state.State         // what is remembered
	Plan       func() Plan          // when audits come
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
	h, err := handler(o)
	if err != nil {
		return err
	}
	errorLog, err := zap.NewStdLogAt(o.Logger, zap.WarnLevel)
	if err != nil {
		return fmt.Errorf("bridging the server's log: %w", err)
	}
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
		}
		group.Go(func() error {
			err := web.Serve(netutil.LimitListener(l, maxConnections), server, &web.FlagConfig{WebConfigFile: &o.ConfigFile}, logger)
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return fmt.Errorf("serving on %s: %w", l.Addr(), err)
		})
		group.Go(func() error {
			<-ctx.Done()
			return stop(server)
		})
	}
	return group.Wait()
}

// stop ends the server, cutting the requests that outlast the grace.
func stop(server *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdown)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return server.Close()
	}
	return nil
}

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
