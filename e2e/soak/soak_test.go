//go:build e2e

package soak_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
)

const (
	seldom = 4 * time.Second  // between two changes of the world
	often  = time.Second      // between two faults
	long   = 10 * time.Second // differences that last this long must be found
	enough = 2 * time.Minute  // to see growth
)

// TestSoak runs a daemon that audits four chains every second, while lists change, sources fail and visitors fetch its pages.
func TestSoak(t *testing.T) {
	if *soakFor < enough {
		t.Parallel()
	}
	w := newWorld(t, 4, 30, 2)
	if *soakFor >= enough {
		w.past(t)
	}
	dir := t.TempDir()
	state := filepath.Join(dir, "state.db")
	w.timeout = "1s"
	more := map[string]any{"state": state, "timeout": "5s", "confirm_delay": "100ms"}
	if *proofs {
		proof := filepath.Join(dir, "evidence")
		must(t, os.Mkdir(proof, 0o700))
		more["evidence"] = map[string]any{"dir": proof}
	}
	j := newJournal()
	d := start(t, j, filepath.Join(bin, "kms-auditor"), writeConfig(t, w.settings(more)))
	j.audited(t, 0)
	if *soakFor >= enough {
		w.fill(t, j)
	}

	visitors := []*visitor{
		{name: "scraper", paths: []string{"/metrics"}, every: 200 * time.Millisecond},
		{name: "browser 1", paths: []string{"/", "/api/v1/report", "/api/v1/history"}, every: time.Second},
		{name: "browser 2", paths: []string{"/", "/api/v1/history?limit=1000"}, every: 3 * time.Second},
		{name: "probe", paths: []string{"/-/healthy", "/-/ready"}, every: 5 * time.Second},
	}
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, v := range visitors {
		all.Go(func() { v.run(ctx, d.url) })
	}
	for _, c := range w.chains {
		all.Go(func() { c.live(t, ctx) })
	}
	all.Go(func() { w.changes(t, ctx) })
	all.Go(func() { w.faults(ctx) })

	var samples [][]float64
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < *soakFor; <-tick.C { // a busy machine may miss ticks
		if metrics := visitors[0].answer(); metrics != "" {
			s, err := sample(d.cmd.Process.Pid, metrics, state)
			must(t, err)
			samples = append(samples, s)
		}
	}
	stop()
	all.Wait()
	w.heal()
	time.Sleep(2 * time.Second) // for retries
	j.kept(t, j.length())
	calm := j.length()
	j.kept(t, calm)
	lines := j.all()
	if code := d.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	w.report(t, lines, samples, visitors)
}

// past makes the contracts log a thousand events in few blocks, since a node does not keep the state of older ones.
func (w *world) past(t *testing.T) {
	for _, c := range w.chains {
		must(t, c.kms.Seed(t.Context(), slices.Repeat(c.trusted(), 17), nil))
		must(t, c.seal(t, true))
	}
}

// fill makes so many findings come and go that the state drops the oldest. From then on it must not grow by them.
func (w *world) fill(t *testing.T, j *journal) {
	for resolved := 0; resolved < 1000; {
		from := j.length()
		for _, contrary := range []bool{true, false} {
			for _, c := range w.chains {
				c.saysAll(contrary)
			}
			j.kept(t, j.length())
		}
		before := resolved
		for _, l := range j.all()[from:] {
			if l.Event == "finding_resolved" {
				resolved++
			}
		}
		if resolved == before {
			t.Fatal("findings are not opened and resolved")
		}
	}
}

// live seals one block per second.
func (c *chain) live(t testing.TB, ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := c.seal(t, true); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	}
}

// changes changes one side now and then, and lets the other side follow.
func (w *world) changes(t testing.TB, ctx context.Context) {
	var following sync.WaitGroup
	defer following.Wait()
	busy := map[common.Hash]time.Time{} // until when a device follows
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(rand.Int64N(int64(2 * seldom)))):
		}
		c := w.chains[rand.IntN(len(w.chains))]
		id := c.devices[rand.IntN(len(c.devices))]
		late := time.Duration(rand.Int64N(int64(30 * time.Second)))
		if time.Now().Before(busy[id]) {
			continue
		}
		busy[id] = time.Now().Add(late + time.Second)
		c.mu.Lock()
		yes := c.allowed[id]
		c.mu.Unlock()
		switch which := rand.IntN(3); {
		case *still || which == 0: // the API drops it or claims the opposite
			c.say(id, []*bool{nil, new(!yes)}[rand.IntN(2)])
		default:
			yes = !yes
			if err := c.allow(t, id, yes); err != nil {
				t.Error(err)
			}
		}
		following.Go(func() {
			select {
			case <-ctx.Done():
			case <-time.After(late):
			}
			c.say(id, &yes)
		})
	}
}

// faults makes several sources at a time fail for a while.
func (w *world) faults(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(rand.Int64N(int64(2 * often)))):
		}
		last := time.Duration(rand.Int64N(int64(4 * time.Second)))
		c := w.chains[rand.IntN(len(w.chains))]
		p := c.providers[rand.IntN(8)/7] // mostly the first one, which is asked first
		switch rand.IntN(6) {
		case 0:
			w.api.fail(faults[rand.IntN(4)], c.name, last) // not garbled: only TLS would detect that
		case 1:
			c.mu.Lock()
			p.lag(c.head - min(c.head-c.first, uint64(rand.IntN(6))))
			c.mu.Unlock()
			time.AfterFunc(last, p.catchUp)
		case 2:
			for _, p := range c.providers {
				p.fail(faults[rand.IntN(len(faults))], "", last)
			}
		default:
			p.fail(faults[rand.IntN(len(faults))], "", last)
		}
	}
}

func (w *world) heal() {
	w.api.heal()
	for _, c := range w.chains {
		for _, p := range c.providers {
			p.heal()
			p.catchUp()
		}
	}
}

// report prints the results of a soak, and fails the test if something grows, is missing or is wrong.
func (w *world) report(t *testing.T, lines []line, samples [][]float64, visitors []*visitor) {
	t.Helper()
	apart := *soakFor / time.Duration(len(samples))
	text, growing := table(samples, apart)
	events := 0
	for _, c := range w.chains {
		events += len(c.events(t))
	}
	fmt.Printf("%d samples, %s apart\n%sthe contracts logged %d events\n\n", len(samples), apart.Round(time.Millisecond), text, events)
	if len(growing) > 0 && *soakFor >= enough {
		t.Errorf("not flat: %s", strings.Join(growing, ", "))
	}
	w.ticks(t, lines)

	v := w.judge(lines)
	fmt.Println(v)
	lasted := w.lasted(long)
	var until []time.Duration
	for _, g := range lasted {
		opened := slices.IndexFunc(lines, func(l line) bool {
			return l.Event == string(audit.Opened) && l.finding() == g.finding && l.Time.After(g.from) && l.Time.Before(g.to)
		})
		if opened < 0 {
			continue // sources failed for that long; judge reports other cases
		}
		until = append(until, lines[opened].Time.Sub(g.from))
	}
	slices.Sort(until)
	fmt.Printf("%d differences came and went, %d of them lasted over %s, %d of these were found while they lasted, after %s (median) and %s (longest)\n",
		len(w.lasted(0)), len(lasted), long, len(until), quantile(until, 0.5).Round(time.Millisecond), quantile(until, 1).Round(time.Millisecond))
	var truth []finding
	for _, c := range w.chains {
		truth = append(truth, c.now()...)
	}
	if diff := cmp.Diff(sorted(truth), v.stays()); diff != "" || len(v.wrong) > 0 {
		t.Errorf("%d lies, and open at the end (-truth +log):\n%s", len(v.wrong), diff)
	}
	for _, visitor := range visitors {
		fmt.Println(visitor)
		if len(visitor.failed) > 0 {
			t.Errorf("%s got errors", visitor.name)
		}
	}
	passed, failed := w.api.counts()
	for _, c := range w.chains {
		for _, p := range c.providers {
			ok, bad := p.counts()
			passed, failed = passed+ok, failed+bad
		}
	}
	fmt.Printf("sources answered %d requests well and %d not\n", passed, failed)
}

// ticks compares the ticks of the schedule with the audits and the logged skipped ticks.
func (w *world) ticks(t *testing.T, lines []line) {
	t.Helper()
	var began []line
	skipped, told := 0, 0
	for _, l := range lines {
		switch {
		case l.Event == "audit_started":
			began = append(began, l)
			if l.Time.Sub(began[0].Time) > 0 {
				skipped, told = skipped+told, 0
			}
		case l.Skipped > 0:
			told += l.Skipped
		}
	}
	// The first audit has no tick. Each tick is at a whole second.
	ticks := int(began[len(began)-1].Time.Unix() - began[0].Time.Unix())
	fmt.Printf("%d ticks: %d audits, %d skipped by the log, %d unaccounted for\n", ticks, len(began)-1, skipped, ticks-skipped-len(began)+1)
	if ticks != skipped+len(began)-1 {
		t.Error("ticks are missing or invented")
	}
}
