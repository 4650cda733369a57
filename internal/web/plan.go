package web

import (
	"time"

	"github.com/robfig/cron/v3"
)

// Plan is when audits are to be expected.
type Plan struct {
	Schedule cron.Schedule // nil: nothing is expected
	Timeout  time.Duration // of one audit
}

// after returns when the next audit is due after one that ended at t, and when it is overdue: after two periods of the
// schedule, or once an audit that began in time must have ended, whichever is later. Zero times: never.
func (p Plan) after(t time.Time) (due, overdue time.Time) {
	if p.Schedule == nil {
		return due, overdue
	}
	if due = p.Schedule.Next(t); due.IsZero() {
		return due, overdue
	}
	if overdue = p.Schedule.Next(due); overdue.Before(due.Add(p.Timeout)) {
		overdue = due.Add(p.Timeout)
	}
	return due.UTC(), overdue.UTC()
}
