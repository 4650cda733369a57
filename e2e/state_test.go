//go:build e2e

package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.etcd.io/bbolt"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/rpcfault"
)

// scanning counts what is asked of a proxy for logs.
type scanning struct {
	mu    sync.Mutex
	calls int
	first uint64 // the lowest block that logs were asked from
	after func() // called once, at the call number at
	at    int
}

func watchLogs(p *rpcfault.Proxy, at int, after func()) *scanning {
	s := &scanning{first: math.MaxUint64, at: at, after: after}
	p.Watch(func(c rpcfault.Call) {
		var q query
		if c.Method != "eth_getLogs" || json.Unmarshal(c.Params[0], &q) != nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.calls++
		s.first = min(s.first, uint64(q.FromBlock))
		if s.calls == s.at {
			s.after()
		}
	})
	return s
}

func (s *scanning) seen() (calls int, first uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls, s.first
}

// once audits once with the settings and returns the only target. Its evidence must verify.
func (s *scene) once(t *testing.T, args ...string) audit.Target {
	t.Helper()
	kept := filepath.Join(t.TempDir(), "evidence.json.gz")
	exit, out, errs := runAuditor(t, append([]string{"audit", "--once", "-o", "json", "-c", writeConfig(t, s.settings), "--evidence", kept}, args...)...)
	if exit != 0 {
		t.Fatalf("exit code %d\n%s%s", exit, out, errs)
	}
	report := decodeReport(t, out)
	verifies(t, kept, report)
	target := report.Chains[0].Targets[0]
	if got := found(target); got != "consistent "+wholly {
		t.Errorf("%s\n%s", got, errs)
	}
	return target
}

// toldOf fails the test unless every entry tells of its change.
func toldOf(t *testing.T, target audit.Target) {
	t.Helper()
	for _, e := range target.Entries {
		if e.Changed == nil || e.Changed.Actor == "" || e.Changed.Time == nil {
			t.Fatalf("%s %s tells too little of its change: %+v", e.List, e.ID, e.Changed)
		}
	}
}

// newHistory is a scene of two thousand blocks with some hundred events among them, served 10 blocks at once.
func newHistory(t *testing.T) *scene {
	t.Helper()
	s := newScene(t, 5, 20)
	for i := range 12 {
		must(t, s.client.Client().CallContext(t.Context(), nil, "anvil_mine", 130+i))
		must(t, s.kms.Seed(t.Context(), s.devices, s.images))
	}
	s.proxy.Set(blocksAtOnce(10, "exceed maximum block range: 10"))
	s.settings.Schedule = "@every 1h"
	return s
}

func TestScanOutlivesItsProcess(t *testing.T) {
	s := newHistory(t)
	s.settings.State = filepath.Join(t.TempDir(), "state.db")
	var begun []uint64
	for range 10 {
		var d *daemon
		ready := make(chan struct{})
		w := watchLogs(s.proxy, 40+rand.IntN(8), func() {
			<-ready
			_ = d.cmd.Process.Kill()
		})
		d = startDaemon(t, s.settings)
		close(ready)
		select {
		case <-d.done:
		case <-time.After(patience):
			t.Fatalf("it still runs: it read all logs before it was killed\n%s", strings.Join(d.logged(), "\n"))
		}
		_, first := w.seen()
		begun = append(begun, first)
	}
	w := watchLogs(s.proxy, 0, nil)
	resumed := s.once(t)
	_, first := w.seen()
	begun = append(begun, first)
	t.Logf("the runs began to read at blocks %v", begun)
	for i := 1; i < len(begun); i++ {
		if begun[i] < begun[i-1] {
			t.Errorf("run %d began at block %d, the one before at %d", i, begun[i], begun[i-1])
		}
	}
	if begun[len(begun)-1] <= begun[0]+300 {
		t.Errorf("the last run began at block %d, the first at %d: hardly anything was kept", begun[len(begun)-1], begun[0])
	}
	toldOf(t, resumed)

	w = watchLogs(s.proxy, 0, nil)
	again := s.once(t)
	if calls, _ := w.seen(); calls != 0 {
		t.Errorf("an audit of a chain without news reads logs %d times", calls)
	}
	s.settings.State = filepath.Join(t.TempDir(), "fresh.db")
	for what, got := range map[string]audit.Target{"the scan in one piece": s.once(t), "the audit that read no logs": again} {
		// A fresh state has a baseline of its own.
		if diff := cmp.Diff(resumed, got, cmpopts.IgnoreFields(audit.Target{}, "Baseline")); diff != "" {
			t.Errorf("%s ends with another result than the one that was killed:\n%s", what, diff)
		}
	}
}

func TestScanOfManyLogs(t *testing.T) {
	s := newScene(t, 10, 1200)
	s.settings.State = filepath.Join(t.TempDir(), "state.db")
	s.proxy.Set(logsAtOnce(1000, "query returned more than 1000 results"))
	if target := s.once(t); target.Counts.Match != 1210 {
		t.Errorf("%d entries match, want 1,210", target.Counts.Match)
	}
}

func TestNewsAreReadFromWhereTheStateEnds(t *testing.T) {
	for name := range nodes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, name)
			must(t, s.api.put(s.truth()))
			state := filepath.Join(t.TempDir(), "state.db")
			kept := func(_ *stage, c *settings) { c.State = state }
			s.finds(t, "at first", "consistent "+wholly, kept)
			end, err := s.node.client.BlockNumber(t.Context())
			must(t, err)
			must(t, s.kms.AllowImage(t.Context(), id(image059)))
			claim := s.truth()
			leaveOut(image059)(s, &claim)
			must(t, s.api.put(claim))
			w := watchLogs(s.node.proxy, 0, nil)
			s.finds(t, "after news", "drift "+wholly+" unlisted_chain_allowed", kept)
			if calls, first := w.seen(); calls == 0 || first != end+1 {
				t.Errorf("%d reads of logs from block %d on, want some from %d on", calls, first, end+1)
			}
		})
	}
}

func TestStateThatCannotBeUsed(t *testing.T) {
	s := newScene(t, 2, 2)
	s.settings.State = filepath.Join(t.TempDir(), "state.db")
	s.once(t)
	good := []byte(readFile(t, s.settings.State))
	for _, row := range []struct {
		sentence string
		spoil    func(path string) error
		says     string
	}{
		{"a text file", func(path string) error {
			return os.WriteFile(path, []byte(strings.Repeat("dear diary\n", 3000)), 0o600)
		}, "state.db is "},
		{"a file that was cut short", func(path string) error { return os.WriteFile(path, good[:len(good)/2+100], 0o600) }, "state.db is damaged"},
		{"bytes that changed", func(path string) error {
			bad := []byte(strings.ReplaceAll(string(good), "os_image", "os_imago"))
			return os.WriteFile(path, bad, 0o600)
		}, "state.db is damaged"},
		{"another program's database", func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			db, err := bbolt.Open(path, 0o600, nil)
			if err != nil {
				return err
			}
			err = db.Update(func(tx *bbolt.Tx) error {
				_, err := tx.CreateBucket([]byte("recipes"))
				return err
			})
			return errors.Join(err, db.Close())
		}, "state.db is a database of another program"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			must(t, row.spoil(s.settings.State))
			spoiled := readFile(t, s.settings.State)
			config := writeConfig(t, s.settings)
			exit, out, errs := runAuditor(t, "audit", "--once", "-c", config)
			if exit != 2 || out != "" || !hasAll(errs, []string{row.says, "--state-reset"}) || strings.Contains(errs, "goroutine") {
				t.Errorf("exit code %d\n%s%s", exit, out, errs)
			}
			if readFile(t, s.settings.State) != spoiled {
				t.Error("the file was changed although it cannot be used")
			}
			toldOf(t, s.once(t, "--state-reset"))
			toldOf(t, s.once(t))
		})
	}
}

func TestOneStateForTwoDaemons(t *testing.T) {
	s := newScene(t, 1, 1)
	s.settings.State = filepath.Join(t.TempDir(), "state.db")
	d := startDaemon(t, s.settings)
	d.finds(t, "consistent")
	exit, out, errs := runAuditor(t, "audit", "-c", writeConfig(t, s.settings))
	if holder := fmt.Sprintf("process %d holds it", d.cmd.Process.Pid); exit != 2 || out != "" || !hasAll(errs, []string{"state.db", holder}) {
		t.Errorf("exit code %d, want 2 and %q\n%s%s", exit, holder, out, errs)
	}
	if code := d.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("the first daemon ended with %d", code)
	}
	s.once(t)
}
