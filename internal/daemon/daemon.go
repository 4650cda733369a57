// Package daemon wires a configuration into an auditor, once or on schedule. The command and the demo run the same lines.
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

// Options are what the configuration does not say.
type Options struct {
	Build    metrics.Build
	Log      *zap.Logger
	Once     bool // one audit only: events are read where they are needed, and not for show
	Evidence bool // Once also keeps what the report rests on

	// Progress says what an audit is doing, for a person who waits. It is optional.
	Progress func(chain, doing string)
	// Reported is called after each audit of the daemon, for the demo to go on with its story. It is optional.
	Reported func(*audit.Report, []audit.Change)

	// Load reads the configuration again and checks it. Without it the daemon cannot be reloaded.
	Load   func() (*config.Config, error)
	Hangup <-chan os.Signal // reloads it; nil: never
}

// Daemon is a wired auditor. What it has lives as long as the process; what a configuration makes is a runtime.
type Daemon struct {
	opt        Options
	registry   *prometheus.Registry
	metrics    *metrics.Metrics
	state      *state.State
	last       atomic.Pointer[audit.Report]
	audited    atomic.Bool             // an audit has finished
	running    atomic.Pointer[runtime] // what the next audit runs under
	reloading  sync.Mutex
	again      chan struct{}        // of capacity 1: an audit is due at once
	heartbeats chan sanitize.Secret // of capacity 1: a URL to ask for
	records    []observe.Record     // of Once, for Evidence
	unkept     bool                 // an audit changed something, and its evidence could not be written: that of the next one is kept instead
}

// New wires cfg. It does not connect.
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
	if last := d.state.Report(); last != nil && !opt.Once { // what is open stays open while the first audit is under way
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
		d.opt.Log.Error("closing the state", zap.Error(err))
	}
	d.running.Load().close()
}

// Once audits once. Of a chain that is remembered it logs what changed since the last audit, and of others every finding.
func (d *Daemon) Once(ctx context.Context) *audit.Report {
	r := d.running.Load()
	d.logOutbox(r)
	res := d.audit(ctx, r)
	d.records = res.Records
	lasting := r.remembers() && ctx.Err() == nil
	for i, c := range res.Changes {
		if !lasting || r.fixed(c.Chain) {
			res.Changes[i].Type = audit.Open // without earlier audits nothing is news
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
	first := d.running.Load() // before anybody can reload
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

// Evidence returns what the report of Once rests on, with Options.Evidence.
func (d *Daemon) Evidence(r *audit.Report) (*evidence.File, error) {
	return evidence.New(r, d.records)
}
