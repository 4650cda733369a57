//go:build e2e

package soak_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

// TestKilled kills the daemon at random moments, while it audits continuously and the lists change.
func TestKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 10, 1)
	c, dir := w.chains[0], t.TempDir()
	proof := filepath.Join(dir, "evidence")
	must(t, os.Mkdir(proof, 0o700))
	memory := filepath.Join(dir, "state.db")
	config := writeConfig(t, w.settings(map[string]any{"state": memory, "evidence": map[string]any{"dir": proof, "keep_changes": 2, "keep_last": 5}}))
	c.say(c.devices[0], nil) // these two differ for good
	c.say(c.devices[1], new(true))
	standing := c.now()

	j := newJournal()
	d := start(t, j, filepath.Join(bin, "kms-auditor"), config)
	j.kept(t, 0)
	d.kill()
	first := remembered(t, memory)
	if diff := cmp.Diff(sorted(standing), sorted(slices.Collect(maps.Keys(first)))); diff != "" {
		t.Fatal(diff)
	}

	ctx, stop := context.WithCancel(t.Context())
	var changing sync.WaitGroup
	changing.Go(func() { c.change(t, ctx, 2, 100*time.Millisecond) })
	type seen struct {
		finding
		first time.Time
	}
	var gone []seen // from the state
	began, open, verified, files := time.Now(), first, map[string]bool{}, 0
	for range *kills {
		d := start(t, j, filepath.Join(bin, "kms-auditor"), config)
		harassed := make(chan struct{})
		go func() {
			defer close(harassed)
			for d.cmd.Process.Signal(syscall.SIGHUP) == nil { // start another audit at once
				time.Sleep(50 * time.Millisecond)
			}
		}()
		// The moment is counted in steps of audits, after at least one audit, so that a busy machine gets as far as an idle one.
		from := j.length()
		for range rand.IntN(8) {
			_, from = j.await(t, from, "the audits go on", func(l *line) bool { return l.AuditID != "" })
		}
		time.Sleep(time.Duration(rand.Int64N(int64(80 * time.Millisecond))))
		d.kill()
		<-harassed
		now := remembered(t, memory)
		for f, before := range open {
			if !now[f].Equal(before) { // the log must say why, at the latest after the next start
				gone = append(gone, seen{f, before})
			}
		}
		open = now
		files += verify(t, proof, verified)
	}
	took := time.Since(began)
	stop()
	changing.Wait()

	left := unfinished(t, proof)
	for _, f := range left {
		must(t, os.Chtimes(f, began, began.Add(-2*time.Hour)))
	}
	from := j.length()
	d = start(t, j, filepath.Join(bin, "kms-auditor"), config)
	j.kept(t, from)
	j.kept(t, j.length())
	d.kill()
	for _, s := range gone {
		if !resolved(j, s.finding, s.first) {
			t.Errorf("%v, first seen at %s, is gone from the state but was never resolved", s.finding, s.first)
		}
	}
	v := w.judge(j.all())
	t.Logf("%d kills in %s, %d of them within an audit that had told of findings: %s; %d files of evidence verified, %d left unfinished and tidied up",
		*kills, took.Round(time.Second), v.cut, v, files, len(left))
	if len(v.wrong) > 0 || v.audits < *kills/2 || files == 0 {
		t.Error("see above")
	}
	last := remembered(t, memory)
	for what, open := range map[string][]finding{"the log": v.stays(), "the state": sorted(slices.Collect(maps.Keys(last)))} {
		if diff := cmp.Diff(sorted(c.now()), open); diff != "" {
			t.Errorf("open by %s (-truth):\n%s", what, diff)
		}
	}
	for _, f := range standing {
		if !last[f].Equal(first[f]) {
			t.Errorf("%v was first seen at %s, and now at %s", f, first[f], last[f])
		}
	}
	told(t, j, memory)
	if left := unfinished(t, proof); len(left) > 0 {
		t.Errorf("unfinished evidence is never removed: %q", left)
	}
}

// unfinished returns the evidence files whose writing was interrupted.
func unfinished(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, ".*"))
	must(t, err)
	return files
}

// change creates or ends differences now and then. The first devices do not change.
func (c *chain) change(t testing.TB, ctx context.Context, but int, pause time.Duration) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause/2 + time.Duration(rand.Int64N(int64(pause)))):
		}
		id := c.devices[but+rand.IntN(len(c.devices)-but)]
		c.mu.Lock()
		yes, says := c.allowed[id], c.claim[id]
		c.mu.Unlock()
		switch rand.IntN(4) {
		case 0:
			if err := c.allow(t, id, !yes); err != nil {
				t.Error(err)
			}
		case 1:
			c.say(id, nil)
		case 2:
			c.say(id, &yes)
		default:
			c.say(id, new(!says))
		}
	}
}

// remembered returns the open findings in a state file, with their first_seen.
func remembered(t *testing.T, path string) map[finding]time.Time {
	t.Helper()
	open := map[finding]time.Time{}
	s, err := state.View(path)
	must(t, err)
	for _, chain := range s.Chains() {
		for _, o := range s.Prior(chain).Open {
			open[finding{chain, o.Finding.Kind, o.Finding.ID}] = *o.Finding.FirstSeen
		}
	}
	return open
}

// resolved reports whether the log has the end of a finding with that first_seen.
func resolved(j *journal, f finding, then time.Time) bool {
	return slices.ContainsFunc(j.all(), func(l line) bool {
		return l.Event == string(audit.Resolved) && l.finding() == f && l.FirstSeen.UnixMilli() == then.UnixMilli()
	})
}

// told fails the test if the state has something that was never logged.
func told(t *testing.T, j *journal, path string) {
	t.Helper()
	view, err := state.View(path)
	must(t, err)
	said := map[string]bool{}
	for _, l := range j.all() {
		said[fmt.Sprint(l.Event, l.finding(), l.FirstSeen.UnixMilli())] = true
	}
	for _, r := range view.Resolved() {
		f := finding{r.Chain, r.Finding.Kind, r.Finding.ID}
		for _, event := range []audit.ChangeType{audit.Opened, audit.Resolved} {
			if !said[fmt.Sprint(event, f, r.Finding.FirstSeen.UnixMilli())] {
				t.Errorf("the state has %v of %s, but the log has no %s", f, r.Finding.FirstSeen, event)
			}
		}
	}
}

// verify verifies new evidence files, each of which must be complete, and returns their number.
func verify(t *testing.T, dir string, seen map[string]bool) (n int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		if seen[e.Name()] || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		seen[e.Name()] = true
		f, err := os.Open(filepath.Join(dir, e.Name()))
		must(t, err)
		file, err := evidence.Decode(f)
		f.Close()
		if err == nil {
			_, err = evidence.Verify(t.Context(), file, nil)
		}
		if err != nil {
			t.Errorf("%s: %v", e.Name(), err)
		}
		n++
	}
	return n
}
