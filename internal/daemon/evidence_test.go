package daemon_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/app"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
)

func TestTheDaemonKeepsEvidence(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(t)
	cfg.EvidenceDir, cfg.EvidenceKeep = t.TempDir(), 2
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	audits := 0
	var last *audit.Report
	a, err := app.New(cfg, app.Options{Log: zap.NewNop(), Reported: func(r *audit.Report, _ []audit.Change) {
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
	kept, err := filepath.Glob(filepath.Join(cfg.EvidenceDir, "*"))
	if err != nil || len(kept) != 2 {
		t.Fatalf("kept %q, %v; want two files", kept, err)
	}
	r, err := os.Open(kept[1])
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f, err := evidence.Decode(r)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := evidence.Verify(t.Context(), f)
	if err != nil || got.AuditID != last.AuditID {
		t.Errorf("the newest evidence gives %v, %v; want the last audit, %s", got, err, last.AuditID)
	}
}

// TestEvidenceOfAKnownFinding verifies reports that tell since when their finding is known.
func TestEvidenceOfAKnownFinding(t *testing.T) {
	w := newWorld(t)
	w.claim(device, stranger)
	cfg := w.config(t)
	cfg.State = filepath.Join(t.TempDir(), "state.db")
	for range 2 {
		a, err := app.New(cfg, app.Options{Log: zap.NewNop(), Once: true, Evidence: true})
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
		if _, _, err := evidence.Verify(t.Context(), f); err != nil {
			t.Error(err)
		}
		a.Close()
	}
}

func TestEvidenceThatCannotBeKeptStopsNothing(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(t)
	cfg.EvidenceDir, cfg.EvidenceKeep = filepath.Join(t.TempDir(), "evidence"), 2
	core, logs := observer.New(zapcore.ErrorLevel)
	d := serve(t, cfg, app.Options{Log: zap.New(core)})
	defer d.stop(t)
	d.eventually(t, "the failure is counted", func() bool { return !metric(t, d, `writes_total{file="evidence",result="failed"} 0`) })
	if r := <-d.reports; r.Verdict != audit.Consistent {
		t.Errorf("the verdict is %s", r.Verdict)
	}
	if all := logs.FilterMessage("keeping evidence").All(); len(all) == 0 || all[0].ContextMap()["audit_id"] == "" {
		t.Errorf("logged %v", logs.All())
	}
	if err := os.Mkdir(cfg.EvidenceDir, 0o700); err != nil {
		t.Fatal(err)
	}
	d.eventually(t, "evidence is kept again", func() bool { return !metric(t, d, `writes_total{file="evidence",result="ok"} 0`) })
}
