package app

import (
	"context"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/metrics"
)

// work audits on schedule until ctx ends, at first under s. An audit that is under way ends under the configuration that it began with.
func (a *App) work(ctx context.Context, s *setup) {
	defer func() { s.close() }()
	a.tellUntold(s)
	worker := audit.Worker{
		Audit: func(ctx context.Context) *audit.Report {
			if now := a.running.Load(); now != s {
				a.metrics.Configure(metricsChains(now.cfg))
				now.auditor.Continue(s.auditor)
				s.close()
				s = now
			}
			a.takeAccepted(s)
			return s.auditor.Audit(ctx)
		},
		Schedule: schedule{a},
		Again:    a.again,
		Done:     func(r *audit.Report) { a.done(s, r) },
		Next:     a.metrics.NextAudit,
		Skipped:  a.logSkipped,
	}
	worker.Run(ctx)
}

// schedule is that of the newest configuration.
type schedule struct{ a *App }

func (s schedule) Next(t time.Time) time.Time { return s.a.running.Load().cfg.Cron.Next(t) }

func (a *App) done(s *setup, r *audit.Report) {
	now, past := s.split(r)
	changes := append(s.tracker.Update(now), s.past.Update(past)...)
	a.keepEvidence(s, r, changes)
	a.last.Store(r)
	a.metrics.Report(r)
	a.tell(s, r, changes)
	a.heart.audited(s.cfg.Heartbeat, r.Verdict)
	if a.opt.Reported != nil {
		a.opt.Reported(r, changes)
	}
}

// keepEvidence writes what the audit rests on, where that is configured. If it cannot be written, the audit stands.
func (a *App) keepEvidence(s *setup, r *audit.Report, changes []audit.Change) {
	if s.evidence == nil {
		return
	}
	keep, changed := s.cfg.Evidence, a.unkept || changed(a.last.Load(), r, changes)
	f, err := s.evidence.Take(r)
	if err == nil {
		err = evidence.Keep(keep.Dir, evidence.Rotation{KeepChanges: keep.KeepChanges, KeepLast: keep.KeepLast}, changed, f)
	}
	a.unkept = changed && err != nil
	if a.metrics.Written(metrics.Evidence, err == nil); err != nil {
		a.opt.Log.Error("keeping evidence", zap.String("audit_id", r.AuditID), zap.Error(err))
	}
}

// changed reports whether an audit opened or resolved a finding, or gave any contract another verdict than the last one.
func changed(last, r *audit.Report, changes []audit.Change) bool {
	return last == nil || !maps.Equal(verdicts(last), verdicts(r)) ||
		slices.ContainsFunc(changes, func(c audit.Change) bool { return c.Type != audit.Open })
}

// verdicts are those of the chains and their contracts.
func verdicts(r *audit.Report) map[[2]string]audit.Verdict {
	all := map[[2]string]audit.Verdict{}
	for _, c := range r.Chains {
		all[[2]string{c.Chain}] = c.Verdict
		for _, t := range c.Targets {
			all[[2]string{c.Chain, t.Contract}] = t.Verdict
		}
	}
	return all
}
