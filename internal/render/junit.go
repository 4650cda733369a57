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
// the contract, and a suite for each chain with a failed source or without a result.
//
// A failure is a difference that this audit saw, or that an earlier one saw and this one could not check again. An error is
// something that could not be checked. A consistent report has neither. Pending, accepted and unclaimed entries, entries without
// anything to compare, and failed sources that did not matter are skipped.
func JUnit(w io.Writer, r *audit.Report) error {
	var suites []element
	for _, c := range r.Chains {
		chain := Plain(c.Chain)
		if len(c.Errors) > 0 || len(c.Targets) == 0 {
			suites = append(suites, suite(r, &c, chain, sourceCases(&c), "verdict", c.Verdict.String()))
		}
		for _, t := range c.Targets {
			facts := []string{"verdict", t.Verdict.String(), "assurance", string(t.Assurance), "completeness", string(t.Completeness), "policy", Plain(c.Policy)}
			if c.Block != nil {
				facts = append(facts, "block", fmt.Sprint(c.Block.Number), "block_hash", Plain(c.Block.Hash))
			}
			suites = append(suites, suite(r, &c, chain+" "+Plain(t.Contract), targetCases(r, &c, &t), facts...))
		}
	}
	if len(r.Chains) == 0 {
		suites = []element{suite(r, &audit.Chain{}, "kms-auditor", []element{audited("kms-auditor", "nothing was audited")})}
	}
	b := bytes.NewBufferString(xml.Header)
	enc := xml.NewEncoder(b)
	enc.Indent("", "  ")
	err := enc.Encode(tag("testsuites", suites, "name", "kms-auditor", "tests", count(suites, "testcase"),
		"failures", count(suites, "failure"), "errors", count(suites, "error"), "time", seconds(r.FinishedAt.Sub(r.StartedAt))))
	if err == nil {
		_, err = w.Write(append(b.Bytes(), '\n'))
	}
	return wrote(r, "JUnit XML", err)
}

// element is an element of JUnit XML. There is no standard: it follows what Jenkins reads. The reason of a skipped case is text, not
// an attribute, as in Jenkins's schema.
type element struct {
	XMLName xml.Name
	Attrs   []xml.Attr `xml:",any,attr"`
	Text    string     `xml:",chardata"`
	Inner   []element  `xml:",any"`
}

// tag makes an element with attributes: a name, its value, the next name, and so on.
func tag(name string, inner []element, attrs ...any) element {
	e := element{XMLName: xml.Name{Local: name}, Inner: inner}
	for i := 0; i < len(attrs); i += 2 {
		e.Attrs = append(e.Attrs, xml.Attr{Name: xml.Name{Local: fmt.Sprint(attrs[i])}, Value: fmt.Sprint(attrs[i+1])})
	}
	return e
}

// count counts the elements of a name, at any depth.
func count(all []element, name string) (n int) {
	for _, e := range all {
		if n += count(e.Inner, name); e.XMLName.Local == name {
			n++
		}
	}
	return n
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }

// suite is a test suite. Its facts are names and values; empty ones are omitted. The contracts of a chain are audited together, so
// each has the chain's duration.
func suite(r *audit.Report, c *audit.Chain, name string, cases []element, facts ...string) element {
	var properties []element
	for i := 0; i < len(facts); i += 2 {
		if facts[i+1] != "" {
			properties = append(properties, tag("property", nil, "name", facts[i], "value", facts[i+1]))
		}
	}
	return tag("testsuite", append([]element{tag("properties", properties)}, cases...), "name", name, "tests", len(cases),
		"failures", count(cases, "failure"), "errors", count(cases, "error"), "skipped", count(cases, "skipped"),
		"time", seconds(c.Duration), "timestamp", r.StartedAt.UTC().Format("2006-01-02T15:04:05")) // without a zone
}

func sourceCases(c *audit.Chain) (cases []element) {
	chain, became := Plain(c.Chain), audit.Consistent
	if unchecked(c) {
		became = audit.Unknown
	}
	for _, e := range c.Errors {
		cases = append(cases, judged(chain, "source "+Plain(e.Source), became, string(e.Stage), Plain(e.Message)))
	}
	if len(cases) == 0 {
		cases = append(cases, audited(chain, "nothing was compared"))
	}
	return cases
}

func targetCases(r *audit.Report, c *audit.Chain, t *audit.Target) []element {
	class := Plain(c.Chain) + "." + Plain(t.Contract)
	reasons := each(t.Reasons, Plain)
	if t.Verdict == audit.Unknown && len(reasons) == 0 {
		reasons = append(reasons, "not everything could be checked")
	}
	cases := []element{audited(class, reasons...)}
	about := map[*audit.Entry]audit.Finding{}
	for _, f := range allFound(t) {
		name := spaced(string(f.Kind), string(f.List), f.ID)
		switch a := f.accepted; {
		case a == nil && f.entry != nil:
			about[f.entry] = f.Finding
		case a == nil:
			cases = append(cases, judged(class, name, f.Kind.Makes(), string(f.Kind), Plain(f.Message), openSince(r, f.Finding), f.Runbook))
		case f.entry == nil: // else it has a case of its own
			cases = append(cases, judged(class, name, audit.Consistent, "", spaced(string(audit.Accepted), accepting(a.Reason, a.Expires)), Plain(f.Message)))
		}
	}
	for i := range t.Entries {
		cases = append(cases, entryCase(class, &t.Entries[i], about[&t.Entries[i]]))
	}
	return cases
}

// audited is the first test case of a contract's suite. It passes if nothing is in doubt.
func audited(class string, reasons ...string) element {
	if len(reasons) == 0 {
		return testCase(class, "audit")
	}
	return judged(class, "audit", audit.Unknown, audit.Unknown.String(), strings.Join(reasons, "; "))
}

// entryCase is the test case of e, with its finding f, which may be zero.
func entryCase(class string, e *audit.Entry, f audit.Finding) element {
	class, name := class+"."+Plain(string(e.List)), cmp.Or(spaced(named(e.Name, e.Version), e.ID), "no name")
	kind := cmp.Or(string(e.Kind), Plain(e.Reason))
	states := fmt.Sprintf("claim %s, on chain %s", e.Claim, e.OnChain) + after(", policy ", string(e.Policy))
	message := cmp.Or(Plain(f.Message), states)
	switch {
	case e.Verdict == audit.Match:
		return testCase(class, name)
	case e.Verdict == audit.Mismatch:
		return judged(class, name, audit.Drift, kind, message, states, f.Runbook)
	case e.Verdict == audit.Unverifiable && (e.Kind != audit.NoHash || e.Claim != audit.ClaimUnknown):
		return judged(class, name, audit.Unknown, kind, message, states, f.Runbook)
	case e.Accepted != nil:
		return judged(class, name, audit.Consistent, "", spaced(string(e.Verdict), accepting(e.Accepted.Reason, e.Accepted.Expires)+";", why(*e)+";", states))
	default:
		return judged(class, name, audit.Consistent, "", spaced(string(e.Verdict)+":", why(*e)+";", states))
	}
}

// testCase passes unless it has an outcome. It has no duration: contracts are audited together.
func testCase(class, name string, outcome ...element) element {
	return tag("testcase", outcome, "classname", class, "name", name, "time", seconds(0))
}

// judged is a failure or an error, with its message twice: some readers show only the attribute, some only the text.
func judged(class, name string, makes audit.Verdict, kind, message string, detail ...string) element {
	if makes == audit.Consistent {
		outcome := tag("skipped", nil)
		outcome.Text = message
		return testCase(class, name, outcome)
	}
	what := map[bool]string{true: "failure", false: "error"}[makes == audit.Drift]
	outcome := tag(what, nil, "type", kind, "message", message)
	lines := nonEmpty(slices.Compact(append([]string{message}, detail...))...)
	outcome.Text = strings.TrimSpace(strings.Join(lines, "\n"))
	return testCase(class, name, outcome)
}
