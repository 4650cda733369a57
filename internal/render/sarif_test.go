package render_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

func asSARIF(t *testing.T, r *audit.Report, config string) string {
	t.Helper()
	var b bytes.Buffer
	if err := render.SARIF(&b, r, config); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// sarifRun is what the tests read of a run.
type sarifRun struct {
	Tool struct {
		Driver struct {
			Version, SemanticVersion string
			Rules                    []struct {
				ID, HelpURI          string
				ShortDescription     struct{ Text string }
				DefaultConfiguration struct{ Level string }
			}
		}
	}
	Invocations []struct {
		ExecutionSuccessful        bool
		ToolExecutionNotifications []struct {
			Level   string
			Message struct{ Text string }
		}
	}
	Results []struct {
		RuleID    string
		RuleIndex int
		Level     string
		Message   struct{ Text string }
		Locations []struct {
			PhysicalLocation struct{ ArtifactLocation struct{ URI string } }
		}
		PartialFingerprints map[string]string
		Suppressions        []struct{ Kind, Justification string }
	}
}

func runOf(t *testing.T, r *audit.Report, config string) sarifRun {
	t.Helper()
	var log struct{ Runs []sarifRun }
	if err := json.Unmarshal([]byte(asSARIF(t, r, config)), &log); err != nil || len(log.Runs) != 1 {
		t.Fatalf("%d runs, %v", len(log.Runs), err)
	}
	return log.Runs[0]
}

func TestSARIF(t *testing.T) {
	golden(t, "drift.sarif", asSARIF(t, drift(), "deploy/auditor.yaml"))
	golden(t, "unknown.sarif", asSARIF(t, unknown(), ""))
	golden(t, "backdoor.sarif", asSARIF(t, backdoor(), ""))
	golden(t, "outage.sarif", asSARIF(t, outage(), ""))
	if err := render.SARIF(full{}, drift(), ""); !errors.Is(err, errFull) {
		t.Errorf("SARIF to a full disk = %v", err)
	}
}

func TestEveryKindIsARule(t *testing.T) {
	b, err := os.ReadFile("../../docs/findings.md")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(string(b), "`", "")
	rules := runOf(t, drift(), "").Tool.Driver.Rules
	if len(rules) != len(audit.Kinds) {
		t.Fatalf("%d rules for %d kinds", len(rules), len(audit.Kinds))
	}
	levels := map[audit.Severity]string{audit.Critical: "error", audit.Warning: "warning", audit.Info: "note"}
	for i, k := range audit.Kinds {
		rule := rules[i]
		if rule.ID != string(k) || rule.HelpURI != k.Runbook() || rule.DefaultConfiguration.Level != levels[k.Severity()] {
			t.Errorf("rule %d is %+v, want %s", i, rule, k)
		}
		row := "| " + strings.ToLower(strings.TrimSuffix(rule.ShortDescription.Text, ".")) + " |"
		if _, after, _ := strings.Cut(page, "| ["+string(k)+"](#"+string(k)+") | "+string(k.Severity())+" |"); !strings.Contains(strings.ToLower(firstLine(after)), row) {
			t.Errorf("the row of %s does not end in %q", k, row)
		}
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func TestSARIFTellsWhatCouldNotBeChecked(t *testing.T) {
	overcome, hidden := consistent(), drift()
	overcome.Chains[0].Errors = []audit.SourceError{{Stage: audit.StageRPC, Source: "public", Message: "connection refused"}}
	hidden.Chains[0].Targets[0].Reasons = []string{"2 of 7 entries: the id is not 32 bytes of hex"}
	nothing, open := base(audit.Unknown), backdoor()
	open.Chains[0].Targets[0].Findings[1].State = audit.Still
	for _, tt := range []struct {
		sentence string
		report   *audit.Report
		ok       bool
		notes    []string
	}{
		{"all was compared and agrees", consistent(), true, nil},
		{"drift without doubt is a success of the tool", backdoor(), true, nil},
		{"a source that failed without consequence is a warning", overcome, true, []string{"warning base: public: connection refused"}},
		{"drift hides no doubt", hidden, false, []string{"error base " + contract + ": 2 of 7 entries: the id is not 32 bytes of hex"}},
		{"nor what could not be looked at again", open, false, []string{"error not everything could be checked: the verdict is drift"}},
		{"neither chain nor API could be read", unknown(), false, []string{
			"error base: public: asking for block finalized: connection refused",
			"error base " + contract + ": the chain was not read",
			"error ethereum: api: fetching the claim: the API answered 503",
		}},
		{"a chain is unknown for no reason", report(audit.Unknown, nothing), false, []string{"error not everything could be checked: the verdict is unknown"}},
		{"nothing was audited", report(audit.Unknown), false, []string{"error not everything could be checked: the verdict is unknown"}},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			invocation := runOf(t, tt.report, "").Invocations[0]
			if invocation.ExecutionSuccessful != tt.ok {
				t.Errorf("executionSuccessful = %t", invocation.ExecutionSuccessful)
			}
			var notes []string
			for _, n := range invocation.ToolExecutionNotifications {
				notes = append(notes, n.Level+" "+n.Message.Text)
			}
			if diff := cmp.Diff(tt.notes, notes); diff != "" {
				t.Errorf("notifications (-want +got):\n%s", diff)
			}
		})
	}
}

// fingerprints returns those of all results, in order.
func fingerprints(t *testing.T, r *audit.Report) []string {
	t.Helper()
	var out []string
	for _, res := range runOf(t, r, "").Results {
		out = append(out, res.PartialFingerprints["primaryLocationLineHash"])
	}
	return out
}

func TestFingerprints(t *testing.T) {
	first := fingerprints(t, drift())
	for sentence, change := range map[string]func(*audit.Report){
		"at another time":               func(r *audit.Report) { r.FinishedAt = noon.Add(time.Hour) },
		"at another block":              func(r *audit.Report) { r.Chains[0].Block.Number++ },
		"by another version":            func(r *audit.Report) { r.Version = "2.0.0" },
		"first seen at another time":    func(r *audit.Report) { r.Chains[0].Targets[0].Findings[0].FirstSeen = nil },
		"in other words":                func(r *audit.Report) { r.Chains[0].Targets[0].Findings[0].Message = "it differs" },
		"of an entry with another name": func(r *audit.Report) { r.Chains[0].Targets[0].Entries[4].Name = "renamed" },
	} {
		r := drift()
		change(r)
		if diff := cmp.Diff(first, fingerprints(t, r)); diff != "" {
			t.Errorf("a finding %s is another one:\n%s", sentence, diff)
		}
	}
	for sentence, change := range map[string]func(*audit.Report){
		"on another chain":   func(r *audit.Report) { r.Chains[0].Chain = "ethereum" },
		"of another kind":    func(r *audit.Report) { r.Chains[0].Targets[0].Findings[0].Kind = audit.DuplicateConflict },
		"of another list":    func(r *audit.Report) { r.Chains[0].Targets[0].Findings[0].List = audit.Device },
		"of another id":      func(r *audit.Report) { r.Chains[0].Targets[0].Findings[0].ID = allowed },
		"of another address": func(r *audit.Report) { r.Chains[0].Targets[0].Contract = strings.Replace(contract, "2f", "3f", 1) },
	} {
		r := drift()
		change(r)
		if first[0] == fingerprints(t, r)[0] {
			t.Errorf("a finding %s is the same one", sentence)
		}
	}
	r := drift() // images without a hash have no id that tells them apart
	target := &r.Chains[0].Targets[0]
	target.Findings = append(target.Findings, target.Findings[2])
	got := fingerprints(t, r)
	if a, b := strings.TrimSuffix(got[2], ":1"), strings.TrimSuffix(got[3], ":2"); a != b || len(a) != 32 {
		t.Errorf("two findings without an id: %s and %s", got[2], got[3])
	}
}

func TestAcceptedIsSuppressed(t *testing.T) {
	got := map[string]string{}
	for _, res := range runOf(t, governed(), "").Results {
		got[res.RuleID] = ""
		for _, s := range res.Suppressions {
			got[res.RuleID] += s.Justification
		}
	}
	want := map[string]string{
		"claim_allowed_chain_denied": "", "malformed_id": "", "no_hash": "", "policy_denied_chain_allowed": "", "no_code": "",
		"claim_denied_chain_allowed": "until 2026-12-11T12:00:00Z: node is being retired",
		"owner_changed":              "until 2026-12-11T12:00:00Z: the new multisig",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("results by kind, with why they are suppressed (-want +got):\n%s", diff)
	}
}

func TestResultsHaveAPlace(t *testing.T) {
	for _, tt := range []struct{ sentence, config, want string }{
		{"a file below", "deploy/auditor.yaml", "deploy/auditor.yaml"},
		{"a file as a shell names it", "./deploy//auditor.yaml", "deploy/auditor.yaml"},
		{"a file anywhere", "/etc/kms auditor.yaml", "file:///etc/kms%20auditor.yaml"},
		{"a name that looks like a scheme", "a:b.yaml", "./a:b.yaml"},
		{"no file", "", "base/" + contract},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			res := runOf(t, drift(), tt.config).Results
			if got := res[0].Locations[0].PhysicalLocation.ArtifactLocation.URI; got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestSemanticVersion(t *testing.T) {
	for version, want := range map[string]string{
		"1.2.3": "1.2.3", "v1.2.3": "1.2.3", "v1.2.3-4-gabc1234": "1.2.3-4-gabc1234", "v0.0.0-20261101120000-abcdef123456+dirty": "0.0.0-20261101120000-abcdef123456+dirty",
		"(devel)": "", "dev": "", "1.2": "", "01.2.3": "", "1.2.3-": "", "1.2.3-a..b": "",
	} {
		r := consistent()
		r.Version = version
		if driver := runOf(t, r, "").Tool.Driver; driver.SemanticVersion != want || driver.Version != version {
			t.Errorf("%q is version %q, semantic version %q, want %q", version, driver.Version, driver.SemanticVersion, want)
		}
	}
}

func TestForeignTextIsNoLinkInSARIF(t *testing.T) {
	r := drift()
	r.Chains[0].Targets[0].Findings[0].Message = "image [x](https://evil.example) {0} \x1b[2J\u202e: refused"
	if got, want := runOf(t, r, "").Results[0].Message.Text, "image [x] (https://evil.example) {{0}} \ufffd[2J\ufffd: refused"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for _, c := range asSARIF(t, hostile(), "") {
		if c < ' ' && c != '\n' || c == '\u202e' {
			t.Errorf("rune %U is written", c)
		}
	}
}
