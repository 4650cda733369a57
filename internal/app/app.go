// Package app wires a configuration into an auditor, once or as a daemon. The command and the demo run the same lines.
package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/web"
	"github.com/kms-auditor/kms-auditor/kmsapi"
	"github.com/kms-auditor/kms-auditor/metrics"
)

// Options are what the configuration does not say.
type Options struct {
	Build    metrics.Build
	Log      *zap.Logger
	Progress func(chain, doing string)           // nil: nobody is told
	Reported func(*audit.Report, []audit.Change) // nil: nobody is told; after each audit of the daemon
}

// App is a wired auditor.
type App struct {
	cfg      *config.Config
	opt      Options
	registry *prometheus.Registry
	metrics  *metrics.Metrics
	api      *kmsapi.Client
	chains   map[string]*ethrpc.Client
	auditor  *audit.Auditor
	last     atomic.Pointer[audit.Report]
}

// New wires cfg. It dials nobody.
func New(cfg *config.Config, opt Options) (*App, error) {
	a := &App{cfg: cfg, opt: opt, registry: prometheus.NewRegistry(), chains: map[string]*ethrpc.Client{}}
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	a.metrics = metrics.New(a.registry, opt.Build, metricsChains(cfg), metrics.APILabels{Endpoints: kmsapi.Endpoints, Results: kmsapi.Results})
	a.metrics.ConfigLoaded(true, time.Now())

	agent := "kms-auditor/" + opt.Build.Version
	var err error
	a.api, err = kmsapi.New(kmsapi.Options{
		BaseURL:   cfg.API.BaseURL,
		Version:   cfg.API.Version,
		Key:       cfg.API.Key,
		Timeout:   cfg.API.Timeout,
		UserAgent: agent,
		Observe:   a.metrics.API,
	})
	if err != nil {
		return nil, err
	}
	var chains []audit.ChainOptions
	for _, c := range cfg.Chains {
		client, err := ethrpc.New(ethrpc.Options{
			ChainID:   c.ChainID,
			Policies:  c.Block,
			BatchSize: c.BatchSize,
			Providers: c.Providers,
			UserAgent: agent,
			Observer:  a.metrics.Chain(c.Name),
		})
		if err != nil {
			return nil, fmt.Errorf("chain %s: %w", c.Name, err)
		}
		a.chains[c.Name] = client
		chains = append(chains, audit.ChainOptions{
			Name: c.Name, ChainID: c.ChainID, Policies: c.Block, Reader: client, Contracts: c.Contracts,
		})
	}
	a.auditor = audit.New(audit.Options{
		Version:      opt.Build.Version,
		Claims:       a.api,
		Chains:       chains,
		Timeout:      cfg.Timeout,
		ConfirmDelay: cfg.ConfirmDelay,
		PendingMax:   cfg.PendingMax,
		Started:      a.logStarted,
		Progress:     opt.Progress,
		Panicked:     a.logPanic,
	})
	return a, nil
}

func metricsChains(cfg *config.Config) []metrics.Chain {
	var out []metrics.Chain
	for _, c := range cfg.Chains {
		m := metrics.Chain{Name: c.Name}
		for _, p := range c.Providers {
			m.Providers = append(m.Providers, p.Name)
		}
		for _, addr := range c.Contracts {
			m.Contracts = append(m.Contracts, addr.Hex())
		}
		out = append(out, m)
	}
	return out
}

// Close drops idle connections.
func (a *App) Close() {
	a.api.Close()
	for _, c := range a.chains {
		c.Close()
	}
}

// Once audits once.
func (a *App) Once(ctx context.Context) *audit.Report {
	r := a.auditor.Audit(ctx)
	var open []audit.Change
	for _, c := range r.Chains {
		for _, t := range c.Targets {
			for _, f := range t.Findings {
				open = append(open, audit.Change{Type: audit.Open, Chain: c.Chain, Contract: t.Contract, Finding: f})
			}
		}
	}
	a.logReport(r, open)
	return r
}

// Serve audits on schedule and serves HTTP on the listeners, until ctx ends or serving fails. It closes the listeners.
func (a *App) Serve(ctx context.Context, listeners []net.Listener) error {
	server := web.New(web.Options{
		Report:     a.last.Load,
		Gatherer:   a.registry,
		Logger:     a.opt.Log,
		Version:    a.opt.Build.Version,
		ConfigFile: a.cfg.Web.ConfigFile,
	})
	worker := audit.Worker{
		Audit:    a.auditor.Audit,
		Schedule: a.cfg.Cron,
		Done:     a.done,
		Next:     a.metrics.NextAudit,
		Skipped:  a.logSkipped,
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Serve(ctx, listeners) })
	g.Go(func() error { worker.Run(ctx); return nil })
	return g.Wait()
}

func (a *App) done(r *audit.Report, changes []audit.Change) {
	a.last.Store(r)
	a.metrics.Report(r)
	a.logReport(r, changes)
	if a.opt.Reported != nil {
		a.opt.Reported(r, changes)
	}
}

// Check dials every source, in the order of the configuration, and calls tell with what is wrong with each; err is
// nil where the source can be used. The API, and the providers of a chain, get the time of one audit each.
func (a *App) Check(ctx context.Context, tell func(chain, source string, err error)) error {
	var failed error
	say := func(chain, source string, err error) {
		tell(chain, source, err)
		failed = errors.Join(failed, err)
	}
	for _, c := range a.cfg.Chains {
		say(c.Name, "api", a.checkAPI(ctx, c.Name))
		wrong := a.checkProviders(ctx, c.Name)
		for _, p := range c.Providers {
			say(c.Name, p.Name, wrong[p.Name])
		}
	}
	return failed
}

func (a *App) checkAPI(ctx context.Context, chain string) error {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeout)
	defer cancel()
	_, err := a.api.OnChainDetail(ctx, chain)
	return err
}

func (a *App) checkProviders(ctx context.Context, chain string) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeout)
	defer cancel()
	wrong := map[string]error{}
	for _, p := range a.chains[chain].Check(ctx) {
		wrong[p.Provider] = p.Err
	}
	return wrong
}
