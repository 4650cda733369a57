package audit

import (
	"context"
	"time"

	"github.com/robfig/cron/v3"
)

// Worker audits at once and then on schedule, one audit after the other: a tick that comes while an audit is under
// way is skipped.
type Worker struct {
	Audit    func(context.Context) *Report
	Schedule cron.Schedule
	Again    <-chan struct{} // an audit is due at once, after the one that is under way; nil: never

	Done    func(*Report)                    // after each audit
	Next    func(time.Time)                  // when the next one is due
	Skipped func(due time.Time, skipped int) // ticks that came while an audit was under way, the first at due
}

// Run works until ctx ends. An audit that is under way then ends with it, and is not reported.
func (w *Worker) Run(ctx context.Context) {
	for {
		began := time.Now()
		r := w.Audit(ctx)
		if ctx.Err() != nil {
			return
		}
		w.Done(r)
		w.countSkipped(began, time.Now())
		if !w.sleep(ctx) {
			return
		}
	}
}

// countSkipped reports the ticks between two times.
func (w *Worker) countSkipped(from, to time.Time) {
	n := 0
	first := w.Schedule.Next(from)
	for t := first; !t.IsZero() && t.Before(to); t = w.Schedule.Next(t) {
		n++
	}
	if n > 0 {
		w.Skipped(first, n)
	}
}

// recheck is how often a sleeping worker looks at the clock, which may be set while it sleeps.
const recheck = 30 * time.Second

// sleep waits for the next tick and reports whether there is one.
func (w *Worker) sleep(ctx context.Context) bool {
	next := w.Schedule.Next(time.Now())
	for {
		w.Next(next)
		d := time.Until(next)
		if d <= 0 {
			return true
		}
		t := time.NewTimer(min(d, recheck))
		select {
		case <-ctx.Done():
			t.Stop()
			return false
		case <-w.Again:
			t.Stop()
			return ctx.Err() == nil
		case <-t.C:
		}
		// A clock set back must not put the audit off.
		if again := w.Schedule.Next(time.Now()); again.Before(next) {
			next = again
		}
	}
}
