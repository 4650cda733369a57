//go:build e2e

package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
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
	"go.etcd.io/bbolt"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/state"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// scanning counts a proxy's requests for logs.
type scanning struct {
	mu    sync.Mutex
	calls int
	first uint64 // lowest fromBlock of a request
}

// watchLogs counts requests. after, unless nil, is called once, when logs from block at or later are requested.
func watchLogs(p *rpcfault.Proxy, at uint64, after func()) *scanning {
	s := &scanning{first: math.MaxUint64}
	p.Watch(func(c rpcfault.Call) {
		var q query
		if c.Method != "eth_getLogs" || json.Unmarshal(c.Params[0], &q) != nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.calls++
		s.first = min(s.first, uint64(q.FromBlock))
		if after != nil && uint64(q.FromBlock) >= at {
			after()
			after = nil
		}
	})
	return s
}

func (s *scanning) seen() (calls int, first uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls, s.first
}

// once audits once with the settings, verifies the evidence, and returns the only target.
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

// toldOf fails the test unless every entry has its last change.
func toldOf(t *testing.T, target audit.Target) {
	t.Helper()
	for _, e := range target.Entries {
		if e.Changed == nil || e.Changed.Actor == "" || e.Changed.Time == nil {
			t.Fatalf("%s %s lacks details of its change: %+v", e.List, e.ID, e.Changed)
		}
	}
}

// newHistory is a scene of a long chain, whose provider serves 2,000 logs at once.
func newHistory(t *testing.T) *scene {
	t.Helper()
	begun := time.Now()
	c, dir := newLongChain(), t.TempDir()
	c.write(t, dir)
	t.Logf("%d blocks with %d changes of lists, made in %s", manyBlocks, c.done, time.Since(begun).Round(time.Second))
	s := &scene{api: startAPI(t), node: dialNode(t, "geth", append([]string{"--datadir", dir, "--networkid", c.rules.ChainID.String(), "--maxpeers", "0", "--history.logs.disable"}, served...))}
	must(t, s.api.put(c.claim(s.node)))
	s.settings = s.node.settings(s.api)
	s.settings.Schedule = "@every 1h"
	s.settings.Chains[0].Providers[0].Timeout = "20s"
	s.settings.Web = &webSettings{Listen: []string{"127.0.0.1:0"}}
	return s
}

// limit puts a new proxy, with fresh counters, before the node. The auditor asks for 10,000 blocks at once; the provider serves
// 2,000 logs.
func (s *scene) limit(t *testing.T) {
	t.Helper()
	s.proxy = rpcfault.New(s.node.url)
	s.proxy.Set(logsAtOnce(2000, "query returned more than 2000 results"))
	s.settings.Chains[0].Providers[0].URL = testenv.Serve(t, s.proxy)
}

func TestScanOutlivesItsProcess(t *testing.T) {
	t.Parallel()
	const kills = 10
	s := newHistory(t)
	s.settings.State = filepath.Join(t.TempDir(), "state.db")
	began, asked := time.Now(), 0
	var kept []uint64 // block at which the next run must begin; zero if nothing is kept yet
	for i := range uint64(kills) {
		// The moments are random over the whole scan.
		at := (i*manyBlocks + rand.Uint64N(manyBlocks)) / (kills + 1)
		s.limit(t)
		var d *daemon
		ready := make(chan struct{})
		watchLogs(s.proxy, at, func() {
			<-ready
			_ = d.cmd.Process.Kill()
		})
		d = startDaemon(t, s.settings)
		close(ready)
		select {
		case <-d.done:
		case <-time.After(patience):
			t.Fatalf("it read all logs before it was killed\n%s", strings.Join(d.logged(), "\n"))
		}
		next, _ := remembered(t, s.settings.State)
		kept = append(kept, next)
		asked += s.proxy.Requests()
	}
	s.limit(t)
	w := watchLogs(s.proxy, 0, nil)
	resumed := s.once(t)
	calls, first := w.seen()
	t.Logf("%d requests and %s for all runs; those killed kept what is before blocks %v; the last one asked %d times for logs, from block %d on",
		asked+s.proxy.Requests(), time.Since(began).Round(time.Second), kept, calls, first)
	if last := kept[kills-1]; !slices.IsSorted(kept) || last < manyBlocks/2 || first != last {
		t.Error("a run reads again what an earlier one has read")
	}
	toldOf(t, resumed)
	if _, n := remembered(t, s.settings.State); n != manyChanges {
		t.Errorf("the state holds %d changes of lists, want %d", n, manyChanges)
	}

	w = watchLogs(s.proxy, 0, nil)
	again := s.once(t)
	if calls, _ := w.seen(); calls != 0 {
		t.Errorf("an audit of a chain without news reads logs %d times", calls)
	}
	s.settings.State = filepath.Join(t.TempDir(), "fresh.db")
	began, asked = time.Now(), s.proxy.Requests()
	fresh := s.once(t)
	t.Logf("%d requests and %s in one piece", s.proxy.Requests()-asked, time.Since(began).Round(time.Second))
	for what, got := range map[string]audit.Target{"the scan in one piece": fresh, "the audit that read no logs": again} {
		if got.Baseline == nil || resumed.Baseline == nil {
			t.Fatalf("%s has no baseline of the contract", what)
		}
		got.Baseline.Since = resumed.Baseline.Since // a fresh state sees it for the first time
		if diff := cmp.Diff(resumed, got); diff != "" {
			t.Errorf("%s ends with another result than the one that was killed:\n%s", what, diff)
		}
	}
}

// remembered returns up to which block the only contract in a state was scanned, and the number of changes of its lists.
func remembered(t *testing.T, path string) (next uint64, changes int) {
	t.Helper()
	view, err := state.View(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0
	}
	must(t, err)
	h := view.Timeline(state.Filter{Lists: state.Lists})
	for _, scanned := range h.Scanned {
		next, changes = scanned.To+1, len(h.Events)
	}
	return next, changes
}

func TestScanOfManyLogs(t *testing.T) {
	t.Parallel()
	s := newScene(t, 10, 1200)
	s.settings.State = filepath.Join(t.TempDir(), "state.db")
	s.proxy.Set(logsAtOnce(1000, "query returned more than 1000 results"))
	if target := s.once(t); target.Counts.Match != 1210 {
		t.Errorf("%d entries match, want 1,210", target.Counts.Match)
	}
}

func TestScanResumesWhereTheStateEnds(t *testing.T) {
	t.Parallel()
	for name := range nodes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, name)
			must(t, s.api.put(s.truth()))
			path := filepath.Join(t.TempDir(), "state.db")
			kept := func(_ *stage, c *settings) { c.State = path }
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
	t.Parallel()
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
			bad := slices.Clone(good)
			bad[len(bad)/2] ^= 1
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
		}, "state.db is another program's database"},
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
	t.Parallel()
	s := newScene(t, 1, 1)
	s.settings.State = filepath.Join(t.TempDir(), "state.db")
	d := startDaemon(t, s.settings)
	d.finds(t, "consistent")
	exit, out, errs := runAuditor(t, "audit", "-c", writeConfig(t, s.settings))
	if holder := fmt.Sprintf("process %d has it open", d.cmd.Process.Pid); exit != 2 || out != "" || !hasAll(errs, []string{"state.db", holder}) {
		t.Errorf("exit code %d, want 2 and %q\n%s%s", exit, holder, out, errs)
	}
	if code := d.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("the first daemon ended with %d", code)
	}
	s.once(t)
}
