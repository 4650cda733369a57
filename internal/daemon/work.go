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
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/state"
	"github.com/kms-auditor/kms-auditor/metrics"
)

// Worker audits at once and then on schedule. It skips ticks during an audit and while the process is suspended.
type Worker struct {
	// Audit audits once. It must return soon after its context ends.
	Audit func(context.Context) observe.Result
	// Tick returns the first scheduled time after another, or zero for never.
	Tick  func(time.Time) time.Time
	Again <-chan struct{} // triggers an audit, after the one in progress; optional

	// Done is called after each audit that was not interrupted.
	Done func(observe.Result)
	// Next is called with the time of the next audit.
	Next func(time.Time)
	// Skipped is called with the time of the first skipped tick and their number, at most maxSkipped.
	Skipped func(due time.Time, skipped int)
}

// Run works until ctx ends. An audit in progress then ends too, and is not reported.
func (w *Worker) Run(ctx context.Context) {
	for due := time.Now(); !due.IsZero(); {
		r := w.Audit(ctx)
		if ctx.Err() != nil {
			return
		}
		w.Done(r)
		done := time.Now()
		w.countSkipped(due, done)
		due = w.sleep(ctx, done)
	}
}

// maxSkipped limits the counting, because the clock may jump by decades when it is first set.
const maxSkipped = 100_000

// countSkipped reports the ticks after from, up to to.
func (w *Worker) countSkipped(from, to time.Time) {
	n := 0
	first := w.Tick(from)
	for t := first; n < maxSkipped && !t.IsZero() && !t.After(to); t = w.Tick(t) {
		n++
	}
	if n > 0 {
		w.Skipped(first, n)
	}
}

// recheck is how often a sleeping worker checks the clock, which may be set meanwhile.
const recheck = 30 * time.Second

// sleep waits for the next tick after a time and returns when it was due. It returns zero if ctx ended.
func (w *Worker) sleep(ctx context.Context, after time.Time) time.Time {
	next := w.Tick(after)
	for {
		w.Next(next)
		d := time.Until(next)
		if d <= 0 {
			return next
		}
		select {
		case <-ctx.Done():
			return time.Time{}
		case <-w.Again:
			if ctx.Err() != nil {
				return time.Time{}
			}
			return time.Now()
		case <-time.After(min(d, recheck)):
		}
		// Setting the clock back must not delay the audit.
		if again := w.Tick(time.Now()); again.Before(next) {
			next = again
		}
	}
}

// work audits on schedule until ctx ends, at first with r. A reload takes effect with the next audit.
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
		Tick:  func(t time.Time) time.Time { return d.running.Load().cfg.Cron.Next(t) },
		Again: d.again,
		Done:  func(res observe.Result) { d.done(r, res) },
		Next:  d.metrics.NextAudit,
		Skipped: func(due time.Time, n int) {
			d.opt.Log.Warn("scheduled audits skipped", zap.Time("first_due", due.UTC()), zap.Int("skipped", n))
		},
	}
	worker.Run(ctx)
}

func (d *Daemon) audit(ctx context.Context, r *runtime) observe.Result {
	d.takeRequests(r)
	id := rand.Text()
	d.opt.Log.Info("audit started", event("audit_started"), zap.String("audit_id", id))
	prior := map[string]audit.Prior{}
	for _, c := range r.cfg.Chains {
		past, fixed := r.past[c.Name]
		if prior[c.Name] = past; !fixed {
			prior[c.Name] = d.state.Prior(c.Name)
		}
	}
	return r.auditor.Audit(ctx, id, prior)
}

func (d *Daemon) done(r *runtime, res observe.Result) {
	d.keepEvidence(r, res)
	d.metrics.Report(res.Report)
	d.record(r, res)
	d.audited.Store(true)
	d.last.Store(res.Report) // before the log, because a reader of the log may request the report at once
	d.logReport(res.Report, res.Changes)
	d.markLogged(r)
	d.heartbeat(r.cfg.Heartbeat, res.Report.Verdict)
	if d.opt.Reported != nil {
		d.opt.Reported(res.Report, res.Changes)
	}
}

// keepEvidence writes the evidence of an audit, if configured. An error is only logged and counted.
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
		d.opt.Log.Error("evidence not written", zap.String("audit_id", res.Report.AuditID), zap.Error(err))
	}
}

// changed reports whether an audit opened or resolved a finding, or changed a verdict.
func changed(last *audit.Report, res observe.Result) bool {
	return last == nil || !maps.Equal(verdicts(last), verdicts(res.Report)) ||
		slices.ContainsFunc(res.Changes, func(c audit.Change) bool { return c.Type != audit.Open })
}

// verdicts returns the verdicts of chains and contracts.
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

// record saves an audit to the state. Changes are saved before they are logged, and marked as logged afterwards: if the process is
// killed in between, the next one logs them.
func (d *Daemon) record(r *runtime, res observe.Result) {
	now := *res.Report
	now.Chains = slices.DeleteFunc(slices.Clone(now.Chains), func(c audit.Chain) bool { return r.fixed(c.Chain) })
	changes := slices.DeleteFunc(slices.Clone(res.Changes), func(c audit.Change) bool { return r.fixed(c.Chain) })
	d.state.Record(&now, res.Next, changes)
	for chain, next := range res.Next {
		if r.fixed(chain) {
			r.past[chain] = next
		}
	}
	if !r.remembers() {
		return
	}
	err := d.state.Save()
	if d.metrics.Written(metrics.State, err == nil); err != nil {
		d.opt.Log.Error("state not written", zap.String("audit_id", res.Report.AuditID), zap.Error(err))
	}
}

// logOutbox logs changes that were saved but not logged: those of a killed process, and those of requests.
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
		d.opt.Log.Error("state not written; changes may be logged again", zap.Error(err))
	}
}

// carriedOut has log messages by kind of request.
var carriedOut = map[string]string{state.Accept: "baseline accepted", state.Forget: "contract forgotten"}

// takeRequests carries out the operator's requests since the last audit: accept baselines, forget contracts.
func (d *Daemon) takeRequests(r *runtime) {
	if !r.remembers() {
		return
	}
	err := d.state.Drain(r.cfg.State, Configured(r.cfg), func(q state.Request, err error) {
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
		d.opt.Log.Error("requests not processed", zap.Error(err))
	}
	d.logOutbox(r)
}

// Configured returns the configured contracts.
func Configured(cfg *config.Config) map[state.Target]bool {
	out := map[state.Target]bool{}
	for _, c := range cfg.Chains {
		for _, contract := range c.Contracts {
			out[state.Target{Chain: c.Name, Contract: contract.Address}] = true
		}
	}
	return out
}
