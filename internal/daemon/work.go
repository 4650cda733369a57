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

// Worker audits at once and then on schedule, one audit after the other: a tick that comes while an audit is under
// way, or before a process that stood still goes on, is skipped.
type Worker struct {
	// Audit audits once. It must end soon after its context does.
	Audit func(context.Context) observe.Result
	// Tick is the schedule's first time after another; zero: never.
	Tick  func(time.Time) time.Time
	Again <-chan struct{} // an audit is due at once, after the one that is under way; nil: never

	// Done is called after each audit that was not cut short.
	Done func(observe.Result)
	// Next is called with the time at which the next audit is due.
	Next func(time.Time)
	// Skipped is called with the number of ticks without an audit, at most maxSkipped, and the time of the first.
	Skipped func(due time.Time, skipped int)
}

// Run works until ctx ends. An audit that is under way then ends with it, and is not reported.
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

// maxSkipped bounds the counting: a clock that was never set before may go on by decades.
const maxSkipped = 100_000

// countSkipped reports the ticks after from and up to to.
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

// recheck is how often a sleeping worker looks at the clock, which may be set while it sleeps.
const recheck = 30 * time.Second

// sleep waits for the next tick after a time and returns when it was due; zero: ctx has ended.
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
		// A clock set back must not put the audit off.
		if again := w.Tick(time.Now()); again.Before(next) {
			next = again
		}
	}
}

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
		Tick:  func(t time.Time) time.Time { return d.running.Load().cfg.Cron.Next(t) },
		Again: d.again,
		Done:  func(res observe.Result) { d.done(r, res) },
		Next:  d.metrics.NextAudit,
		Skipped: func(due time.Time, n int) {
			d.opt.Log.Warn("ticks of the schedule skipped", zap.Time("first_due", due.UTC()), zap.Int("skipped", n))
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
		d.opt.Log.Error("writing the state", zap.String("audit_id", res.Report.AuditID), zap.Error(err))
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
		d.opt.Log.Error("taking requests", zap.Error(err))
	}
	d.logOutbox(r)
}

// Configured has the contracts that a configuration names: they cannot be forgotten.
func Configured(cfg *config.Config) map[state.Target]bool {
	out := map[state.Target]bool{}
	for _, c := range cfg.Chains {
		for _, contract := range c.Contracts {
			out[state.Target{Chain: c.Name, Contract: contract.Address}] = true
		}
	}
	return out
}
