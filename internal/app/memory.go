package app

import (
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/memory"
	"github.com/kms-auditor/kms-auditor/internal/quote"
)

// remember lets audits know of earlier ones. One that looks at the past neither knows them nor is known later.
func (a *App) remember(chains []audit.ChainOptions) error {
	a.tracker = &audit.Tracker{}
	if slices.ContainsFunc(a.cfg.Chains, func(c config.Chain) bool { return slices.ContainsFunc(c.Block, ethrpc.Policy.Fixed) }) {
		return nil
	}
	m, err := memory.New(a.store)
	if err != nil {
		return fmt.Errorf("state file %s: %w", quote.Plain(a.cfg.State), err)
	}
	for i := range chains {
		chains[i].Baselines = m.Baselines(chains[i].ChainID)
	}
	if a.cfg.State != "" {
		a.memory, a.tracker = m, audit.NewTracker(m.Open())
	}
	return nil
}

// takeAccepted makes those controls baselines that the operator accepted since the last audit.
func (a *App) takeAccepted() {
	if a.memory == nil {
		return
	}
	err := a.memory.Take(a.cfg.State, func(r memory.Request, err error) {
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

// keep remembers an audit, once it is logged: what a kill in between leaves out is logged again, and nothing is lost.
func (a *App) keep(r *audit.Report, changes []audit.Change) {
	if a.memory == nil {
		return
	}
	if err := a.memory.Keep(r, a.tracker.Open(), changes); err != nil {
		a.opt.Log.Error("keeping the audit in memory", zap.String("audit_id", r.AuditID), zap.Error(err))
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
