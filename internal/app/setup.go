package app

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/memory"
	"github.com/kms-auditor/kms-auditor/internal/replay"
	"github.com/kms-auditor/kms-auditor/kmsapi"
	"github.com/kms-auditor/kms-auditor/metrics"
)

// setup is what one configuration makes. What outlives a configuration is the App's.
type setup struct {
	cfg      *config.Config
	loaded   time.Time
	api      *kmsapi.Client
	chains   map[string]*ethrpc.Client
	auditor  *audit.Auditor
	evidence *evidence.Recorder // nil: none is kept
	fixed    map[string]bool    // chains that are looked at in the past
	tracker  *audit.Tracker     // of the others
	past     *audit.Tracker     // of those
	memory   *memory.Memory     // nil: nothing outlives the process
}

// setUp wires cfg. It dials nobody.
func (a *App) setUp(cfg *config.Config) (*setup, error) {
	s := &setup{cfg: cfg, loaded: time.Now().UTC(), chains: map[string]*ethrpc.Client{}}
	agent := "kms-auditor/" + a.opt.Build.Version
	var err error
	s.api, err = kmsapi.New(kmsapi.Options{
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
			Verify:    c.Verify,
			Agreement: c.Agreement,
			BatchSize: c.BatchSize,
			Providers: c.Providers,
			UserAgent: agent,
			Observer:  a.metrics.Chain(c.Name),
		})
		if err != nil {
			return nil, fmt.Errorf("chain %s: %w", c.Name, err)
		}
		s.chains[c.Name] = client
		chains = append(chains, a.chainOptions(s, c, client))
	}
	if err := a.remember(s, chains); err != nil {
		return nil, err
	}
	o := audit.Options{
		Version:      a.opt.Build.Version,
		Claims:       s.api,
		Chains:       chains,
		Timeout:      cfg.Timeout,
		ConfirmDelay: cfg.ConfirmDelay,
		PendingMax:   cfg.PendingMax,
		Started:      a.logStarted,
		Progress:     a.opt.Progress,
		Panicked:     a.logPanic,
	}
	if a.opt.Evidence || cfg.Evidence.Dir != "" && !a.opt.Once {
		s.evidence = &evidence.Recorder{}
		o = s.evidence.Wrap(o)
	}
	s.auditor = audit.New(o)
	return s, nil
}

// chainOptions wires one chain, with its events unless nothing is to be verified.
func (a *App) chainOptions(s *setup, c config.Chain, client *ethrpc.Client) audit.ChainOptions {
	o := audit.ChainOptions{
		Name: c.Name, ChainID: c.ChainID, Policies: c.Block, Reader: client,
		Eager:      !a.opt.Once || s.cfg.State != "",
		Required:   c.Verify == ethrpc.VerifyRequired,
		Explained:  map[common.Address][]audit.ExplainedSlot{},
		Wanted:     map[common.Address]audit.Policy{},
		Accept:     s.cfg.Accept,
		Discovered: s.cfg.Discover,
	}
	if a.opt.Once {
		o.Forget = func() {
			client.Forget()
			s.api.Forget(c.Name)
		}
	}
	if s.cfg.CrossChecks {
		o.KMS = s.api
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
		o.Events = replay.New(replay.Options{ChainID: c.ChainID, Client: client, Store: a.store, From: from, Open: s.openOn(c.Name), Opened: func() uint64 { return s.tracker.Version() }, Progress: a.scanProgress(c.Name)})
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

// String tells which configuration it is, without secrets.
func (s *setup) String() string {
	return fmt.Sprintf("was loaded at %s and audits %s on schedule %q in %s",
		s.loaded.Format(loadedFormat), strings.Join(s.names(), ", "), s.cfg.Schedule, s.cfg.Timezone)
}

// loadedFormat has the precision of the metric that tells the same.
const loadedFormat = "2006-01-02T15:04:05.000Z07:00"

func (s *setup) names() []string {
	var out []string
	for _, c := range s.cfg.Chains {
		out = append(out, c.Name)
	}
	return out
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

// close drops idle connections.
func (s *setup) close() {
	s.api.Close()
	for _, c := range s.chains {
		c.Close()
	}
}
