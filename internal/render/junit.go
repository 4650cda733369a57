package render

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
)

// JUnit writes r as JUnit XML: a test suite for each contract, with a test case for each entry and each finding about
// the contract, and one for each chain of which a source failed or nothing is known.
//
// A failure is a difference that this audit saw, or that an earlier one saw and this one could not look at again. An error
// is what could not be checked. A report is consistent if it has neither. Skipped is what is pending, accepted or
// unclaimed, what gives nothing to compare, and a failed source that did not matter.
func JUnit(w io.Writer, r *audit.Report) error {
	doc := junitDoc{Name: "kms-auditor", Time: seconds(r.FinishedAt.Sub(r.StartedAt))}
	for i := range r.Chains {
		c := &r.Chains[i]
		if len(c.Errors) > 0 || len(c.Targets) == 0 {
			doc.add(r, c, sourceSuite(c))
		}
		for j := range c.Targets {
			doc.add(r, c, targetSuite(r, c, &c.Targets[j]))
		}
	}
	if len(r.Chains) == 0 {
		doc.add(r, &audit.Chain{}, junitSuite{Name: doc.Name, Cases: []junitCase{audited(doc.Name, "nothing was audited")}})
	}
	b := bytes.NewBufferString(xml.Header)
	enc := xml.NewEncoder(b)
	enc.Indent("", "  ")
	err := enc.Encode(doc)
	if err == nil {
		_, err = w.Write(append(b.Bytes(), '\n'))
	}
	return wrote(r, "JUnit XML", err)
}

// add counts s and puts it in. The contracts of a chain are audited together, so each takes the chain's time.
func (d *junitDoc) add(r *audit.Report, c *audit.Chain, s junitSuite) {
	s.Tests, s.Time, s.Timestamp = len(s.Cases), seconds(c.Duration), r.StartedAt.UTC().Format("2006-01-02T15:04:05")
	for _, tc := range s.Cases {
		switch {
		case tc.Failure != nil:
			s.Failures++
		case tc.Error != nil:
			s.Errors++
		case tc.Skipped != nil:
			s.Skipped++
		}
	}
	d.Suites = append(d.Suites, s)
	d.Tests, d.Failures, d.Errors = d.Tests+s.Tests, d.Failures+s.Failures, d.Errors+s.Errors
}

func sourceSuite(c *audit.Chain) junitSuite {
	chain := Plain(c.Chain)
	s := junitSuite{Name: chain, Properties: properties("verdict", c.Verdict.String())}
	became := audit.Consistent
	if unchecked(c) {
		became = audit.Unknown
	}
	for _, e := range c.Errors {
		tc := junitCase{Class: chain, Name: "source " + Plain(e.Source)}
		tc.judge(became, string(e.Stage), Plain(e.Message))
		s.Cases = append(s.Cases, tc)
	}
	if len(s.Cases) == 0 {
		s.Cases = append(s.Cases, audited(chain, "nothing was compared"))
	}
	return s
}

func targetSuite(r *audit.Report, c *audit.Chain, t *audit.Target) junitSuite {
	chain, contract := Plain(c.Chain), Plain(t.Contract)
	facts := []string{"verdict", t.Verdict.String(), "assurance", string(t.Assurance), "completeness", string(t.Completeness), "policy", Plain(c.Policy)}
	if c.Block != nil {
		facts = append(facts, "block", fmt.Sprint(c.Block.Number), "block_hash", Plain(c.Block.Hash))
	}
	s := junitSuite{Name: chain + " " + contract, Properties: properties(facts...)}
	class := chain + "." + contract
	var reasons []string
	for _, reason := range t.Reasons {
		reasons = append(reasons, Plain(reason))
	}
	if t.Verdict == audit.Unknown && len(reasons) == 0 {
		reasons = append(reasons, "not everything could be checked")
	}
	s.Cases = append(s.Cases, audited(class, reasons...))
	about := map[int]audit.Finding{}
	for i, of := range entriesOf(t) {
		f := t.Findings[i]
		if of >= 0 {
			about[of] = f
			continue
		}
		tc := junitCase{Class: class, Name: spaced(string(f.Kind), string(f.List), f.ID)}
		tc.judge(f.Kind.Makes(), string(f.Kind), Plain(f.Message), openSince(r, f), f.Runbook)
		s.Cases = append(s.Cases, tc)
	}
	for _, a := range t.Accepted {
		if acceptedEntry(t, a) >= 0 {
			continue // it has a case of its own
		}
		tc := junitCase{Class: class, Name: spaced(string(a.Kind), string(a.List), a.ID)}
		tc.judge(audit.Consistent, "", spaced(string(audit.Accepted), accepting(a.Reason, a.Expires)), Plain(a.Message))
		s.Cases = append(s.Cases, tc)
	}
	for i, e := range t.Entries {
		s.Cases = append(s.Cases, entryCase(class, e, about[i]))
	}
	return s
}

// audited is the test case that every suite without sources begins with: it passes where there is no reason to doubt.
func audited(class string, reasons ...string) junitCase {
	tc := junitCase{Class: class, Name: "audit"}
	if len(reasons) > 0 {
		tc.judge(audit.Unknown, audit.Unknown.String(), strings.Join(reasons, "; "))
	}
	return tc
}

// entryCase is the test case of e; f is what was found of it, and may be zero.
func entryCase(class string, e audit.Entry, f audit.Finding) junitCase {
	tc := junitCase{Class: class + "." + Plain(string(e.List)), Name: cmp.Or(spaced(named(e.Name, e.Version), e.ID), "no name")}
	kind, states := cmp.Or(string(e.Kind), Plain(e.Reason)), fmt.Sprintf("claim %s, on chain %s", e.Claim, e.OnChain)
	if e.Policy != "" {
		states += ", policy " + string(e.Policy)
	}
	message := cmp.Or(Plain(f.Message), states)
	switch {
	case e.Verdict == audit.Match:
	case e.Verdict == audit.Mismatch:
		tc.judge(audit.Drift, kind, message, states, f.Runbook)
	case e.Verdict == audit.Unverifiable && (e.Kind != audit.NoHash || e.Claim != audit.ClaimUnknown):
		tc.judge(audit.Unknown, kind, message, states, f.Runbook)
	case e.Accepted != nil:
		tc.judge(audit.Consistent, "", spaced(string(e.Verdict), accepting(e.Accepted.Reason, e.Accepted.Expires)+";", why(e)+";", states))
	default:
		tc.judge(audit.Consistent, "", spaced(string(e.Verdict)+":", why(e)+";", states))
	}
	return tc
}

// judge makes of the case what something makes of the verdict. Some readers show the message only, some the text only.
func (tc *junitCase) judge(makes audit.Verdict, kind, message string, detail ...string) {
	lines := slices.DeleteFunc(slices.Compact(append([]string{message}, detail...)), func(s string) bool { return s == "" })
	out := &junitOutcome{Type: kind, Message: message, Text: strings.TrimSpace(strings.Join(lines, "\n"))}
	switch makes {
	case audit.Drift:
		tc.Failure = out
	case audit.Unknown:
		tc.Error = out
	default:
		tc.Skipped = &message
	}
}

// spaced joins what is not empty.
func spaced(parts ...string) string { return Plain(strings.Join(parts, " ")) }

// JUnit XML as Jenkins reads it, which others follow: no standard says more. Reasons of skipped cases are text rather
// than an attribute, since that is what the schema has.
type (
	junitDoc struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Time     seconds      `xml:"time,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name       string          `xml:"name,attr"`
		Tests      int             `xml:"tests,attr"`
		Failures   int             `xml:"failures,attr"`
		Errors     int             `xml:"errors,attr"`
		Skipped    int             `xml:"skipped,attr"`
		Time       seconds         `xml:"time,attr"`
		Timestamp  string          `xml:"timestamp,attr"` // UTC, without a zone
		Properties []junitProperty `xml:"properties>property"`
		Cases      []junitCase     `xml:"testcase"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Time    seconds       `xml:"time,attr"`
		Skipped *string       `xml:"skipped"`
		Error   *junitOutcome `xml:"error"`
		Failure *junitOutcome `xml:"failure"`
	}
	junitOutcome struct {
		Type    string `xml:"type,attr"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

type seconds time.Duration

func (s seconds) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "%.3f", time.Duration(s).Seconds()), nil
}

// properties makes properties of names and values, but of empty ones.
func properties(pairs ...string) []junitProperty {
	var out []junitProperty
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			out = append(out, junitProperty{pairs[i], pairs[i+1]})
		}
	}
	return out
}
