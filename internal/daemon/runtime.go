package daemon

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/events"
	"github.com/kms-auditor/kms-auditor/internal/web"
	"github.com/kms-auditor/kms-auditor/kmsapi"
	"github.com/kms-auditor/kms-auditor/metrics"
)

// runtime has everything that depends on the configuration. A reload replaces it.
type runtime struct {
	cfg     *config.Config
	loaded  time.Time
	api     *kmsapi.Client
	clients map[string]*ethrpc.Client // by chain
	closers []func()                  // of anchors and L1 clients
	auditor *observe.Auditor
	past    map[string]audit.Prior // by chain, for chains at a fixed block: they use no state but their own, and it is not saved
}

func (d *Daemon) newRuntime(cfg *config.Config) (*runtime, error) {
	r := &runtime{cfg: cfg, loaded: time.Now().UTC(), clients: map[string]*ethrpc.Client{}, past: map[string]audit.Prior{}}
	agent := "kms-auditor/" + d.opt.Build.Version
	var err error
	r.api, err = kmsapi.New(kmsapi.Options{
		BaseURL:   cfg.API.BaseURL,
		Version:   cfg.API.Version,
		Key:       cfg.API.Key,
		Timeout:   cfg.API.Timeout,
		UserAgent: agent,
		Observe:   d.metrics.API,
	})
	if err != nil {
		return nil, err
	}
	o := observe.Options{
		Version: d.opt.Build.Version, Claims: r.api, Listing: r.api, Timeout: cfg.Timeout, ConfirmDelay: cfg.ConfirmDelay,
		Record: d.opt.Evidence || cfg.Evidence.Dir != "" && !d.opt.Once, Progress: d.opt.Progress, Panicked: d.logPanic,
	}
	for _, c := range cfg.Chains {
		if slices.ContainsFunc(c.Block, ethrpc.BlockTag.Fixed) {
			r.past[c.Name] = audit.Prior{Finalized: d.state.Prior(c.Name).Finalized} // a verified root is valid at any block
		}
		client, err := d.client(c, agent)
		if err != nil {
			return nil, err
		}
		r.clients[c.Name] = client
		chain := d.observed(r, c, client)
		switch a := c.Anchor; {
		case a == nil:
		case a.L1 == nil:
			chain.Anchor, err = r.lightClient(c, agent)
		default:
			chain.L1 = &observe.L1{}
			if chain.L1.Anchor, err = r.lightClient(*a.L1, agent); err == nil {
				var l1 *ethrpc.Client
				if l1, err = d.client(*a.L1, agent); err == nil {
					chain.L1.Reader, r.closers = l1, append(r.closers, l1.Close)
				}
			}
		}
		if err != nil {
			return nil, err
		}
		o.Chains = append(o.Chains, chain)
	}
	r.auditor = observe.New(o)
	return r, nil
}

func (d *Daemon) client(c config.Chain, agent string) (*ethrpc.Client, error) {
	client, err := ethrpc.New(ethrpc.Options{
		ChainID:   c.ChainID,
		Tags:      c.Block,
		Verify:    c.Verify,
		Agreement: int(c.Agreement),
		BatchSize: c.BatchSize,
		Providers: c.Providers,
		UserAgent: agent,
		Observer:  d.metrics.Chain(c.Name),
	})
	if err != nil {
		return nil, fmt.Errorf("chain %s: %w", c.Name, err)
	}
	return client, nil
}

func (r *runtime) lightClient(c config.Chain, agent string) (*anchor.Client, error) {
	a := c.Anchor
	client, err := anchor.New(anchor.Options{Network: a.Network, Endpoints: a.Beacon, Checkpoint: a.Checkpoint, UserAgent: agent})
	if err != nil {
		return nil, fmt.Errorf("chain %s: %w", c.Name, err)
	}
	r.closers = append(r.closers, client.Close)
	return client, nil
}

// begin prepares state and metrics for r. It must not be called during an audit.
func (d *Daemon) begin(r *runtime) {
	// Series exist for configured contracts and for those known to earlier audits.
	var shown []metrics.Chain
	for _, c := range r.cfg.Chains {
		if !r.fixed(c.Name) {
			d.state.SetChainID(c.Name, c.ChainID)
		}
		m := metrics.Chain{Name: c.Name, Explorer: c.Explorer, ExternalURL: r.cfg.Web.ExternalURL}
		for _, p := range c.Providers {
			m.Providers = append(m.Providers, p.Name)
		}
		for _, contract := range c.Contracts {
			m.Contracts = append(m.Contracts, contract.Address)
		}
		if len(m.Contracts) > 0 {
			for _, known := range d.state.Prior(c.Name).Contracts {
				m.Contracts = append(m.Contracts, known.Address)
			}
		}
		shown = append(shown, m)
	}
	d.metrics.Configure(shown)
}

// observed returns the observe.Chain of a configured chain.
func (d *Daemon) observed(r *runtime, c config.Chain, client *ethrpc.Client) observe.Chain {
	out := observe.Chain{Intent: r.intent(c), Tags: c.Block, Reader: client, Eager: !d.opt.Once || r.cfg.State != ""}
	if out.Intent.Events {
		from := map[common.Address]uint64{}
		for _, contract := range c.Contracts {
			from[contract.Address] = contract.FromBlock
		}
		// How many apps fit within the memory limit.
		apps := max(debug.SetMemoryLimit(-1)-memoryOfAudit, memoryOfApp) / memoryOfApp
		out.Events = events.New(events.Options{Chain: c.Name, Client: client, State: d.state, From: from, Apps: int(apps), Progress: d.scanProgress(c.Name)})
	}
	return out
}

// Bytes that an audit takes: without apps, and per app of a contract while its proof is made.
const (
	memoryOfAudit = 128 << 20
	memoryOfApp   = 1000
)

func (r *runtime) intent(c config.Chain) audit.Intent {
	out := audit.Intent{
		Chain: c.Name, ChainID: c.ChainID, Agreement: int(c.Agreement), Discover: r.cfg.Discover, CrossChecks: r.cfg.CrossChecks,
		Events: c.Verify != ethrpc.VerifyOff, Required: c.Verify == ethrpc.VerifyRequired, Baselines: !r.fixed(c.Name), PendingMax: r.cfg.PendingMax,
	}
	if a := c.Anchor; a != nil && a.L1 != nil {
		out.L1 = &audit.L1Intent{Chain: a.L1.Name, ChainID: a.L1.ChainID, SystemConfig: a.SystemConfig, Required: audit.Trust(a.Required)}
		out.Checkpoint = a.L1.Anchor.Checkpoint
	} else if a != nil {
		out.Anchored, out.AnchorMust, out.Checkpoint = true, a.Required != "", a.Checkpoint
	}
	if out.NoClaims = c.Claims == config.NoClaims; out.NoClaims {
		out.Discover, out.CrossChecks = false, false
	}
	for _, tag := range c.Block {
		out.Tags = append(out.Tags, tag.String())
	}
	for _, contract := range c.Contracts {
		out.Contracts = append(out.Contracts, audit.ContractIntent{Address: contract.Address, Policy: contract.Policy, Explained: contract.Explained})
	}
	for _, x := range r.cfg.Accept {
		if x.Chain == c.Name {
			out.Exceptions = append(out.Exceptions, x.Exception)
		}
	}
	return out
}

// fixed reports whether the chain is audited at a fixed block.
func (r *runtime) fixed(chain string) bool {
	_, fixed := r.past[chain]
	return fixed
}

// remembers reports whether state is saved.
func (r *runtime) remembers() bool { return r.cfg.State != "" && len(r.past) < len(r.cfg.Chains) }

// scanProgress reports the progress, speed and remaining time of an event scan.
func (d *Daemon) scanProgress(chain string) func(common.Address, uint64, uint64) {
	var mu sync.Mutex
	began, first := map[common.Address]time.Time{}, map[common.Address]uint64{}
	return func(contract common.Address, next, to uint64) {
		d.metrics.EventScan(chain, contract, next-1)
		if d.opt.Progress == nil {
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
		d.opt.Progress(chain, fmt.Sprintf("events of %s: block %d of %d, %.0f blocks/s, %s left", contract.Hex()[:10], next-1, to, rate, left))
	}
}

// restored returns the configured chains of an earlier process's report. Consistent targets become unknown until an audit compares
// them again.
func (r *runtime) restored(last *audit.Report) *audit.Report {
	chains := slices.DeleteFunc(last.Chains, func(c audit.Chain) bool { return r.clients[c.Chain] == nil })
	for i := range chains {
		c := &chains[i]
		intent := r.intent(r.cfg.Chains[slices.IndexFunc(r.cfg.Chains, func(o config.Chain) bool { return o.Name == c.Chain })])
		c.Trusts = intent.Trusts()
		c.Verdict, c.Targets = max(c.Verdict, audit.Unknown), slices.Clone(c.Targets)
		for j := range c.Targets {
			if t := &c.Targets[j]; t.Verdict == audit.Consistent {
				t.Verdict, t.Reasons = audit.Unknown, append(slices.Clip(t.Reasons), "it was consistent, but no audit has finished since this process started")
			}
		}
	}
	return audit.NewReport(last.AuditID, last.Version, last.StartedAt, last.FinishedAt, chains)
}

// String describes the configuration without secrets.
func (r *runtime) String() string {
	var names []string
	for _, c := range r.cfg.Chains {
		names = append(names, c.Name)
	}
	return fmt.Sprintf("was loaded at %s and audits %s on schedule %q in %s",
		r.loaded.Format(timeFormat), strings.Join(names, ", "), r.cfg.Schedule, r.cfg.Timezone)
}

func (r *runtime) close() {
	r.api.Close()
	for _, c := range r.clients {
		c.Close()
	}
	for _, closeIt := range r.closers {
		closeIt()
	}
}

// reload loads the configuration again. If it is valid, it triggers an audit that uses it. Otherwise nothing changes. Both are logged
// and counted.
func (d *Daemon) reload() error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	s, err := d.reloaded()
	if err != nil {
		d.metrics.ConfigLoaded(false, time.Time{})
		d.opt.Log.Error("configuration not reloaded", event("config_reloaded"), zap.Bool("ok", false),
			zap.Strings("problems", strings.Split(err.Error(), "\n")), zap.Stringer("running", d.running.Load()))
		return err
	}
	d.running.Store(s)
	d.metrics.ConfigLoaded(true, s.loaded)
	d.opt.Log.Info("configuration reloaded", event("config_reloaded"), zap.Bool("ok", true), zap.Stringer("running", s))
	select {
	case d.again <- struct{}{}:
	default: // an audit is already due
	}
	return nil
}

// reloaded loads and checks the configuration.
func (d *Daemon) reloaded() (*runtime, error) {
	cfg, err := d.opt.Load()
	if err != nil {
		return nil, err
	}
	if ps := needsRestart(d.running.Load().cfg, cfg); ps != nil {
		return nil, ps
	}
	return d.newRuntime(cfg)
}

// needsRestart lists changed settings that only a restart applies.
func needsRestart(old, now *config.Config) (ps config.Problems) {
	check := func(path string, same bool) {
		if !same {
			ps = append(ps, config.Problem{Path: path, Message: "was changed, which takes a restart"})
		}
	}
	check("state", old.State == now.State)
	check("web.listen", slices.Equal(old.Web.Listen, now.Web.Listen))
	check("web.config_file", old.Web.ConfigFile == now.Web.ConfigFile)
	return ps
}

// hangups reloads on every SIGHUP.
func (d *Daemon) hangups(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.opt.Hangup:
			_ = d.reload() // logs its error
		}
	}
}

// reloadByHTTP is reload for HTTP requests, if web.reload is on.
func (d *Daemon) reloadByHTTP() error {
	if d.opt.Load == nil || !d.running.Load().cfg.Web.Reload {
		return web.ErrReloadOff
	}
	return d.reload()
}
