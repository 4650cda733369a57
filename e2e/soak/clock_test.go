//go:build e2e

package soak_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
)

const day = 24 * time.Hour

// leaping builds an auditor whose wall clock jumps by a day, forward at SIGUSR1 and back at SIGUSR2. The monotonic clock is not
// affected, as when an operator sets the clock.
var leaping = sync.OnceValues(func() (string, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	clock := filepath.Join(strings.TrimSpace(string(root)), "src/time/time.go")
	source, err := os.ReadFile(clock)
	if err != nil {
		return "", err
	}
	const reads = "sec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(source), reads) != 1 {
		return "", fmt.Errorf("%s does not read the clock by %q", clock, reads)
	}
	command, err := filepath.Abs("../../cmd/kms-auditor/leap.go")
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for path, text := range map[string]string{
		clock: strings.Replace(string(source), reads, reads+"\tsec += Leap\n", 1) + "\nvar Leap int64\n",
		command: `package main

import ("os"; "os/signal"; "syscall"; "time")

func init() {
	told := make(chan os.Signal, 10)
	signal.Notify(told, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for s := range told {
			time.Leap += map[os.Signal]int64{syscall.SIGUSR1: 86400, syscall.SIGUSR2: -86400}[s]
		}
	}()
}`,
	} {
		replace[path] = filepath.Join(bin, filepath.Base(path))
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	list, to := filepath.Join(bin, "overlay.json"), filepath.Join(bin, "leaping")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		return "", err
	}
	return to, build(to, "-overlay", list)
})

// leaper is a daemon whose clock jumps.
type leaper struct {
	*stage
	ahead time.Duration
}

func newLeaper(t *testing.T, more map[string]any) *leaper {
	t.Helper()
	w, dir := newWorld(t, 1, 10, 1), t.TempDir()
	l := &leaper{stage: &stage{world: w, chain: w.chains[0], j: newJournal(), state: filepath.Join(dir, "state.db")}}
	more["state"], more["evidence"] = l.state, map[string]any{"dir": dir, "keep_changes": 2, "keep_last": 3}
	more["accept"] = []any{map[string]any{"chain": l.name, "contract": l.kms.Address().Hex(), "kind": audit.ClaimDeniedChainAllowed,
		"list": audit.Device, "id": l.devices[2].Hex(), "reason": "until tonight", "expires": time.Now().Add(day / 2).UTC().Format(time.RFC3339)}}
	l.config = writeConfig(t, w.settings(more))
	l.deny(l.devices[:4]) // the first differs for good, the third is accepted
	l.start(t)
	return l
}

func (l *leaper) start(t *testing.T) {
	t.Helper()
	binary, err := leaping()
	must(t, err)
	l.ahead = 0
	l.d = start(t, l.j, binary, l.config)
}

// leap sets the clock, and returns the number of the next log line.
func (l *leaper) leap(t *testing.T, sig syscall.Signal, by time.Duration) (from int) {
	t.Helper()
	from = l.j.length()
	must(t, l.d.cmd.Process.Signal(sig))
	l.ahead += by
	return from
}

// near reports whether a time is now by the daemon's clock.
func (l *leaper) near(at time.Time) bool {
	return at.Sub(time.Now().Add(l.ahead)).Abs() < patience
}

// sane fails the test if the report, the page or the metrics show another time than now.
func (l *leaper) sane(t *testing.T, doing string) {
	t.Helper()
	at := l.j.audited(t, l.j.audited(t, l.j.length()).number(l.j)).Time
	if !l.near(at) {
		t.Errorf("%s: it audits at %s", doing, at)
	}
	body, err := l.d.get("/api/v1/report")
	must(t, err)
	var r audit.Report
	must(t, json.Unmarshal([]byte(body), &r))
	for _, f := range r.Chains[0].Targets[0].Findings {
		if f.FirstSeen == nil || f.FirstSeen.After(r.FinishedAt) {
			t.Errorf("%s: at %s, %s was first seen at %v", doing, r.FinishedAt, f.Kind, f.FirstSeen)
		}
	}
	metrics, err := l.d.get("/metrics")
	must(t, err)
	for _, name := range []string{"last_audit", "last_comparison", "next_audit"} {
		if at := time.Unix(int64(series(metrics, "kms_auditor_"+name+"_timestamp_seconds")), 0); !l.near(at) {
			t.Errorf("%s: %s is at %s", doing, name, at)
		}
	}
	page, err := l.d.get("/")
	must(t, err)
	if head := page[strings.Index(page, `<header id="status"`):][:400]; strings.Contains(head, "stale") {
		t.Errorf("%s: the page is stale: %s", doing, head)
	}
	newest := ""
	for _, f := range files(t, filepath.Dir(l.state), "evidence-*") {
		newest = max(newest, f)
		if strings.Contains(f, "evidence-"+time.Now().Add(l.ahead).UTC().Format("20060102T")) {
			return
		}
	}
	t.Errorf("%s: there is no evidence of today, only of %s", doing, newest)
}

// number returns the number of the line after this one.
func (l line) number(j *journal) int {
	return 1 + slices.IndexFunc(j.all(), func(o line) bool { return o.raw == l.raw })
}

func files(t *testing.T, dir, pattern string) []string {
	t.Helper()
	out, err := filepath.Glob(filepath.Join(dir, pattern))
	must(t, err)
	return out
}

// TestClockLeaps sets the clock forward by a day and back again, during an audit and between two.
func TestClockLeaps(t *testing.T) {
	t.Parallel()
	l := newLeaper(t, map[string]any{})
	standing := finding{l.name, audit.ClaimDeniedChainAllowed, l.devices[0].Hex()}
	accepted := finding{l.name, audit.ClaimDeniedChainAllowed, l.devices[2].Hex()}
	expired := finding{l.name, audit.AcceptExpired, l.devices[2].Hex()}
	fresh := finding{l.name, audit.UnlistedChainAllowed, l.devices[4].Hex()}
	opened, _ := l.j.await(t, 0, "the difference opens", about("finding_opened", standing))
	l.sane(t, "before any leap")

	from := l.leap(t, syscall.SIGUSR1, day)
	l.j.await(t, from, "the accepted difference opens tomorrow", about("finding_opened", accepted))
	l.j.await(t, from, "what was accepted ran out", about("finding_opened", expired))
	l.say(l.devices[4], nil)
	l.j.await(t, from, "another difference opens", about("finding_opened", fresh))
	l.sane(t, "a day ahead")

	from = l.leap(t, syscall.SIGUSR2, -day)
	l.j.await(t, from, "the accepted difference is accepted again", about("finding_resolved", accepted))
	l.j.await(t, from, "it has not run out", about("finding_resolved", expired))
	l.sane(t, "back again")

	for _, how := range []struct {
		sentence string
		sig      syscall.Signal
		by       time.Duration
	}{{"a day behind", syscall.SIGUSR2, -day}, {"on time", syscall.SIGUSR1, day}, {"a day ahead once more", syscall.SIGUSR1, day}} {
		l.leap(t, how.sig, how.by)
		l.sane(t, how.sentence)
	}
	l.d.kill()
	l.start(t)
	l.sane(t, "a new process, on time, on a state of tomorrow")
	l.d.kill()

	reminders := map[string]int{}
	for _, line := range l.j.all() {
		switch f := line.finding(); {
		case line.Event == string(audit.Open):
			reminders[f.ID+string(f.Kind)]++
		case (f == standing || f == fresh) && line.Event == string(audit.Resolved):
			t.Errorf("it is wrongly resolved: %s", line.raw)
		case f == standing && line.Event == string(audit.Opened) && line.raw != opened.raw:
			t.Errorf("it opens twice: %s", line.raw)
		}
	}
	for f, n := range reminders {
		if n > 3 { // the number of times that the clock went forward by a day
			t.Errorf("%d reminders of %s", n, f)
		}
	}
	open := remembered(t, l.state)
	if len(open) != 2 {
		t.Errorf("open is %v", open)
	}
	for f, at := range open {
		if at.After(time.Now()) {
			t.Errorf("%v was first seen at %s", f, at)
		}
	}
	verify(t, filepath.Dir(l.state), map[string]bool{"state.db": true, "state.db.lock": true})
}

// TestScheduleOfALeapingClock has a daily audit twelve hours away. A sleeping daemon checks the clock twice a minute.
func TestScheduleOfALeapingClock(t *testing.T) {
	t.Parallel()
	tonight := time.Now().UTC().Add(day / 2)
	daily := fmt.Sprintf("%d %d * * *", tonight.Minute(), tonight.Hour())
	t.Run("on", func(t *testing.T) {
		t.Parallel()
		l := newLeaper(t, map[string]any{"schedule": daily})
		l.sleeps(t)
		from := l.leap(t, syscall.SIGUSR1, day)
		began, _ := awaitFor(t, l.j, 2*patience, from, "the audit that is overdue begins", event("audit_started"))
		l.j.await(t, from, "it ends", event("audit_finished"))
		if next := l.next(t); !l.near(began.Time) || next.Sub(tonight) > day {
			t.Errorf("it audits at %s, and next at %s", began.Time, next)
		}
	})
	t.Run("back", func(t *testing.T) {
		t.Parallel()
		l := newLeaper(t, map[string]any{"schedule": daily})
		l.sleeps(t)
		l.leap(t, syscall.SIGUSR2, -day)
		eventually(t, "the next audit is due within a day", func() bool { return l.next(t).Before(tonight.Add(-day / 2)) })
	})
}

// next returns the time of the next audit by the daemon's metric, or 1970 if it is not set yet.
func (l *leaper) next(t *testing.T) time.Time {
	t.Helper()
	metrics, err := l.d.get("/metrics")
	must(t, err)
	return time.Unix(int64(series(metrics, "kms_auditor_next_audit_timestamp_seconds")), 0)
}

// sleeps waits until the daemon sleeps.
func (l *leaper) sleeps(t *testing.T) {
	t.Helper()
	eventually(t, "the next audit is announced", func() bool { return l.next(t).After(time.Now()) })
}

// eventually polls ten times a second until the condition holds.
func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(2 * patience); !yes(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not within %s: %s", 2*patience, what)
		}
	}
}
