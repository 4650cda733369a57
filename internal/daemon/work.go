package daemon

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/state"
	"github.com/kms-auditor/kms-auditor/metrics"
)

// work audits on schedule until ctx ends, at first under r. An audit that is under way ends under the configuration that it
// began with.
func (d *Daemon) work(ctx context.Context, r *runtime) {
	defer func() { r.close() }()
	d.logOutbox(r)
	worker := Worker{
		Audit: func(ctx context.Context) observe.Result {
			if now := d.running.Load(); now != r {
				d.begin(now)
				r.close()
				r = now
			}
			return d.audit(ctx, r)
		},
		Tick:    func(t time.Time) time.Time { return d.running.Load().cfg.Cron.Next(t) },
		Again:   d.again,
		Done:    func(res observe.Result) { d.done(r, res) },
		Next:    d.metrics.NextAudit,
		Skipped: d.logSkipped,
	}
	worker.Run(ctx)
}

// audit audits once.
func (d *Daemon) audit(ctx context.Context, r *runtime) observe.Result {
	d.takeRequests(r)
	id := rand.Text()
	d.opt.Log.Info("audit started", event("audit_started"), zap.String("audit_id", id))
	prior := map[string]audit.Prior{}
	for _, c := range r.cfg.Chains {
		if isFixed(c) {
			prior[c.Name] = r.past[c.Name]
		} else {
			prior[c.Name] = d.state.Prior(c.Name)
		}
	}
	return r.auditor.Audit(ctx, id, prior)
}

func (d *Daemon) done(r *runtime, res observe.Result) {
	d.keepEvidence(r, res)
	d.metrics.Report(res.Report)
	d.record(r, res)
	d.last.Store(res.Report) // before the log: who reads there that the audit has ended may ask for its report
	d.logReport(res.Report, res.Changes)
	d.markLogged(r)
	d.heartbeat(r.cfg.Heartbeat, res.Report.Verdict)
	if d.opt.Reported != nil {
		d.opt.Reported(res.Report, res.Changes)
	}
}

// keepEvidence writes what the audit rests on, where that is configured. If it cannot be written, the audit stands.
func (d *Daemon) keepEvidence(r *runtime, res observe.Result) {
	keep := r.cfg.Evidence
	if keep.Dir == "" {
		return
	}
	changed := d.unkept || changed(d.last.Load(), res)
	f, err := evidence.New(res.Report, res.Records)
	if err == nil {
		err = evidence.Keep(keep.Dir, evidence.Rotation{KeepChanges: keep.KeepChanges, KeepLast: keep.KeepLast}, changed, f)
	}
	d.unkept = changed && err != nil
	if d.metrics.Written(metrics.Evidence, err == nil); err != nil {
		d.opt.Log.Error("keeping evidence", zap.String("audit_id", res.Report.AuditID), zap.Error(err))
	}
}

// changed reports whether an audit opened or resolved a finding, or gave any contract another verdict than the last one.
func changed(last *audit.Report, res observe.Result) bool {
	return last == nil || !maps.Equal(verdicts(last), verdicts(res.Report)) ||
		slices.ContainsFunc(res.Changes, func(c audit.Change) bool { return c.Type != audit.Open })
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

// record keeps an audit in the state. What changed is there before it is in the log, and marked as logged after that: a
// process that is killed in between leaves it to the next one.
func (d *Daemon) record(r *runtime, res observe.Result) {
	now := *res.Report
	now.Chains = nil
	next := map[string]audit.Prior{}
	for _, c := range res.Report.Chains {
		if r.fixed(c.Chain) {
			r.past[c.Chain] = res.Next[c.Chain]
			continue
		}
		now.Chains = append(now.Chains, c)
		next[c.Chain] = res.Next[c.Chain]
	}
	known := slices.DeleteFunc(slices.Clone(res.Changes), func(c audit.Change) bool { return r.fixed(c.Chain) })
	d.state.Record(&now, next, known)
	d.save(r, res.Report.AuditID)
}

func (d *Daemon) save(r *runtime, auditID string) {
	if !r.remembers() {
		return
	}
	err := d.state.Save()
	if d.metrics.Written(metrics.State, err == nil); err != nil {
		d.opt.Log.Error("writing the state", zap.String("audit_id", auditID), zap.Error(err))
	}
}

// logOutbox logs what is not logged yet: what a process that was killed left, and findings that ended by a request, which
// have no audit.
func (d *Daemon) logOutbox(r *runtime) {
	id, changes := d.state.Outbox()
	log := d.opt.Log
	if id != "" {
		log = log.With(zap.String("audit_id", id))
	}
	for _, c := range changes {
		logChange(log, c)
	}
	d.markLogged(r)
}

func (d *Daemon) markLogged(r *runtime) {
	if _, changes := d.state.Outbox(); len(changes) == 0 {
		return
	}
	d.state.MarkLogged()
	if err := d.state.Save(); err != nil && r.remembers() {
		d.opt.Log.Error("noting in the state what was logged, so that it may be logged again", zap.Error(err))
	}
}

// carriedOut says what became of a request.
var carriedOut = map[string]string{state.Accept: "baseline accepted", state.Forget: "contract forgotten"}

// takeRequests does what the operator asked for since the last audit: baselines to accept, contracts to forget.
func (d *Daemon) takeRequests(r *runtime) {
	if !r.remembers() {
		return
	}
	err := d.state.Drain(r.cfg.State, r.configured(), func(q state.Request, err error) {
		log := d.opt.Log.With(zap.String("request", q.Kind), zap.String("chain", q.Chain), zap.Stringer("contract", q.Contract), zap.Time("requested_at", q.At.UTC()))
		if err != nil {
			log.Error("request refused", zap.Error(err))
			return
		}
		if q.Kind == state.Forget {
			d.metrics.Forget(q.Chain, q.Contract)
		}
		log.Info(carriedOut[q.Kind])
	})
	if err != nil {
		d.opt.Log.Error("taking requests", zap.Error(err))
	}
	d.logOutbox(r)
}

// configured names the contracts that the configuration names: they cannot be forgotten.
func (r *runtime) configured() map[state.Target]bool {
	out := map[state.Target]bool{}
	for _, c := range r.cfg.Chains {
		for _, contract := range c.Contracts {
			out[state.Target{Chain: c.Name, Contract: contract.Address}] = true
		}
	}
	return out
}
