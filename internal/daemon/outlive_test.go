package daemon_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/daemon"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/state"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// series of the world's one contract.
func series(name, labels string) string {
	return name + `{chain="base",contract="` + contract.Hex() + `"` + labels + `}`
}

// openSeries is that of the stranger, whom the API claims to be allowed.
var openSeries = series("open_finding", `,id="`+stranger.Hex()+`",kind="claim_allowed_chain_denied",list="device",severity="warning"`) + " 1\n"

// drifted is a world whose API claims too much, and a daemon's configuration with a state that has the finding.
func drifted(t *testing.T) (*world, string) {
	t.Helper()
	w := newWorld(t)
	w.claim(device, stranger)
	cfg := w.config(t)
	cfg.State = filepath.Join(t.TempDir(), "state.db")
	if r, _ := once(t, cfg); r.Verdict != audit.Drift {
		t.Fatalf("the first audit was %s", r.Verdict)
	}
	return w, cfg.State
}

// No audit of the new process ends, since the provider hangs.
func TestARestartShowsOpenFindingsAtOnce(t *testing.T) {
	for _, row := range []struct {
		sentence  string
		forgotten bool
	}{
		{"an open finding shows", false},
		{"one of a contract that was forgotten meanwhile does not", true},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			w, path := drifted(t)
			if row.forgotten {
				s, err := state.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Apply(state.Request{Kind: state.Forget, Chain: "base", Contract: contract}, nil); err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			w.proxy.Set(rpcfault.Hang)
			cfg := w.config(t)
			cfg.State = path
			d := serve(t, cfg, daemon.Options{Log: zap.NewNop()})
			_, page := get(t, d.url+"/metrics")
			if got := strings.Contains(page, "\nkms_auditor_"+openSeries); got == row.forgotten {
				t.Errorf("open_finding shows: %t", got)
			}
			if !strings.Contains(page, "\nkms_auditor_audits_total{chain=\"base\",verdict=\"drift\"} 0\n") {
				t.Error("an audit of the last process is counted")
			}
			if _, page := get(t, d.url+"/"); strings.Contains(page, "claim_allowed_chain_denied") == row.forgotten {
				t.Errorf("the page shows a finding that is open: %t", row.forgotten)
			}
			if status, _ := get(t, d.url+"/-/ready"); status == http.StatusOK {
				t.Error("the daemon is ready before an audit ended")
			}
			d.stop(t)
		})
	}
}

// An outage silences nothing, whether the daemon saw the finding itself or its last process did.
func TestAnOutageKeepsFindingsOpen(t *testing.T) {
	for _, row := range []struct {
		sentence string
		outage   func(*world)
	}{
		{"the API is down", func(w *world) { w.api.Fail(fakeapi.Fault{Name: fakeapi.HTML}) }},
		{"the provider is down", func(w *world) { w.proxy.Set(rpcfault.Status(401, "")) }},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			w, path := drifted(t)
			cfg := w.config(t)
			cfg.State = path
			core, logs := observer.New(zapcore.DebugLevel)
			first := serve(t, cfg, daemon.Options{Log: zap.New(core)})
			confirmed := first.until(t, audit.Drift).Chains[0].Targets[0].Findings[0]
			row.outage(w)
			for _, d := range []*server{first, nil} {
				if d == nil {
					first.stop(t)
					d = serve(t, cfg, daemon.Options{Log: zap.New(core)})
				}
				r := d.until(t, audit.Unknown)
				f := r.Chains[0].Targets[0].Findings
				if len(f) != 1 || f[0].State != audit.Still || f[0].ID != stranger.Hex() || !f[0].FirstSeen.Equal(*confirmed.FirstSeen) || f[0].LastConfirmedAt.Before(*confirmed.LastConfirmedAt) {
					t.Errorf("the findings are %+v, and before the outage %+v", f, confirmed)
				}
				if !metric(t, d, openSeries) {
					t.Error("open_finding is gone")
				}
				if first != d {
					d.stop(t)
				}
			}
			if got := findings(logs); len(got) > 0 {
				t.Errorf("logged %q of a finding that nothing became of", got)
			}
		})
	}
}

// The API no longer lists the contract, and later the operator forgets it.
func TestAContractIsAuditedUntilItIsForgotten(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(t)
	cfg.State = filepath.Join(t.TempDir(), "state.db")
	core, logs := observer.New(zapcore.DebugLevel)
	d := serve(t, cfg, daemon.Options{Log: zap.New(core)})
	d.until(t, audit.Consistent)

	w.api.Set(fakeapi.Chain{ChainName: "base", ChainID: 8453})
	target := d.until(t, audit.Drift).Chains[0].Targets[0]
	var kinds []audit.Kind
	for _, f := range target.Findings {
		kinds = append(kinds, f.Kind)
	}
	if diff := cmp.Diff([]audit.Kind{audit.UnlistedChainAllowed, audit.ContractNotListed}, kinds); diff != "" || target.Contract != contract.Hex() || target.Assurance != audit.Proven {
		t.Errorf("a contract that the API hides is judged as %+v", target)
	}

	at := time.Now().UTC()
	forget := state.Request{Kind: state.Forget, Chain: "base", Contract: contract, At: at, By: "alice"}
	if err := state.Enqueue(cfg.State, forget); err != nil {
		t.Fatal(err)
	}
	for r := d.until(t, audit.Unknown); len(r.Chains[0].Targets) > 0; r = d.until(t, audit.Unknown) {
	}
	if got := strings.Join(findings(logs), ", "); got != "opened, opened, resolved, resolved" {
		t.Errorf("logged %s", got)
	}
	if _, page := get(t, d.url+"/metrics"); strings.Contains(page, contract.Hex()) {
		t.Errorf("series of the contract are left:\n%s", page)
	}
	d.stop(t)
	s := view(t, cfg.State)
	want := []string{"contract " + contract.Hex() + " forgotten by alice at " + at.Format(time.RFC3339)}
	var got []string
	for _, e := range s.Timeline(state.Filter{Lists: []string{state.Contracts}}).Events {
		got = append(got, e.List+" "+e.ID+" "+e.Change+" by "+e.Actor+" at "+e.Time.Format(time.RFC3339))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the timeline: %s", diff)
	}
	if p := s.Prior("base"); len(p.Contracts)+len(p.Open) > 0 {
		t.Errorf("the state knows %+v", p)
	}
}

// The pinned block lags behind a head that agrees with the API. If a reload restarted the time, it would be pending forever.
func TestAReloadKeepsPendingTimes(t *testing.T) {
	w := newWorld(t)
	if err := w.kms.AllowDevice(t.Context(), stranger); err != nil {
		t.Fatal(err)
	}
	w.claim(device, stranger)
	cfg := w.config(t)
	behind, err := ethrpc.ParseBlockTag("latest-1")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Chains[0].Block = []ethrpc.BlockTag{behind}
	cfg.PendingMax = 2 * time.Second
	d, _, _, _ := reloadable(t, cfg)
	began := time.Now()
	pending := d.until(t, audit.Consistent).Chains[0].Targets[0].Counts.Pending
	if pending != 1 {
		t.Errorf("%d entries are pending", pending)
	}
	for {
		if status, answer := d.reload(t); status != http.StatusOK {
			t.Fatalf("%d %s", status, answer)
		}
		r := <-d.reports
		if r.Verdict == audit.Drift {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("after %s of %s it is %s still", time.Since(began), cfg.PendingMax, r.Verdict)
		}
	}
	if took := time.Since(began); took < cfg.PendingMax {
		t.Errorf("it is drift after %s", took)
	}
	d.stop(t)
}

// The configuration gives the chain's name to another chain while an audit hangs. What that audit saw is of the old one.
func TestAnotherChainOfTheSameNameTakesNoMemory(t *testing.T) {
	w := newWorld(t)
	other, err := testchain.Start(testchain.Options{ChainID: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	release := make(chan struct{})
	w.proxy.Set(rpcfault.Fault{HTTP: func(http.ResponseWriter, *http.Request, []rpcfault.Call, bool) bool {
		<-release
		return false
	}})
	d, f, _, _ := reloadable(t, w.config(t))
	for waiting := map[string]bool{calledAPI: true, calledProvider: true}; len(waiting) > 0; {
		delete(waiting, <-w.events)
	}
	now := f.Load().cfg
	now.Chains = slices.Clone(now.Chains)
	now.Chains[0].ChainID = 1
	now.Chains[0].Providers = []ethrpc.Provider{{Name: "local", URL: sanitize.NewSecret(other.URL()), Timeout: time.Minute}}
	f.Store(&file{cfg: now})
	if status, answer := d.reload(t); status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	w.api.Set(fakeapi.Chain{ChainName: "base", ChainID: 1})
	close(release)
	r := d.until(t, audit.Unknown)
	if c := r.Chains[0]; c.ChainID != 1 || len(c.Targets) > 0 {
		t.Errorf("chain %d has the contracts of another: %+v", c.ChainID, c.Targets)
	}
	d.stop(t)
}

// A configuration that cannot be wired names another chain before the one that is wrong.
func TestARefusedReloadForgetsNothing(t *testing.T) {
	w, path := drifted(t)
	known := view(t, path).Prior("base").Contracts
	cfg := w.config(t)
	cfg.State = path
	d, f, _, _ := reloadable(t, cfg)
	d.until(t, audit.Drift)
	bad := f.Load().cfg
	bad.Chains = slices.Concat(bad.Chains, bad.Chains)
	bad.Chains[0].ChainID = 1
	bad.Chains[1].Name, bad.Chains[1].Providers = "other", nil
	f.Store(&file{cfg: bad})
	if status, answer := d.reload(t); status != http.StatusBadRequest {
		t.Errorf("%d %s", status, answer)
	}
	d.until(t, audit.Drift)
	d.until(t, audit.Drift)
	d.stop(t)
	if diff := cmp.Diff(known, view(t, path).Prior("base").Contracts); diff != "" {
		t.Errorf("the state knows other contracts: %s", diff)
	}
}

// A folder is in the place of the file that a snapshot is written to first.
func TestAStateThatCannotBeWrittenStopsNothing(t *testing.T) {
	w, path := drifted(t)
	before := view(t, path).Report()
	if err := os.Mkdir(path+".tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	w.claim(device)
	cfg := w.config(t)
	cfg.State = path
	core, logs := observer.New(zapcore.DebugLevel)
	d := serve(t, cfg, daemon.Options{Log: zap.New(core)})
	for range 3 {
		d.until(t, audit.Consistent)
	}
	if metric(t, d, `writes_total{file="state",result="failed"} 0`) || logs.FilterMessage("state not written").Len() == 0 {
		t.Errorf("nobody is told: %v", logs.All())
	}
	if got := strings.Join(findings(logs), ", "); got != "resolved" {
		t.Errorf("logged %q", got)
	}
	if d := cmp.Diff(before, view(t, path).Report()); d != "" {
		t.Errorf("the file is not what it was: %s", d)
	}
	if err := os.Remove(path + ".tmp"); err != nil {
		t.Fatal(err)
	}
	d.eventually(t, "the state is written again", func() bool { return len(view(t, path).Resolved()) == 1 })
	d.stop(t)
}

// What an earlier process found consistent is not consistent before this one has compared anything.
func TestARestartIsNotConsistentBeforeAnAudit(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(t)
	cfg.State = filepath.Join(t.TempDir(), "state.db")
	mainnet, _ := consensus.ByChainID(1)
	cfg.Chains[0].Anchor = &config.Anchor{Network: mainnet, Checkpoint: stranger, Beacon: []anchor.Endpoint{{Name: "down", URL: sanitize.NewSecret("http://127.0.0.1:1"), Timeout: time.Second}}}
	if r, _ := once(t, cfg); r.Verdict != audit.Consistent {
		t.Fatalf("the first audit was %s", r.Verdict)
	}
	w.proxy.Set(rpcfault.Hang)
	d := serve(t, cfg, daemon.Options{Log: zap.NewNop()})
	defer d.stop(t)
	if status, report := get(t, d.url+"/api/v1/report"); status != http.StatusOK || !strings.Contains(report, `"verdict": "unknown"`) || strings.Contains(report, `"verdict": "consistent"`) {
		t.Errorf("%d: %s", status, report)
	}
	_, page := get(t, d.url+"/metrics")
	for _, want := range []string{series("target_verdict", `,verdict="unknown"`) + " 1\n", `anchored_block_timestamp_seconds{chain="base",trust="consensus"} 0`} {
		if !strings.Contains(page, "\nkms_auditor_"+want) {
			t.Errorf("no %s in %s", want, page)
		}
	}
}
