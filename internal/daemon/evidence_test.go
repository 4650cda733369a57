package daemon_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/daemon"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
)

func TestTheDaemonKeepsEvidence(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(t)
	cfg.Evidence = config.Evidence{Dir: t.TempDir(), KeepChanges: 1, KeepLast: 2}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	audits := 0
	var last *audit.Report
	a, err := daemon.New(cfg, daemon.Options{Log: zap.NewNop(), Reported: func(r *audit.Report, _ []audit.Change) {
		last = r
		if audits++; audits == 4 {
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
	kept, err := filepath.Glob(filepath.Join(cfg.Evidence.Dir, "*"))
	if err != nil || len(kept) != 3 {
		t.Fatalf("kept %q, %v; want the first and the last two", kept, err)
	}
	r, err := os.Open(kept[2])
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f, err := evidence.Decode(r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := evidence.Verify(t.Context(), f, nil)
	if err != nil || got.Report.AuditID != last.AuditID {
		t.Errorf("the newest evidence gives %v, %v; want the last audit, %s", got, err, last.AuditID)
	}
}

// TestWhichAuditsChangeSomething follows the names of the files from audit to audit.
func TestWhichAuditsChangeSomething(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(t)
	cfg.Evidence = config.Evidence{Dir: t.TempDir(), KeepChanges: 100, KeepLast: 100}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	steps := []struct {
		sentence string
		before   func()
		changed  bool
	}{
		{"the first audit", func() {}, true},
		{"an audit that finds the same", func() {}, false},
		{"one that finds drift", func() { w.claim(device, stranger) }, true},
		{"one that finds the same drift", func() {}, false},
		{"one that finds another difference too", func() { w.claim(device, stranger, common.Hash{1}) }, true},
		{"one that fails", func() { w.api.Fail(fakeapi.Fault{Name: fakeapi.HTML}) }, true},
		{"one that fails again", func() {}, false},
		{"one that finds the same drift as before it failed", w.api.ClearFault, true},
		{"one that finds everything right", func() { w.claim(device) }, true},
	}
	var audits []string
	a, err := daemon.New(cfg, daemon.Options{Log: zap.NewNop(), Reported: func(r *audit.Report, _ []audit.Change) {
		if audits = append(audits, r.AuditID); len(audits) < len(steps) {
			steps[len(audits)].before()
		} else {
			cancel()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Serve(ctx, nil); err != nil || len(audits) != len(steps) {
		t.Fatalf("%d audits, %v", len(audits), err)
	}
	for i, row := range steps {
		mark := map[bool]string{true: "", false: "-unchanged"}[row.changed]
		if kept, err := filepath.Glob(filepath.Join(cfg.Evidence.Dir, "evidence-*Z-"+audits[i]+mark+".json.gz")); err != nil || len(kept) != 1 {
			t.Errorf("%s: want one file with the mark %q, got %q, %v", row.sentence, mark, kept, err)
		}
	}
}

// TestEvidenceOfAKnownFinding verifies reports with first_seen of an earlier audit.
func TestEvidenceOfAKnownFinding(t *testing.T) {
	w := newWorld(t)
	w.claim(device, stranger)
	cfg := w.config(t)
	cfg.State = filepath.Join(t.TempDir(), "state.db")
	for range 2 {
		a, err := daemon.New(cfg, daemon.Options{Log: zap.NewNop(), Once: true, Evidence: true})
		if err != nil {
			t.Fatal(err)
		}
		r := a.Once(t.Context())
		f, err := a.Evidence(r)
		if err != nil {
			t.Fatal(err)
		}
		if r.Chains[0].Targets[0].Findings[0].FirstSeen == nil {
			t.Error("the report does not tell since when")
		}
		if _, err := evidence.Verify(t.Context(), f, nil); err != nil {
			t.Error(err)
		}
		a.Close()
	}
}

func TestEvidenceThatCannotBeKeptStopsNothing(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(t)
	cfg.Evidence = config.Evidence{Dir: filepath.Join(t.TempDir(), "evidence"), KeepChanges: 1, KeepLast: 1}
	core, logs := observer.New(zapcore.ErrorLevel)
	d := serve(t, cfg, daemon.Options{Log: zap.New(core)})
	defer d.stop(t)
	d.eventually(t, "the failure is counted", func() bool { return !metric(t, d, `writes_total{file="evidence",result="failed"} 0`) })
	if r := <-d.reports; r.Verdict != audit.Consistent {
		t.Errorf("the verdict is %s", r.Verdict)
	}
	if all := logs.FilterMessage("evidence not written").All(); len(all) == 0 || all[0].ContextMap()["audit_id"] == "" {
		t.Errorf("logged %v", logs.All())
	}
	if err := os.Mkdir(cfg.Evidence.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d.eventually(t, "evidence is kept again", func() bool { return !metric(t, d, `writes_total{file="evidence",result="ok"} 0`) })
	if kept, err := filepath.Glob(filepath.Join(cfg.Evidence.Dir, "evidence-*Z-??????????????????????????.json.gz")); err != nil || len(kept) != 1 {
		t.Errorf("kept %q, %v; want one file in place of the first audit's, which changed something", kept, err)
	}
}
