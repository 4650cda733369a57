package daemon_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/daemon"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/state"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// findings are the events of findings that were logged.
func findings(logs *observer.ObservedLogs) (events []string) {
	for _, e := range logs.All() {
		if event, _ := e.ContextMap()["event"].(string); strings.HasPrefix(event, "finding_") {
			events = append(events, strings.TrimPrefix(event, "finding_"))
		}
	}
	return events
}

// once audits once, in a Daemon of its own.
func once(t *testing.T, cfg *config.Config) (*audit.Report, []string) {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	a, err := daemon.New(cfg, daemon.Options{Log: zap.New(core), Once: true})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	return a.Once(t.Context()), findings(logs)
}

// audits lets a daemon audit n times, in a Daemon of its own.
func audits(t *testing.T, cfg *config.Config, n int) (*audit.Report, []string) {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var last *audit.Report
	a, err := daemon.New(cfg, daemon.Options{Log: zap.New(core), Reported: func(r *audit.Report, _ []audit.Change) {
		last = r
		if n--; n == 0 {
			cancel()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Serve(ctx, nil); err != nil {
		t.Fatal(err)
	}
	return last, findings(logs)
}

func TestFindingsOutliveDaemonAndOnce(t *testing.T) {
	w := newWorld(t)
	w.claim(device, stranger)
	cfg := w.config(t)
	cfg.State = filepath.Join(t.TempDir(), "state.db")
	serving := func() (*audit.Report, []string) { return audits(t, cfg, 2) }
	single := func() (*audit.Report, []string) { return once(t, cfg) }
	past := func() (*audit.Report, []string) {
		old := *cfg
		old.Chains = slices.Clone(cfg.Chains)
		old.Chains[0].Block = []ethrpc.BlockTag{ethrpc.AtNumber(0)}
		return once(t, &old)
	}
	forgetful := func() (*audit.Report, []string) {
		none := *cfg
		none.State = ""
		return once(t, &none)
	}
	var first time.Time
	for _, row := range []struct {
		sentence string
		audit    func() (*audit.Report, []string)
		agree    bool // the API and the contract
		logged   string
	}{
		{"one audit opens it", single, false, "opened"},
		{"another knows it", single, false, ""},
		{"a daemon knows it too", serving, false, ""},
		{"a look at the past tells all and changes nothing", past, true, ""},
		{"without a state nothing is known", forgetful, false, "open"},
		{"it was resolved while no daemon ran", serving, true, "resolved"},
		{"nothing is left", single, true, ""},
	} {
		if w.claim(device, stranger); row.agree {
			w.claim(device)
		}
		r, logged := row.audit()
		if d := cmp.Diff(row.logged, strings.Join(logged, ", ")); d != "" {
			t.Errorf("%s: %s", row.sentence, d)
		}
		if row.agree || row.logged == "open" {
			continue
		}
		f := r.Chains[0].Targets[0].Findings
		if row.logged == "opened" {
			first = *f[0].FirstSeen
		}
		if len(f) != 1 || f[0].FirstSeen == nil || !f[0].FirstSeen.Equal(first) {
			t.Errorf("%s: it was first seen at %v, want %s", row.sentence, f[0].FirstSeen, first)
		}
	}
	s := view(t, cfg.State)
	if r, open := s.Report(), s.Prior("base").Open; r.Verdict != audit.Consistent || len(s.Resolved()) != 1 || len(open) != 0 {
		t.Errorf("the state knows %+v, %+v, %v", r, s.Resolved(), open)
	}
}

// view reads the state file as another process does.
func view(t *testing.T, path string) *state.State {
	t.Helper()
	s, err := state.View(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestAChainInThePastTakesNobodysMemory audits one chain at its head, and another, which differs, at an old block.
func TestAChainInThePastTakesNobodysMemory(t *testing.T) {
	w := newWorld(t)
	other, err := testchain.Start(testchain.Options{ChainID: 1, Preload: []testchain.Preload{{Address: contract}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	yes := true
	w.api.Set(fakeapi.Chain{ChainName: "ethereum", ChainID: 1, Contracts: []fakeapi.Contract{{
		Address: contract.Hex(), ChainID: 1, ChainName: "ethereum", Devices: []fakeapi.Device{{ID: stranger.Hex(), Allowed: &yes}},
	}}})
	cfg := w.config(t)
	cfg.State = filepath.Join(t.TempDir(), "state.db")
	past := cfg.Chains[0]
	past.Name, past.ChainID, past.Block = "ethereum", 1, []ethrpc.BlockTag{ethrpc.AtNumber(0)}
	past.Providers = []ethrpc.Provider{{Name: "local", URL: sanitize.NewSecret(other.URL()), Timeout: time.Minute}}
	cfg.Chains = append(cfg.Chains, past)
	transfer := func() error { return w.kms.TransferOwnership(t.Context(), testchain.Key("stranger")) }
	single := func() (*audit.Report, []string) { return once(t, cfg) }
	for _, row := range []struct {
		sentence string
		change   func() error
		audit    func() (*audit.Report, []string)
		finds    string // on base
		logged   string
	}{
		{"the first audit knows nobody else", nil, single, "", "open"},
		{"another owner is a change", transfer, single, "owner_changed", "opened, open"},
		{"which is remembered", nil, single, "owner_changed", "open"},
		{"by a daemon too, which tells once of the past", nil, func() (*audit.Report, []string) { return audits(t, cfg, 3) }, "owner_changed", "opened"},
	} {
		if row.change != nil {
			if err := row.change(); err != nil {
				t.Fatal(err)
			}
		}
		r, logged := row.audit()
		finds := ""
		for _, f := range r.Chains[0].Targets[0].Findings {
			if finds += string(f.Kind); f.FirstSeen == nil {
				t.Errorf("%s: nobody knows since when", row.sentence)
			}
		}
		if finds != row.finds || strings.Join(logged, ", ") != row.logged {
			t.Errorf("%s: found %q and logged %q, want %q and %q", row.sentence, finds, logged, row.finds, row.logged)
		}
	}
	s := view(t, cfg.State)
	if last, open := s.Last(), s.Prior("base").Open; len(last) != 1 || last[0].Chain.Chain != "base" || len(open) != 1 {
		t.Errorf("the state knows the audits %+v and the findings %+v", last, open)
	}
	if all := s.Controlled(); len(all) != 1 || all[0].Target.Chain != "base" || all[0].Baseline == nil {
		t.Errorf("the state knows who controls %+v", all)
	}
	if d := cmp.Diff(audit.Prior{}, s.Prior("ethereum")); d != "" {
		t.Errorf("the state remembers the past: %s", d)
	}
}

// TestRequestsAreTaken leaves a request that cannot be fulfilled: no audit has seen such a contract.
func TestRequestsAreTaken(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(t)
	cfg.State = filepath.Join(t.TempDir(), "state.db")
	for _, row := range []struct {
		sentence, content, want string
	}{
		{"a request", "", "request refused: accepting the baseline of " + state.Target{Chain: "base", Contract: contract}.String() + ": no audit has seen it"},
		{"nonsense", "[]", "requests not processed: reading requests from"},
	} {
		path := state.RequestPath(cfg.State)
		if err := state.Enqueue(cfg.State, state.Request{Kind: state.Accept, Chain: "base", Contract: contract}); err != nil {
			t.Fatal(err)
		}
		if row.content != "" {
			if err := os.WriteFile(path, []byte(row.content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		core, logs := observer.New(zapcore.ErrorLevel)
		d, err := daemon.New(cfg, daemon.Options{Log: zap.New(core), Once: true})
		if err != nil {
			t.Fatal(err)
		}
		d.Once(t.Context())
		d.Close()
		all := logs.All()
		if len(all) != 1 || !strings.HasPrefix(all[0].Message+": "+fmt.Sprint(all[0].ContextMap()["error"]), row.want) {
			t.Errorf("%s: logged %v, want %s", row.sentence, all, row.want)
		}
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s is still there (%v)", row.sentence, err)
		}
	}
}

func TestAStateOfNonsenseIsRefused(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(t)
	cfg.State = filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(cfg.State, []byte("findings: []"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the file is given free again
		if _, err := daemon.New(cfg, daemon.Options{Log: zap.NewNop()}); err == nil || !strings.HasPrefix(err.Error(), "state file "+cfg.State+" is not a state file of kms-auditor") {
			t.Errorf("the error is %v", err)
		}
	}
}

// TestAKillBetweenStateAndLogLosesNoEvent has a state that was written just before its process was killed.
func TestAKillBetweenStateAndLogLosesNoEvent(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(t)
	cfg.State = filepath.Join(t.TempDir(), "state.db")
	w.claim(device, stranger)
	r, _ := once(t, cfg)
	s, err := state.Open(cfg.State)
	if err != nil {
		t.Fatal(err)
	}
	s.Record(r, nil, []audit.Change{{Type: audit.Opened, Chain: "base", Finding: r.Chains[0].Targets[0].Findings[0]}})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		sentence, want string
		audit          func() []string
	}{
		{"the next process tells of it, before its own audit", "opened, resolved", func() []string { _, events := audits(t, cfg, 1); return events }},
		{"the one after that does not", "", func() []string { _, events := once(t, cfg); return events }},
	} {
		w.claim(device)
		if d := cmp.Diff(row.want, strings.Join(row.audit(), ", ")); d != "" {
			t.Errorf("%s: %s", row.sentence, d)
		}
	}
}

// The contract trusts a device that no event names, and nothing is proven: once the API lists it no more, only the finding
// knows of it.
func TestWhatTheAPIHidesOfAFindingIsAskedForStill(t *testing.T) {
	w := newWorld(t)
	w.proxy.Set(rpcfault.Refuse("eth_getProof", -32601, "not on this plan"))
	cfg := w.config(t)
	cfg.State = filepath.Join(t.TempDir(), "state.db")
	no := false
	for _, row := range []struct {
		sentence string
		list     []common.Hash // as denied
		change   func() error
		verdict  audit.Verdict
		events   string
	}{
		{"the API says denied", []common.Hash{device, stranger}, nil, audit.Drift, "opened"},
		{"the API lists it no more", []common.Hash{stranger}, nil, audit.Drift, "opened, resolved"}, // it is another finding now
		{"as before", []common.Hash{stranger}, nil, audit.Drift, ""},
		{"the contract refuses it", []common.Hash{stranger}, func() error { return w.kms.RemoveDevice(t.Context(), device) }, audit.Consistent, "resolved"},
	} {
		w.claim()
		w.api.Update("base", func(c *fakeapi.Chain) {
			for _, d := range row.list {
				c.Contracts[0].Devices = append(c.Contracts[0].Devices, fakeapi.Device{ID: d.Hex(), Allowed: &no})
			}
		})
		if row.change != nil {
			if err := row.change(); err != nil {
				t.Fatal(err)
			}
		}
		r, events := once(t, cfg)
		if got := strings.Join(events, ", "); r.Verdict != row.verdict || got != row.events {
			t.Errorf("%s: %s and %q, want %s and %q", row.sentence, r.Verdict, got, row.verdict, row.events)
		}
	}
}

// An accepted difference that matches nothing names an unknown id: its answer must not be missed.
func TestAnAcceptOfNoUseMakesNothingUnknown(t *testing.T) {
	w := newWorld(t)
	w.proxy.Set(rpcfault.Refuse("eth_getProof", -32601, "not on this plan"))
	cfg := w.config(t)
	cfg.Accept = []config.Exception{{Chain: "base", Exception: audit.Exception{
		Contract: contract, List: audit.Device, ID: stranger.Hex(), Kind: audit.ClaimAllowedChainDenied, Expires: time.Now().Add(time.Hour),
	}}}
	if r, events := audits(t, cfg, 3); r.Verdict != audit.Consistent || strings.Join(events, ", ") != "opened" {
		t.Errorf("%s and %q", r.Verdict, events)
	}
}
