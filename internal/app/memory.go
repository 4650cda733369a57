package app

import (
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/memory"
	"github.com/kms-auditor/kms-auditor/internal/quote"
	"github.com/kms-auditor/kms-auditor/metrics"
)

// remember lets the audits of s know of earlier ones. A chain that is looked at in the past neither knows them nor is
// known later; its findings are followed as long as s lives.
func (a *App) remember(s *setup, chains []audit.ChainOptions) error {
	s.fixed, s.tracker, s.past = map[string]bool{}, &audit.Tracker{}, &audit.Tracker{}
	for _, c := range chains {
		if slices.ContainsFunc(c.Policies, ethrpc.Policy.Fixed) {
			s.fixed[c.Name] = true
		}
	}
	if len(s.fixed) == len(chains) {
		return nil
	}
	if a.memory == nil {
		m, err := memory.New(a.store)
		if err != nil {
			return fmt.Errorf("state file %s: %w", quote.Plain(s.cfg.State), err)
		}
		a.memory, a.tracker = m, audit.NewTracker(m.Open())
	}
	for i, c := range chains {
		if !s.fixed[c.Name] {
			chains[i].Baselines = a.memory.Baselines(c.ChainID)
		}
	}
	s.tracker = a.tracker
	if s.cfg.State != "" {
		s.memory = a.memory
	}
	return nil
}

// split parts the chains of a report into those that are remembered and those that are looked at in the past. Both
// share their targets with it.
func (s *setup) split(r *audit.Report) (now, past *audit.Report) {
	now, past = new(audit.Report), new(audit.Report)
	*now, *past = *r, *r
	now.Chains, past.Chains = nil, nil
	for _, c := range r.Chains {
		to := now
		if s.fixed[c.Chain] {
			to = past
		}
		to.Chains = append(to.Chains, c)
	}
	return now, past
}

// takeAccepted makes those controls baselines that the operator accepted since the last audit.
func (a *App) takeAccepted(s *setup) {
	if s.memory == nil {
		return
	}
	err := s.memory.Take(s.cfg.State, func(r memory.Request, err error) {
		log := a.opt.Log.With(zap.Uint64("chain_id", r.ChainID), zap.Stringer("contract", r.Contract), zap.Time("requested_at", r.At.UTC()))
		if err != nil {
			log.Error("baseline not accepted", zap.Error(err))
			return
		}
		log.Info("baseline accepted", zap.String("owner", r.Control.Owner), zap.String("implementation", r.Control.Implementation))
	})
	if err != nil {
		a.opt.Log.Error("taking accepted baselines", zap.Error(err))
	}
}

// tell logs an audit and remembers it. What changed is in the state before it is in the log, and marked as told after
// that: a process that is killed in between leaves it to the next one.
func (a *App) tell(s *setup, r *audit.Report, changes []audit.Change) {
	if s.memory == nil {
		a.logReport(r, changes)
		return
	}
	now, _ := s.split(r)
	known := slices.DeleteFunc(slices.Clone(changes), func(c audit.Change) bool { return s.fixed[c.Chain] })
	err := s.memory.Keep(now, s.tracker.Open(), known)
	if a.metrics.Written(metrics.State, err == nil); err != nil {
		a.opt.Log.Error("keeping the audit in memory", zap.String("audit_id", r.AuditID), zap.Error(err))
	}
	a.logReport(r, changes)
	a.told(s)
}

// tellUntold logs what a process that was killed left untold.
func (a *App) tellUntold(s *setup) {
	if s.memory == nil {
		return
	}
	u := s.memory.Untold()
	for _, c := range u.Changes {
		logChange(a.opt.Log.With(zap.String("audit_id", u.AuditID)), c)
	}
	a.told(s)
}

func (a *App) told(s *setup) {
	if err := s.memory.Told(); err != nil {
		a.opt.Log.Error("noting in memory what was logged, so that it may be logged again", zap.Error(err))
	}
}

// everything tells of all findings of a report, where nothing is known of earlier ones.
func everything(r *audit.Report) []audit.Change {
	var open []audit.Change
	for _, c := range r.Chains {
		for _, t := range c.Targets {
			for _, f := range t.Findings {
				open = append(open, audit.Change{Type: audit.Open, Chain: c.Chain, Contract: t.Contract, Finding: f})
			}
		}
	}
	return open
}

// openOn tells what findings are open about on a chain, which audits go on asking for. One that is looked at in the past
// knows of none.
func (s *setup) openOn(chain string) func(common.Address) audit.Named {
	return func(contract common.Address) (none audit.Named) {
		if s.fixed[chain] {
			return none
		}
		return s.tracker.Named(chain, contract.Hex())
	}
}
