package app

import (
	"context"
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
			return a.audit(ctx, s)
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

// audit audits once in the daemon, and keeps evidence where that is configured. Where it cannot be kept, the audit
// stands.
func (a *App) audit(ctx context.Context, s *setup) *audit.Report {
	a.takeAccepted(s)
	r := s.auditor.Audit(ctx)
	if s.evidence != nil {
		f, err := s.evidence.Take(r)
		if err == nil {
			err = evidence.Keep(s.cfg.EvidenceDir, s.cfg.EvidenceKeep, f)
		}
		if a.metrics.Written(metrics.Evidence, err == nil); err != nil {
			a.opt.Log.Error("keeping evidence", zap.String("audit_id", r.AuditID), zap.Error(err))
		}
	}
	return r
}

func (a *App) done(s *setup, r *audit.Report) {
	now, past := s.split(r)
	changes := append(s.tracker.Update(now), s.past.Update(past)...)
	a.last.Store(r)
	a.metrics.Report(r)
	a.tell(s, r, changes)
	a.heart.audited(s.cfg.Heartbeat, r.Verdict)
	if a.opt.Reported != nil {
		a.opt.Reported(r, changes)
	}
}
