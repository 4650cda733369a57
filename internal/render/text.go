package render

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
)

// TextOptions choose how Text looks. The zero value fits a pipe.
type TextOptions struct {
	Color bool // terminal escapes
	Wide  bool // ids, names and hashes whole
}

// Text writes r for a person at a terminal.
func Text(w io.Writer, r *audit.Report, opt TextOptions) error {
	t := text{&bytes.Buffer{}, opt}
	for i := range r.Chains {
		t.chain(r, &r.Chains[i])
	}
	if len(r.Chains) == 0 {
		t.printf("No chain was audited: the API's list names no KMS on any of them.\n\n")
	}
	for i := range r.Chains {
		for j := range r.Chains[i].Targets {
			t.target(r, r.Chains[i].Chain, &r.Chains[i].Targets[j])
		}
	}
	t.acceptBlock(r)
	t.closing(r)
	_, err := w.Write(t.Bytes())
	return wrote(r, "text", err)
}

// wrote says of an error which report could not be written.
func wrote(r *audit.Report, as string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("writing report %s as %s: %w", r.AuditID, as, err)
}

type text struct {
	*bytes.Buffer
	opt TextOptions
}

func (t *text) printf(format string, args ...any) { fmt.Fprintf(t, format, args...) }

func (t *text) chain(r *audit.Report, c *audit.Chain) {
	sum := func(v audit.EntryVerdict) (n int) {
		for i := range c.Targets {
			n += c.Targets[i].Counts.Of(v)
		}
		return n
	}
	t.printf("%s  %s: %s; %s, %s; %s\n", t.paint(verdictColors[c.Verdict], fmt.Sprintf("%-10s", c.Verdict)), Plain(c.Chain),
		t.block(c), plural(len(c.Targets), "contract"), counts(sum), claimAge(r, c))
	for _, e := range c.Errors {
		t.printf("  error: %s: %s\n", Plain(e.Source), Plain(e.Message))
	}
}

func (t *text) block(c *audit.Chain) string {
	if c.Block == nil {
		return "no block pinned (policy " + Plain(c.Policy) + ")"
	}
	return fmt.Sprintf("%s block %d %s of %s", Plain(c.Policy), c.Block.Number, t.id(c.Block.Hash), c.Block.Time.UTC().Format(time.RFC3339))
}

func claimAge(r *audit.Report, c *audit.Chain) string {
	if c.Claim == nil {
		return "no claim fetched"
	}
	return "claim " + max(0, r.FinishedAt.Sub(c.Claim.FetchedAt)).Round(time.Second).String() + " old"
}

func (t *text) target(r *audit.Report, chain string, target *audit.Target) {
	t.printf("\n%s  %s %s: %s, completeness %s; %s\n",
		t.paint(verdictColors[target.Verdict], fmt.Sprintf("%-10s", target.Verdict)),
		Plain(chain), Plain(target.Contract), assurance(target), target.Completeness, counts(target.Counts.Of))
	for _, reason := range target.Reasons {
		t.printf("  unknown: %s\n", Plain(reason))
	}
	t.storage(target)
	t.control(target)
	for _, f := range target.Findings {
		t.finding(r, f)
	}
	for _, a := range target.Accepted {
		t.acceptance(a)
	}
	t.entries(target.Entries)
}

func assurance(t *audit.Target) string {
	if t.Assurance == "" {
		return "nothing read"
	}
	return "assurance " + string(t.Assurance)
}

func (t *text) finding(r *audit.Report, f audit.Finding) {
	t.printf("  %s %s\n", t.paint(severityColors[f.Severity], fmt.Sprintf("%-8s", f.Severity)), t.about(f.Kind, f.List, f.ID))
	for _, line := range []string{Plain(f.Message), openSince(r, f), Plain(f.Runbook)} {
		if line != "" {
			t.printf("           %s\n", line)
		}
	}
}

// about names a finding.
func (t *text) about(k audit.Kind, l audit.List, id string) string {
	return spaced(string(k), string(l), t.id(id))
}

// remarks say what a search leaves open; one that is proven leaves nothing.
var remarks = map[audit.Completeness]string{
	audit.Unchecked:  "ids that the API does not list were not looked for",
	audit.EventsOnly: "ids that the API does not list were looked for in events; what a provider left out, or was written without one, is not seen",
	audit.Incomplete: "events could not all be read, or the contract stores what nothing explains; ids that the API does not list may be missing here",
}

func (t *text) closing(r *audit.Report) {
	levels := map[audit.Completeness]bool{}
	for _, c := range r.Chains {
		for _, target := range c.Targets {
			levels[target.Completeness] = true
		}
	}
	if len(r.Chains) > 0 {
		t.printf("\n")
	}
	for _, c := range audit.Completenesses {
		if remark := remarks[c]; remark != "" && levels[c] {
			t.printf("completeness %s: %s\n", c, remark)
		}
	}
	if n, worst := Open(r); n > 0 {
		t.printf("open: %s of earlier audits, which this one could not look at again; the worst is %s\n", plural(n, "finding"), worst.Severity)
	}
	t.printf("verdict: %s\n", t.paint(verdictColors[r.Verdict], r.Verdict.String()))
}
