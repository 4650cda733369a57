package render_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

var update = flag.Bool("update", false, "rewrite the files of testdata")

func golden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func text(t *testing.T, r *audit.Report, opt render.TextOptions) string {
	t.Helper()
	var b bytes.Buffer
	if err := render.Text(&b, r, opt); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestText(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		report     *audit.Report
		opt        render.TextOptions
	}{
		{"disagreeing entries come first, ids are short", "drift.txt", drift(), render.TextOptions{}},
		{"wide shows ids and hashes whole", "drift-wide.txt", drift(), render.TextOptions{Wide: true}},
		{"colours keep the columns aligned", "drift-color.txt", drift(), render.TextOptions{Color: true}},
		{"a complete look has no closing remark", "consistent.txt", consistent(), render.TextOptions{}},
		{"a known event adds a column with block and actor", "backdoor.txt", backdoor(), render.TextOptions{}},
		{"wide shows time and transaction of the event too", "backdoor-wide.txt", backdoor(), render.TextOptions{Wide: true}},
		{"policy, control and accepted differences are shown where they are", "governed.txt", governed(), render.TextOptions{}},
		{"what an earlier audit left open is told of with both its times", "outage.txt", outage(), render.TextOptions{}},
		{"errors stand below the chain that they befell", "unknown.txt", unknown(), render.TextOptions{}},
		{"foreign text is cut and cannot draw", "hostile.txt", hostile(), render.TextOptions{}},
		{"a report of nothing is unknown", "empty.txt", report(audit.Unknown), render.TextOptions{}},
	} {
		t.Run(tt.name, func(t *testing.T) { golden(t, tt.file, text(t, tt.report, tt.opt)) })
	}
}

func TestTheClosingRemarkSaysWhatIsLeftOpen(t *testing.T) {
	for _, tt := range []struct {
		name   string
		levels []audit.Completeness
		want   []string
	}{
		{"nothing was looked for", []audit.Completeness{audit.Unchecked}, []string{"unchecked"}},
		{"events do not tell everything", []audit.Completeness{audit.EventsOnly}, []string{"events"}},
		{"some of it is missing", []audit.Completeness{audit.Incomplete}, []string{"incomplete"}},
		{"a proof leaves nothing open", []audit.Completeness{audit.Complete}, nil},
		{"each level is explained once", []audit.Completeness{audit.Incomplete, audit.Complete, audit.EventsOnly, audit.Incomplete}, []string{"events", "incomplete"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := base(audit.Consistent)
			for _, level := range tt.levels {
				c.Targets = append(c.Targets, audit.Target{Contract: contract, Completeness: level})
			}
			var got []string
			for _, m := range regexp.MustCompile(`(?m)^completeness ([a-z]+): .+`).FindAllStringSubmatch(text(t, report(audit.Consistent, c), render.TextOptions{}), -1) {
				got = append(got, m[1])
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCriticalEntriesComeFirst(t *testing.T) {
	r := backdoor()
	target := &r.Chains[0].Targets[0]
	target.Entries[0].Verdict, target.Entries[0].Kind, target.Entries[0].Severity = audit.Mismatch, audit.ClaimAllowedChainDenied, audit.Warning
	got := text(t, r, render.TextOptions{})
	_, got, _ = strings.Cut(got, "VERDICT")
	if critical, warning := strings.Index(got, "unlisted_chain_allowed"), strings.Index(got, "claim_allowed_chain_denied"); critical > warning {
		t.Errorf("a warning stands before what is critical:\n%s", got)
	}
}

func TestColorChangesNothingButColor(t *testing.T) {
	plain, colored := text(t, drift(), render.TextOptions{}), text(t, drift(), render.TextOptions{Color: true})
	if diff := cmp.Diff(plain, regexp.MustCompile(`\x1b\[[0-9]+m`).ReplaceAllString(colored, "")); diff != "" {
		t.Error(diff)
	}
}

func TestForeignTextIsPrintable(t *testing.T) {
	for _, wide := range []bool{false, true} {
		r := hostile()
		r.Chains[0].Targets[0].Control = &audit.Control{Owner: evil, PendingOwner: evil, Implementation: evil, Code: footprint.Code{Accounts: []footprint.Account{{Address: evil, Role: footprint.Role(evil), CodeHash: evil}}}}
		got := text(t, r, render.TextOptions{Wide: wide})
		if !utf8.ValidString(got) {
			t.Error("not UTF-8")
		}
		for _, r := range got {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("rune %U reaches the terminal", r)
			}
		}
		for line := range strings.Lines(got) {
			if len(line) > 1000 {
				t.Errorf("a line of %d bytes", len(line))
			}
		}
	}
}

type full struct{}

var errFull = errors.New("no space left")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestAFailingWriterIsAnError(t *testing.T) {
	if err := render.Text(full{}, drift(), render.TextOptions{}); !errors.Is(err, errFull) {
		t.Errorf("Text = %v, want %v", err, errFull)
	}
	if err := render.JSON(full{}, drift()); !errors.Is(err, errFull) {
		t.Errorf("JSON = %v, want %v", err, errFull)
	}
}
