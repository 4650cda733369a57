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

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/kmsapi"
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
		{"disagreeing entries come first, ids are short", "drift.txt", drift(), render.TextOptions{Width: 120}},
		{"columns are left out where the terminal is narrow", "drift-80.txt", drift(), render.TextOptions{Width: 80}},
		{"without a terminal nothing is cut", "drift-wide.txt", drift(), render.TextOptions{}},
		{"colours keep the columns aligned", "drift-color.txt", drift(), render.TextOptions{Color: true, Width: 120}},
		{"a complete look has no closing remark", "consistent.txt", consistent(), render.TextOptions{Width: 120}},
		{"a known event adds a column with block and actor", "backdoor.txt", backdoor(), render.TextOptions{Width: 160}},
		{"without a terminal time and transaction of the event are shown too", "backdoor-wide.txt", backdoor(), render.TextOptions{}},
		{"policy, control and accepted differences are shown where they are", "governed.txt", governed(), render.TextOptions{Width: 160}},
		{"what an earlier audit left open is told of with both its times", "outage.txt", outage(), render.TextOptions{Width: 120}},
		{"errors stand below the chain that they befell", "unknown.txt", unknown(), render.TextOptions{Width: 120}},
		{"foreign text is cut and cannot draw", "hostile.txt", hostile(), render.TextOptions{Width: 120}},
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
	findings := text(t, governed(), render.TextOptions{})
	if critical, warning := strings.LastIndex(findings, "\n  critical"), strings.Index(findings, "\n  warning"); critical > warning {
		t.Errorf("a warning stands before a critical finding:\n%s", findings)
	}
	_, got, _ = strings.Cut(got, "VERDICT")
	if critical, warning := strings.Index(got, "unlisted_chain_allowed"), strings.Index(got, "claim_allowed_chain_denied"); critical > warning {
		t.Errorf("a warning stands before what is critical:\n%s", got)
	}
}

// TestTablesFitTheTerminal: of 80 columns and of 120, and every id is in what is not for a terminal.
func TestTablesFitTheTerminal(t *testing.T) {
	at := common.HexToAddress(contract)
	kms := render.NewKMSList(&kmsapi.List{KMS: []kmsapi.KMS{{ID: "kc_1", Slug: "base-prod", Label: "Base mainnet", ChainID: 8453, Contract: &at, URL: "https://kms.base-prod5.phala.network", Version: "v0.5.6 (git:c5a3fd5f)"}}})
	long := past()
	for i := range long.Events {
		long.Events[i].Actor, long.Events[i].ID = owner, refused
	}
	for _, width := range []int{80, 100, 120} {
		for name, out := range map[string]string{
			"drift": text(t, drift(), render.TextOptions{Width: width}), "governed": text(t, governed(), render.TextOptions{Width: width}),
			"backdoor": text(t, backdoor(), render.TextOptions{Width: width, Color: true}),
			"kms":      fitted(t, kms, width, false), "history": fitted(t, long, width, false), "explain": fitted(t, explained(), width, false),
		} {
			for line := range strings.Lines(regexp.MustCompile(`\x1b\[[0-9]+m`).ReplaceAllString(out, "")) {
				copied := strings.HasPrefix(line, "  - {") || strings.Contains(line, "https://github.com/")
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width && !copied {
					t.Errorf("%s has %d columns, more than %d: %s", name, n, width, line)
				}
			}
		}
	}
	if wide := fitted(t, long, 120, false); !strings.Contains(wide, "CONTRACT") || strings.Contains(fitted(t, long, 80, false), "CONTRACT") {
		t.Errorf("120 columns are not used, or 80 have too many:\n%s", wide)
	}
	if whole := fitted(t, long, 0, false); strings.Contains(whole, "…") || !strings.Contains(whole, refused) || !strings.Contains(whole, owner) {
		t.Errorf("something is lost without a terminal:\n%s", whole)
	}
}

func TestColorChangesNothingButColor(t *testing.T) {
	plain, colored := text(t, drift(), render.TextOptions{Width: 80}), text(t, drift(), render.TextOptions{Color: true, Width: 80})
	if diff := cmp.Diff(plain, regexp.MustCompile(`\x1b\[[0-9]+m`).ReplaceAllString(colored, "")); diff != "" {
		t.Error(diff)
	}
}

func TestForeignTextIsPrintable(t *testing.T) {
	for _, width := range []int{0, 80} {
		r := hostile()
		r.Chains[0].Targets[0].Control = &audit.Control{Owner: evil, PendingOwner: evil, Implementation: evil, Code: footprint.Code{Accounts: []footprint.Account{{Address: evil, Role: footprint.Role(evil), CodeHash: evil}}}}
		got := text(t, r, render.TextOptions{Width: width})
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
