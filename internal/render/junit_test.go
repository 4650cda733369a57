package render_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

func asJUnit(t *testing.T, r *audit.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := render.JUnit(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// junitDoc is what the tests read of the XML.
type junitDoc struct {
	Tests    int `xml:"tests,attr"`
	Failures int `xml:"failures,attr"`
	Errors   int `xml:"errors,attr"`
	Suites   []struct {
		Name     string  `xml:"name,attr"`
		Tests    int     `xml:"tests,attr"`
		Failures int     `xml:"failures,attr"`
		Errors   int     `xml:"errors,attr"`
		Skipped  int     `xml:"skipped,attr"`
		Time     float64 `xml:"time,attr"`
		Cases    []struct {
			Name    string    `xml:"name,attr"`
			Failure *struct{} `xml:"failure"`
			Error   *struct{} `xml:"error"`
			Skipped *string   `xml:"skipped"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

func readJUnit(t *testing.T, r *audit.Report) junitDoc {
	t.Helper()
	var doc junitDoc
	if err := xml.Unmarshal([]byte(asJUnit(t, r)), &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// outcomes lists the cases, each with how it ended.
func (d junitDoc) outcomes() []string {
	var out []string
	for _, s := range d.Suites {
		for _, c := range s.Cases {
			how := "passed "
			switch {
			case c.Failure != nil:
				how = "failed "
			case c.Error != nil:
				how = "erred "
			case c.Skipped != nil:
				how = "skipped "
			}
			out = append(out, how+c.Name)
		}
	}
	return out
}

func TestJUnit(t *testing.T) {
	r := drift()
	r.Chains[0].Duration = 1500 * time.Millisecond
	golden(t, "drift.junit.xml", asJUnit(t, r))
	golden(t, "unknown.junit.xml", asJUnit(t, unknown()))
	if err := render.JUnit(full{}, r); !errors.Is(err, errFull) {
		t.Errorf("JUnit to a full disk = %v", err)
	}
}

func TestJUnitOutcomes(t *testing.T) {
	overcome, forged, noHash := consistent(), consistent(), consistent()
	overcome.Chains[0].Errors = []audit.SourceError{{Stage: audit.StageRPC, Source: "public", Message: "connection refused"}}
	target := &forged.Chains[0].Targets[0]
	target.Verdict, forged.Chains[0].Verdict, forged.Verdict = audit.Unknown, audit.Unknown, audit.Unknown
	target.Findings = []audit.Finding{finding(audit.ProofInvalid, "", "", "p1: the proof does not verify", nil)}
	target = &noHash.Chains[0].Targets[0]
	target.Entries = []audit.Entry{
		{List: audit.OSImage, Name: "dstack-dev", Claim: audit.ClaimUnknown, Verdict: audit.Unverifiable, Kind: audit.NoHash, Reason: audit.ReasonNoHash},
		{List: audit.OSImage, Name: "dstack-dev", Version: "2", Claim: audit.ClaimAllowed, Verdict: audit.Unverifiable, Kind: audit.NoHash, Reason: audit.ReasonNoHash},
		{List: audit.OSImage, Claim: audit.ClaimAllowed, Verdict: audit.Unverifiable, Reason: audit.ReasonUnconfirmed},
	}
	accepted := consistent()
	target = &accepted.Chains[0].Targets[0]
	target.Entries[0].Verdict, target.Entries[0].Kind = audit.Accepted, audit.ClaimDeniedChainAllowed
	target.Accepted = []audit.Acceptance{{Kind: audit.OwnerChanged}, {Kind: audit.ClaimDeniedChainAllowed, List: audit.Device, ID: device}}
	pending := consistent()
	target = &pending.Chains[0].Targets[0]
	target.Entries[0].Verdict, target.Entries[0].Kind = audit.Pending, audit.ClaimAllowedChainDenied
	target.Findings = []audit.Finding{finding(audit.ClaimAllowedChainDenied, audit.Device, device, "", nil)}
	target.Findings[0].State = audit.Still
	for _, tt := range []struct {
		sentence string
		report   *audit.Report
		want     []string
	}{
		{"what agrees passes", consistent(), []string{"passed audit", "passed prod5 " + device}},
		{"a source that failed without consequence is skipped", overcome, []string{"skipped source public", "passed audit", "passed prod5 " + device}},
		{"a finding about the contract fails where it makes drift", backdoor(), []string{
			"passed audit", "failed storage_unaccounted", "passed prod5 " + device,
			"failed 0x" + strings.Repeat("09", 32), "passed dstack-0.5.8 " + allowed,
		}},
		{"and errs where it makes the target unknown", forged, []string{"erred audit", "erred proof_invalid", "passed prod5 " + device}},
		{"what an earlier audit left open fails, although this one could not look", outage(), []string{
			"erred source api", "erred audit", "failed unlisted_chain_allowed device 0x" + strings.Repeat("09", 32),
			"failed claim_allowed_chain_denied os_image " + refused, "skipped prod5 " + device, "erred 0x" + strings.Repeat("09", 32), "erred dstack-0.5.8 " + allowed,
		}},
		{"whatever its entry is now", pending, []string{"passed audit", "failed claim_allowed_chain_denied device " + device, "skipped prod5 " + device}},
		{"what cannot be compared is an error, what is nothing to compare is none", noHash,
			[]string{"passed audit", "skipped dstack-dev", "erred dstack-dev 2", "erred no name"}},
		{"what the operator lives with is skipped, be it an entry or the contract", accepted, []string{
			"passed audit", "skipped owner_changed", "skipped prod5 " + device,
		}},
		{"a chain without contracts errs by its sources", unknown(), []string{
			"erred source public", "erred audit", "erred prod5 " + device, "erred source api",
		}},
		{"a chain without anything errs", report(audit.Unknown, base(audit.Unknown)), []string{"erred audit"}},
		{"a report of nothing errs", report(audit.Unknown), []string{"erred audit"}},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, readJUnit(t, tt.report).outcomes()); diff != "" {
				t.Errorf("cases (-want +got):\n%s", diff)
			}
		})
	}
}

func TestJUnitSaysWhyADifferenceIsAccepted(t *testing.T) {
	text := asJUnit(t, governed())
	for _, want := range []string{
		"<skipped>accepted until 2026-12-11T12:00:00Z: node is being retired; claim_denied_chain_allowed; claim denied, on chain allowed, policy allowed</skipped>",
		"<skipped>accepted until 2026-12-11T12:00:00Z: the new multisig</skipped>",
	} {
		if strings.Count(text, want) != 1 {
			t.Errorf("%s does not stand once in\n%s", want, text)
		}
	}
}

func TestImagesWithoutAHashKeepTheirFindings(t *testing.T) {
	r := consistent()
	target := &r.Chains[0].Targets[0]
	image := audit.Entry{List: audit.OSImage, Claim: audit.ClaimAllowed, Verdict: audit.Unverifiable, Kind: audit.NoHash, Reason: audit.ReasonNoHash}
	target.Entries = []audit.Entry{image, image}
	target.Findings = []audit.Finding{finding(audit.NoHash, audit.OSImage, "", "the first", nil), finding(audit.NoHash, audit.OSImage, "", "the second", nil)}
	text := asJUnit(t, r)
	if strings.Count(text, `message="the first"`) != 1 || strings.Count(text, `message="the second"`) != 1 {
		t.Errorf("the findings are not shown once each:\n%s", text)
	}
}

func TestJUnitCounts(t *testing.T) {
	for sentence, r := range map[string]*audit.Report{
		"consistent": consistent(), "drift": drift(), "two findings of drift": backdoor(), "unknown": unknown(), "open": outage(), "hostile": hostile(), "empty": report(audit.Unknown),
	} {
		doc := readJUnit(t, r)
		all := map[string]int{}
		for _, o := range doc.outcomes() {
			how, _, _ := strings.Cut(o, " ")
			all[how]++
		}
		var tests, failures, errs, skipped int
		for _, s := range doc.Suites {
			tests, failures, errs, skipped = tests+s.Tests, failures+s.Failures, errs+s.Errors, skipped+s.Skipped
			if s.Tests != len(s.Cases) {
				t.Errorf("%s: suite %s says %d tests and has %d", sentence, s.Name, s.Tests, len(s.Cases))
			}
		}
		want := []int{all["passed"] + all["failed"] + all["erred"] + all["skipped"], all["failed"], all["erred"], all["skipped"]}
		if diff := cmp.Diff(want, []int{tests, failures, errs, skipped}); diff != "" {
			t.Errorf("%s: tests, failures, errors and skipped of the suites (-want +got):\n%s", sentence, diff)
		}
		if diff := cmp.Diff(want[:3], []int{doc.Tests, doc.Failures, doc.Errors}); diff != "" {
			t.Errorf("%s: tests, failures and errors of all (-want +got):\n%s", sentence, diff)
		}
		if red := doc.Failures+doc.Errors > 0; red != (r.Verdict != audit.Consistent) || (doc.Failures > 0) != (r.Verdict == audit.Drift || sentence == "open") {
			t.Errorf("%s: %d failures and %d errors for %s", sentence, doc.Failures, doc.Errors, r.Verdict)
		}
	}
}

func TestForeignTextIsXML(t *testing.T) {
	r := hostile()
	r.Chains[0].Chain = `a"b<c>&]]>` + "\x00\ufffe"
	text := asJUnit(t, r)
	for _, c := range text {
		if c < ' ' && c != '\n' || c == '\ufffe' || c == '\u202e' {
			t.Errorf("rune %U is written", c)
		}
	}
	if got, want := readJUnit(t, r).Suites[0].Name, `a"b<c>&]]>`+"\ufffd\ufffd"; got != want {
		t.Errorf("the chain reads as %q, want %q", got, want)
	}
}
