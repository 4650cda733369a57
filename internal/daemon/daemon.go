// Package daemon runs an auditor from a configuration, once or on schedule.
package daemon

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/state"
	"github.com/kms-auditor/kms-auditor/internal/web"
	"github.com/kms-auditor/kms-auditor/metrics"
)

// Options are settings outside the configuration.
type Options struct {
	Build    metrics.Build
	Log      *zap.Logger
	Once     bool // one audit only: events are read only if needed, not for display
	Evidence bool // keep evidence of Once

	// Progress reports what an audit is doing. It is optional.
	Progress func(chain, doing string)
	// Reported is called after each scheduled audit. It is optional.
	Reported func(*audit.Report, []audit.Change)

	// Load reads the configuration again and checks it. Without it the daemon cannot be reloaded.
	Load   func() (*config.Config, error)
	Hangup <-chan os.Signal // each value triggers a reload; optional
}

// Daemon runs audits. Its fields live as long as the process; a runtime has the fields that depend on the configuration.
type Daemon struct {
	opt        Options
	registry   *prometheus.Registry
	metrics    *metrics.Metrics
	state      *state.State
	last       atomic.Pointer[audit.Report]
	audited    atomic.Bool             // an audit has finished in this process
	running    atomic.Pointer[runtime] // used by the next audit
	reloading  sync.Mutex
	again      chan struct{}        // of capacity 1: triggers an audit
	heartbeats chan sanitize.Secret // of capacity 1: a URL to ping
	records    []observe.Record     // of Once, for Evidence
	unkept     bool                 // the evidence of a change could not be written, so that of the next audit is kept as a change
}

// New returns a Daemon for cfg. It does not connect.
func New(cfg *config.Config, opt Options) (*Daemon, error) {
	d := &Daemon{opt: opt, registry: prometheus.NewRegistry(), again: make(chan struct{}, 1), heartbeats: make(chan sanitize.Secret, 1)}
	d.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	d.metrics = metrics.New(d.registry, opt.Build)
	var err error
	if d.state, err = state.Open(cfg.State); err != nil {
		return nil, err
	}
	r, err := d.newRuntime(cfg)
	if err != nil {
		return nil, errors.Join(err, d.state.Close())
	}
	d.running.Store(r)
	d.begin(r)
	if last := d.state.Report(); last != nil && !opt.Once { // open findings stay visible until the first audit ends
		last = r.restored(last)
		d.metrics.Restore(last)
		d.last.Store(last)
	}
	d.metrics.ConfigLoaded(true, r.loaded)
	return d, nil
}

// Close drops idle connections and closes the state file.
func (d *Daemon) Close() {
	if err := d.state.Close(); err != nil {
		d.opt.Log.Error("state not closed", zap.Error(err))
	}
	d.running.Load().close()
}

// Once audits once. It logs what changed since the last audit or, for a chain without state, every finding.
func (d *Daemon) Once(ctx context.Context) *audit.Report {
	r := d.running.Load()
	d.logOutbox(r)
	res := d.audit(ctx, r)
	d.records = res.Records
	lasting := r.remembers() && ctx.Err() == nil
	for i, c := range res.Changes {
		if !lasting || r.fixed(c.Chain) {
			res.Changes[i].Type = audit.Open // without state, nothing is known to be new
		}
	}
	if lasting {
		d.record(r, res)
	}
	d.logReport(res.Report, res.Changes)
	if lasting {
		d.markLogged(r)
	}
	return res.Report
}

// Serve audits on schedule and serves HTTP on the listeners, until ctx ends or serving fails. It closes the listeners.
func (d *Daemon) Serve(ctx context.Context, listeners []net.Listener) error {
	first := d.running.Load() // before a reload is possible
	served := web.Options{
		Report: d.last.Load,
		Ready:  d.audited.Load,
		State:  d.state,
		Plan: func() web.Plan {
			cfg := d.running.Load().cfg
			return web.Plan{Schedule: cfg.Cron, Timeout: cfg.Timeout}
		},
		Explorers: func() map[string]string {
			out := map[string]string{}
			for _, c := range d.running.Load().cfg.Chains {
				out[c.Name] = c.Explorer
			}
			return out
		},
		Gatherer:   d.registry,
		Logger:     d.opt.Log,
		Version:    d.opt.Build.Version,
		Config:     web.Config{Running: func() string { return d.running.Load().String() }, Reload: d.reloadByHTTP},
		ConfigFile: first.cfg.Web.ConfigFile,
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return web.Serve(ctx, listeners, served) })
	g.Go(func() error { d.work(ctx, first); return nil })
	g.Go(func() error { d.hangups(ctx); return nil })
	g.Go(func() error { d.sendHeartbeats(ctx); return nil })
	return g.Wait()
}

// Evidence returns the evidence of a report of Once. It requires Options.Evidence.
func (d *Daemon) Evidence(r *audit.Report) (*evidence.File, error) {
	return evidence.New(r, d.records)
}
