// Package app wires a configuration into an auditor, once or as a daemon. The command and the demo run the same lines.
package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/history"
	"github.com/kms-auditor/kms-auditor/internal/memory"
	"github.com/kms-auditor/kms-auditor/internal/replay"
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
	store    *history.Store
	memory   *memory.Memory // nil: nothing outlives the process
	tracker  *audit.Tracker
	evidence *evidence.Recorder // nil: none is kept
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
	if a.store, err = history.Open(cfg.State); err != nil {
		return nil, err
	}
	var chains []audit.ChainOptions
	for _, c := range cfg.Chains {
		client, err := ethrpc.New(ethrpc.Options{
			ChainID:   c.ChainID,
			Policies:  c.Block,
			Verify:    c.Verify,
			Agreement: c.Agreement,
			BatchSize: c.BatchSize,
			Providers: c.Providers,
			UserAgent: agent,
			Observer:  a.metrics.Chain(c.Name),
		})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("chain %s: %w", c.Name, err), a.store.Close())
		}
		a.chains[c.Name] = client
		chains = append(chains, a.chainOptions(c, client))
	}
	if err := a.remember(chains); err != nil {
		return nil, errors.Join(err, a.store.Close())
	}
	o := audit.Options{
		Version:      opt.Build.Version,
		Claims:       a.api,
		Chains:       chains,
		Timeout:      cfg.Timeout,
		ConfirmDelay: cfg.ConfirmDelay,
		PendingMax:   cfg.PendingMax,
		Started:      a.logStarted,
		Progress:     opt.Progress,
		Panicked:     a.logPanic,
	}
	if opt.Evidence || cfg.EvidenceDir != "" && !opt.Once {
		a.evidence = &evidence.Recorder{}
		o = a.evidence.Wrap(o)
	}
	a.auditor = audit.New(o)
	return a, nil
}

// chainOptions wires one chain, with its events unless nothing is to be verified.
func (a *App) chainOptions(c config.Chain, client *ethrpc.Client) audit.ChainOptions {
	o := audit.ChainOptions{
		Name: c.Name, ChainID: c.ChainID, Policies: c.Block, Reader: client,
		Eager:      !a.opt.Once || a.cfg.State != "",
		Required:   c.Verify == ethrpc.VerifyRequired,
		Explained:  map[common.Address][]audit.ExplainedSlot{},
		Wanted:     map[common.Address]audit.Policy{},
		Accept:     a.cfg.Accept,
		Discovered: a.cfg.Discover,
	}
	if a.cfg.CrossChecks {
		o.KMS = a.api
	}
	from := map[common.Address]uint64{}
	for _, contract := range c.Contracts {
		o.Contracts = append(o.Contracts, contract.Address)
		from[contract.Address] = contract.FromBlock
		if contract.Policy != nil {
			o.Wanted[contract.Address] = *contract.Policy
		}
		for _, e := range contract.Explained {
			o.Explained[contract.Address] = append(o.Explained[contract.Address], audit.ExplainedSlot{Slot: e.Slot, Reason: e.Reason})
		}
	}
	if c.Verify != ethrpc.VerifyOff {
		o.Events = replay.New(replay.Options{ChainID: c.ChainID, Client: client, Store: a.store, From: from, Progress: a.scanProgress(c.Name)})
	}
	return o
}

// scanProgress tells how far the reading of events has come, how fast it is and how long it will take.
func (a *App) scanProgress(chain string) func(common.Address, uint64, uint64) {
	var mu sync.Mutex
	began := map[common.Address]time.Time{}
	first := map[common.Address]uint64{}
	return func(contract common.Address, next, to uint64) {
		a.metrics.EventScan(chain, contract.Hex(), next-1)
		if a.opt.Progress == nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if _, known := began[contract]; !known || next <= first[contract] {
			began[contract], first[contract] = time.Now(), next
			return
		}
		rate := float64(next-first[contract]) / time.Since(began[contract]).Seconds()
		left := time.Duration(float64(to+1-next) / rate * float64(time.Second)).Round(time.Second)
		a.opt.Progress(chain, fmt.Sprintf("events of %s: block %d of %d, %.0f blocks/s, %s left", contract.Hex()[:10], next-1, to, rate, left))
	}
}

func metricsChains(cfg *config.Config) []metrics.Chain {
	var out []metrics.Chain
	for _, c := range cfg.Chains {
		m := metrics.Chain{Name: c.Name}
		for _, p := range c.Providers {
			m.Providers = append(m.Providers, p.Name)
		}
		for _, contract := range c.Contracts {
			m.Contracts = append(m.Contracts, contract.Address.Hex())
		}
		out = append(out, m)
	}
	return out
}

// Close drops idle connections and closes the state file.
func (a *App) Close() {
	if err := a.store.Close(); err != nil {
		a.opt.Log.Error("closing the state", zap.Error(err))
	}
	a.api.Close()
	for _, c := range a.chains {
		c.Close()
	}
}

// Once audits once. With a state it logs what changed since the last audit, else every finding.
func (a *App) Once(ctx context.Context) *audit.Report {
	a.takeAccepted()
	r := a.auditor.Audit(ctx)
	if a.memory == nil || ctx.Err() != nil {
		a.logReport(r, everything(r))
		return r
	}
	changes := a.tracker.Update(r)
	a.logReport(r, changes)
	a.keep(r, changes)
	return r
}

// Serve audits on schedule and serves HTTP on the listeners, until ctx ends or serving fails. It closes the listeners.
func (a *App) Serve(ctx context.Context, listeners []net.Listener) error {
	server := web.New(web.Options{
		Report:     a.last.Load,
		Past:       a.past,
		Plan:       a.plan,
		Gatherer:   a.registry,
		Logger:     a.opt.Log,
		Version:    a.opt.Build.Version,
		ConfigFile: a.cfg.Web.ConfigFile,
	})
	worker := audit.Worker{
		Audit:    a.audit,
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

// Evidence returns what the report of Once rests on. It is to be called at most once, with Options.Evidence.
func (a *App) Evidence(r *audit.Report) (*evidence.File, error) { return a.evidence.Take(r) }

// audit audits once in the daemon, and keeps evidence where that is configured. Where it cannot be kept, the audit
// stands.
func (a *App) audit(ctx context.Context) *audit.Report {
	a.takeAccepted()
	r := a.auditor.Audit(ctx)
	if a.evidence != nil {
		f, err := a.evidence.Take(r)
		if err == nil {
			err = evidence.Keep(a.cfg.EvidenceDir, a.cfg.EvidenceKeep, f)
		}
		if err != nil {
			a.opt.Log.Error("keeping evidence", zap.String("audit_id", r.AuditID), zap.Error(err))
		}
	}
	return r
}

func (a *App) done(r *audit.Report) {
	changes := a.tracker.Update(r)
	a.last.Store(r)
	a.metrics.Report(r)
	a.logReport(r, changes)
	a.keep(r, changes)
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
