// Package app wires a configuration into an auditor, once or as a daemon. The command and the demo run the same lines.
package app

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/history"
	"github.com/kms-auditor/kms-auditor/internal/memory"
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
	Once     bool                                // one audit only: events are read where they are needed, and not for show
	Evidence bool                                // Once also records what the report rests on

	// What a daemon needs to be reloaded.
	Load   func() (*config.Config, error) // reads the configuration again and checks it; nil: it cannot be reloaded
	Hangup <-chan os.Signal               // reloads it; nil: never
}

// App is a wired auditor. What it has lives as long as the process; what a configuration makes is a setup.
type App struct {
	opt       Options
	registry  *prometheus.Registry
	metrics   *metrics.Metrics
	store     *history.Store
	memory    *memory.Memory // nil: no audit was to be remembered yet
	tracker   *audit.Tracker // as long as memory is there
	heart     *heart
	last      atomic.Pointer[audit.Report]
	unkept    bool                  // an audit changed something, and its evidence could not be written: the next one's stands in
	running   atomic.Pointer[setup] // what the next audit runs under
	reloading sync.Mutex
	again     chan struct{} // of capacity 1: an audit is due at once
}

// New wires cfg. It dials nobody.
func New(cfg *config.Config, opt Options) (*App, error) {
	a := &App{opt: opt, registry: prometheus.NewRegistry(), again: make(chan struct{}, 1)}
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	a.metrics = metrics.New(a.registry, opt.Build, metricsChains(cfg), metrics.APILabels{Endpoints: kmsapi.Endpoints, Results: kmsapi.Results})
	a.heart = newHeart("kms-auditor/"+opt.Build.Version, a.beaten)
	var err error
	if a.store, err = history.Open(cfg.State); err != nil {
		return nil, err
	}
	s, err := a.setUp(cfg)
	if err != nil {
		return nil, errors.Join(err, a.store.Close())
	}
	a.running.Store(s)
	a.metrics.ConfigLoaded(true, s.loaded)
	return a, nil
}

// Close drops idle connections and closes the state file.
func (a *App) Close() {
	if err := a.store.Close(); err != nil {
		a.opt.Log.Error("closing the state", zap.Error(err))
	}
	a.running.Load().close()
}

// Once audits once. With a state it logs what changed since the last audit, and every finding of what
// is not remembered.
func (a *App) Once(ctx context.Context) *audit.Report {
	s := a.running.Load()
	a.tellUntold(s)
	a.takeAccepted(s)
	r := s.auditor.Audit(ctx)
	if s.memory == nil || ctx.Err() != nil {
		a.logReport(r, everything(r))
		return r
	}
	now, past := s.split(r)
	a.tell(s, r, append(s.tracker.Update(now), everything(past)...))
	return r
}

// Serve audits on schedule and serves HTTP on the listeners, until ctx ends or serving fails. It closes the listeners.
func (a *App) Serve(ctx context.Context, listeners []net.Listener) error {
	first := a.running.Load() // before anybody can reload
	server := web.New(web.Options{
		Report:     a.last.Load,
		Past:       a.past,
		Plan:       a.plan,
		Gatherer:   a.registry,
		Logger:     a.opt.Log,
		Version:    a.opt.Build.Version,
		Config:     a.webConfig(),
		ConfigFile: first.cfg.Web.ConfigFile,
	})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Serve(ctx, listeners) })
	g.Go(func() error { a.work(ctx, first); return nil })
	g.Go(func() error { a.hangups(ctx); return nil })
	g.Go(func() error { a.heart.run(ctx); return nil })
	return g.Wait()
}

// Evidence returns what the report of Once rests on. It is to be called at most once, with Options.Evidence.
func (a *App) Evidence(r *audit.Report) (*evidence.File, error) {
	return a.running.Load().evidence.Take(r)
}

// Check dials every source, in the order of the configuration, and calls tell with what is wrong with each; err is
// nil where the source can be used. The API, and the providers of a chain, get the time of one audit each.
func (a *App) Check(ctx context.Context, tell func(chain, source string, err error)) error {
	var failed error
	say := func(chain, source string, err error) {
		tell(chain, source, err)
		failed = errors.Join(failed, err)
	}
	s := a.running.Load()
	list, err := s.checkList(ctx)
	absent := 0
	for _, c := range s.cfg.Chains {
		out, err := s.checkAPI(ctx, c, list)
		if out {
			absent++
		}
		say(c.Name, "api", err)
		wrong := s.checkProviders(ctx, c.Name)
		for _, p := range c.Providers {
			say(c.Name, p.Name, wrong[p.Name])
		}
	}
	if absent == len(s.cfg.Chains) {
		err = errors.New("the API names no KMS on any of these chains: there is nothing to audit")
	}
	if s.cfg.CrossChecks {
		say("api", "kms", err)
	}
	return failed
}

// checkList asks for the list of KMS; nil: the configuration does not want it, or it cannot be had.
func (s *setup) checkList(ctx context.Context) (*kmsapi.List, error) {
	if !s.cfg.CrossChecks {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	return s.api.List(ctx, kmsapi.Filter{OnChain: true})
}

// checkAPI asks for the claim on a chain. Where chains are discovered, one that the API names no KMS on, or refuses as
// unknown to it, is absent from audits, and that is no fault.
func (s *setup) checkAPI(ctx context.Context, c config.Chain, list *kmsapi.List) (absent bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	detail, err := s.api.OnChainDetail(ctx, c.Name)
	if !s.cfg.Discover || list == nil ||
		slices.ContainsFunc(list.KMS, func(k kmsapi.KMS) bool { return k.Contract != nil && k.ChainID == c.ChainID }) {
		return false, err
	}
	if err != nil {
		refused, ok := errors.AsType[*kmsapi.StatusError](err)
		if ok && refused.Unknown() {
			return true, nil
		}
		return false, err
	}
	return len(detail.Contracts) == 0, nil
}

func (s *setup) checkProviders(ctx context.Context, chain string) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	wrong := map[string]error{}
	for _, p := range s.chains[chain].Check(ctx) {
		wrong[p.Provider] = p.Err
	}
	return wrong
}
