package daemon

import (
	"context"
	"time"

	"github.com/kms-auditor/kms-auditor/audit/observe"
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
