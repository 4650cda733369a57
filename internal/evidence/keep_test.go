package evidence_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
)

func TestWhatKeepRemoves(t *testing.T) {
	const killed = ".evidence-1234"
	for _, row := range []struct {
		sentence string
		audits   string // by the second of their clock
		left     time.Duration
		want     string
	}{
		{"the oldest goes", "1 2 3 4", 0, "2 3 4"},
		{"what is from before the clock was set back is older", "7 8 9 1 2", 0, "1 2 9"},
		{"all of that in time", "7 8 9 1 2 3 4", 0, "2 3 4"},
		{"a file that another process is writing stays", "1", 10 * time.Minute, "1 unfinished"},
		{"one that a killed process was writing does not", "1", 2 * time.Hour, "1"},
	} {
		dir := t.TempDir()
		if row.left > 0 {
			at := time.Now().Add(-row.left)
			must(t, os.WriteFile(filepath.Join(dir, killed), nil, 0o600))
			must(t, os.Chtimes(filepath.Join(dir, killed), at, at))
		}
		for second := range strings.SplitSeq(row.audits, " ") {
			at, err := time.Parse("5", second)
			must(t, err)
			must(t, evidence.Keep(dir, 3, &evidence.File{Report: &audit.Report{StartedAt: at, AuditID: "A"}}))
		}
		entries, err := os.ReadDir(dir)
		must(t, err)
		var got, unfinished []string
		for _, e := range entries {
			if e.Name() == killed {
				unfinished = []string{"unfinished"}
			} else {
				got = append(got, e.Name()[len("evidence-00000101T00000"):][:1])
			}
		}
		if diff := cmp.Diff(row.want, strings.Join(append(got, unfinished...), " ")); diff != "" {
			t.Errorf("%s: %s", row.sentence, diff)
		}
	}
}
