package memory_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/history"
	"github.com/kms-auditor/kms-auditor/internal/memory"
)

// BenchmarkReport10000 is what a command does that asks the state for the last report of ten thousand entries.
func BenchmarkReport10000(b *testing.B) {
	path := filepath.Join(b.TempDir(), "state.db")
	s, err := history.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	m, err := memory.New(s)
	if err != nil {
		b.Fatal(err)
	}
	r := report("drift", noon)
	t := &r.Chains[0].Targets[0]
	for i := range 10_000 {
		e := t.Entries[0]
		e.ID = fmt.Sprintf("0x%064x", i*i*7919)
		t.Entries = append(t.Entries, e)
	}
	if err := m.Keep(r, []audit.Tracked{}, nil); err != nil {
		b.Fatal(err)
	}
	s.Close()
	for b.Loop() {
		s, err := history.View(path)
		if err != nil {
			b.Fatal(err)
		}
		m, err := memory.New(s)
		if err != nil {
			b.Fatal(err)
		}
		if r, err := m.Report(); err != nil || len(r.Chains[0].Targets[0].Entries) != 10_001 {
			b.Fatal("the report is not there", err)
		}
	}
}
