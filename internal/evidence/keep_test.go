package evidence_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
)

func TestWhatKeepRemoves(t *testing.T) {
	outage := "1! 2!"
	for second := range 56 {
		outage += fmt.Sprint(" ", second+3)
	}
	for _, row := range []struct {
		sentence      string
		changes, last int
		audits        string // by the second of their clock; ! is one that changed something, and @ says since when a finding is open
		want          string
	}{
		{"the oldest goes", 1, 3, "1 2 3 4", "2 3 4"},
		{"what changed something outlives what came later", 1, 2, "1! 2 3 4 5", "1! 4 5"},
		{"an outage removes no evidence of the drift before it", 2, 2, outage, "1! 2! 57 58"},
		{"the oldest change goes where there are newer ones", 2, 1, "1! 2! 3! 4", "2! 3! 4"},
		{"a change is one of the last too", 1, 2, "1! 2 3!", "2 3!"},
		{"changes alone take no more room than their number", 3, 2, "1! 2! 3! 4! 5!", "3! 4! 5!"},
		{"the last are kept where there are fewer changes than that", 1, 3, "1! 2! 3!", "1! 2! 3!"},
		{"what is from before the clock was set back is older", 1, 3, "7 8 9 1 2", "1 2 9"},
		{"all of that in time", 1, 3, "7 8 9 1 2 3 4", "2 3 4"},
		{"what first showed a finding that is open stays", 1, 1, "1!@1 2!@1 3!@1 4@1", "1! 3! 4"},
		{"it goes when the finding is over", 1, 1, "1!@1 2!@1 3! 4! 5", "4! 5"},
		{"of more than there is room for the oldest stay", 1, 1, "1!@1 2!@1,2 3!@1,2,3 4!@1,2,3 5@1,2,3", "1! 4! 5"},
		{"a change from before the clock was set back is older too", 1, 1, "7! 8 1! 2", "1! 2"},
	} {
		dir := t.TempDir()
		for text := range strings.SplitSeq(row.audits, " ") {
			text, opened, _ := strings.Cut(text, "@")
			second, changed := strings.CutSuffix(text, "!")
			at, err := time.Parse("5", second)
			must(t, err)
			var found []audit.Finding
			for since := range strings.FieldsFuncSeq(opened, func(r rune) bool { return r == ',' }) {
				first, err := time.Parse("5", since)
				must(t, err)
				first = first.Add(time.Microsecond)
				found = append(found, audit.Finding{FirstSeen: &first})
			}
			chains := []audit.Chain{{Targets: []audit.Target{{Findings: found}}}}
			must(t, evidence.Keep(dir, evidence.Rotation{KeepChanges: row.changes, KeepLast: row.last}, changed, &evidence.File{Report: &audit.Report{StartedAt: at, AuditID: "A", Chains: chains}}))
		}
		var got []string
		for _, name := range fileNames(t, dir) {
			at, mark, _ := strings.Cut(strings.TrimPrefix(name, "evidence-00000101T0000"), ".000Z-A")
			got = append(got, strings.TrimPrefix(at, "0")+map[string]string{".json.gz": "!", "-unchanged.json.gz": ""}[mark])
		}
		if diff := cmp.Diff(row.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s: %s", row.sentence, diff)
		}
	}
}

// TestWhatKeepFinds has one file in the folder, and keeps two audits of which one may stay.
func TestWhatKeepFinds(t *testing.T) {
	for _, row := range []struct {
		sentence, name string
		age            time.Duration
		stays          bool
	}{
		{"a file of an earlier release is taken for a change", "evidence-20250102T030405.678Z-ABCDEFGHIJKLMNOPQRSTUVWXYZ.json.gz", 0, true},
		{"one that changed nothing goes", "evidence-20250102T030405.678Z-ABCDEFGHIJKLMNOPQRSTUVWXYZ-unchanged.json.gz", 0, false},
		{"a file that another process is writing stays", ".evidence-1234", 10 * time.Minute, true},
		{"one that a killed process was writing does not", ".evidence-1234", 2 * time.Hour, false},
		{"somebody's copy stays", "evidence-20250102T030405.678Z-ABC-unchanged (1).json.gz", 2 * time.Hour, true},
		{"evidence that somebody named stays", "evidence-of-the-incident-unchanged.json.gz", 2 * time.Hour, true},
		{"a hidden file of somebody stays", ".evidence-notes", 2 * time.Hour, true},
	} {
		dir, at := t.TempDir(), time.Now().Add(-row.age)
		path := filepath.Join(dir, row.name)
		must(t, os.WriteFile(path, nil, 0o600))
		must(t, os.Chtimes(path, at, at))
		for range 2 {
			at = at.Add(time.Second)
			must(t, evidence.Keep(dir, evidence.Rotation{KeepChanges: 1, KeepLast: 1}, false, &evidence.File{Report: &audit.Report{StartedAt: at, AuditID: "A"}}))
		}
		if stays := slices.Contains(fileNames(t, dir), row.name); stays != row.stays {
			t.Errorf("%s: it stays is %t", row.sentence, stays)
		}
	}
}

func fileNames(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}
