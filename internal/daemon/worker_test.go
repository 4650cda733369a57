package daemon_test

import (
	"context"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/internal/daemon"
)

// every fires in steps from the zero time on.
type every time.Duration

func (e every) Next(t time.Time) time.Time {
	return t.Truncate(time.Duration(e)).Add(time.Duration(e))
}

func TestTheWorkerAuditsAtOnceAndThenOnSchedule(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var began []time.Time
	var next []time.Time
	running := false
	w := daemon.Worker{
		Tick: every(50 * time.Millisecond).Next,
		Audit: func(context.Context) observe.Result {
			if running {
				t.Error("two audits at once")
			}
			running = true
			defer func() { running = false }()
			began = append(began, time.Now())
			return observe.Result{}
		},
		Done: func(observe.Result) {
			if len(began) == 4 {
				cancel()
			}
		},
		Next:    func(at time.Time) { next = append(next, at) },
		Skipped: func(time.Time, int) {},
	}
	w.Run(ctx)
	if len(began) != 4 || len(next) < 3 || next[0].Before(began[0]) {
		t.Fatalf("audits at %v, announced for %v: the first must come unannounced", began, next)
	}
	for i, at := range began[1:] {
		if at.Before(next[i]) {
			t.Errorf("audit %d began at %s, before its time %s", i+1, at, next[i])
		}
	}
}

func TestTicksWithoutAnAuditAreTold(t *testing.T) {
	const tick = 10 * time.Millisecond
	for _, row := range []struct {
		sentence      string
		audit, asleep time.Duration // how long the first audit takes, and how late the process wakes up
	}{
		{"they came while an audit was under way", 55 * time.Millisecond, 0},
		{"they came while the process stood still", 0, 55 * time.Millisecond},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		var audits []time.Time // when they were due
		slept, skipped := false, 0
		w := daemon.Worker{
			Tick: every(tick).Next,
			Audit: func(context.Context) observe.Result {
				if audits = append(audits, time.Now()); len(audits) == 1 {
					<-time.After(row.audit)
				}
				return observe.Result{}
			},
			Done: func(observe.Result) {
				if len(audits) == 2 {
					cancel()
				}
			},
			Next: func(time.Time) {
				if !slept {
					slept = true
					<-time.After(row.asleep)
				}
			},
			Skipped: func(_ time.Time, n int) { skipped += n },
		}
		if w.Run(ctx); len(audits) >= 2 {
			if ticks := int(audits[1].Truncate(tick).Sub(audits[0].Truncate(tick)) / tick); skipped < ticks-1 || skipped < 4 {
				t.Errorf("%s: %d ticks told as skipped, want all but one of %d", row.sentence, skipped, ticks)
			}
		} else {
			t.Errorf("%s: %d audits, want two", row.sentence, len(audits))
		}
	}
}

func TestAClockThatLeapsByDecadesHoldsUpNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	skipped := 0
	w := daemon.Worker{
		Tick:    leap{every(time.Second)}.Next,
		Audit:   func(context.Context) observe.Result { return observe.Result{} },
		Done:    func(observe.Result) {},
		Next:    func(time.Time) { cancel() },
		Skipped: func(_ time.Time, n int) { skipped = n },
	}
	if w.Run(ctx); skipped != 100_000 {
		t.Errorf("%d ticks told as skipped", skipped)
	}
}

// leap is a schedule that has been due since 1970.
type leap struct{ every }

func (l leap) Next(t time.Time) time.Time {
	if time.Since(t) < time.Minute {
		return time.Unix(1, 0)
	}
	return l.every.Next(t)
}

func TestTheWorkerAuditsAgainWhenItIsTold(t *testing.T) {
	for _, row := range []struct {
		sentence string
		asleep   bool // when it is told
	}{
		{"while an audit is under way", false},
		{"while it waits for an hour to pass", true},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		again := make(chan struct{}, 1)
		audits := 0
		w := daemon.Worker{
			Tick:  every(time.Hour).Next,
			Again: again,
			Audit: func(context.Context) observe.Result {
				if audits++; audits == 1 && !row.asleep {
					again <- struct{}{}
				}
				return observe.Result{}
			},
			Done: func(observe.Result) {
				if audits == 2 {
					cancel()
				}
			},
			Next: func(time.Time) {
				if row.asleep {
					again <- struct{}{}
				}
			},
			Skipped: func(time.Time, int) {},
		}
		if w.Run(ctx); audits != 2 {
			t.Errorf("%s: %d audits, want another one at once", row.sentence, audits)
		}
		cancel()
	}
}

func TestAnAuditThatIsCutShortIsNotReported(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := daemon.Worker{
		Tick: every(time.Hour).Next,
		Audit: func(ctx context.Context) observe.Result {
			cancel()
			<-ctx.Done()
			return observe.Result{}
		},
		Done: func(observe.Result) { t.Error("an audit that was cut short is reported") },
	}
	w.Run(ctx)
}
