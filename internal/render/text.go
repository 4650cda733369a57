package render

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
)

// TextOptions choose how Text looks. The zero value fits a pipe.
type TextOptions struct {
	Color bool // terminal escapes
	Wide  bool // ids, names and hashes whole
}

// shown is the order of entries by verdict: what disagrees comes first.
var shown = []audit.EntryVerdict{audit.Mismatch, audit.Unverifiable, audit.Pending, audit.Accepted, audit.Match}

// Text writes r for a person at a terminal.
func Text(w io.Writer, r *audit.Report, opt TextOptions) error {
	t := text{opt: opt}
	for i := range r.Chains {
		t.chain(r, &r.Chains[i])
	}
	for i := range r.Chains {
		for j := range r.Chains[i].Targets {
			t.target(r.Chains[i].Chain, &r.Chains[i].Targets[j])
		}
	}
	t.closing(r)
	if _, err := w.Write(t.Bytes()); err != nil {
		return fmt.Errorf("writing report %s as text: %w", r.AuditID, err)
	}
	return nil
}

type text struct {
	bytes.Buffer
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
	t.printf("%s  %s: %s; %s, %s; %s\n", t.paint(verdictColor(c.Verdict), fmt.Sprintf("%-10s", c.Verdict)), plain(c.Chain),
		t.block(c), plural(len(c.Targets), "contract"), counts(sum), claimAge(r, c))
	for _, e := range c.Errors {
		t.printf("  error: %s: %s\n", plain(e.Source), plain(e.Message))
	}
}

func (t *text) block(c *audit.Chain) string {
	if c.Block == nil {
		return "no block pinned (policy " + plain(c.Policy) + ")"
	}
	return fmt.Sprintf("%s block %d %s of %s", plain(c.Policy), c.Block.Number, t.id(c.Block.Hash), c.Block.Time.UTC().Format(time.RFC3339))
}

func claimAge(r *audit.Report, c *audit.Chain) string {
	if c.Claim == nil {
		return "no claim fetched"
	}
	return "claim " + max(0, r.FinishedAt.Sub(c.Claim.FetchedAt)).Round(time.Second).String() + " old"
}

func (t *text) target(chain string, target *audit.Target) {
	t.printf("\n%s  %s %s: %s, completeness %s; %s\n",
		t.paint(verdictColor(target.Verdict), fmt.Sprintf("%-10s", target.Verdict)),
		plain(chain), plain(target.Contract), assurance(target), target.Completeness, counts(target.Counts.Of))
	for _, reason := range target.Reasons {
		t.printf("  unknown: %s\n", plain(reason))
	}
	for _, f := range target.Findings {
		t.finding(f)
	}
	t.entries(target.Entries)
}

func assurance(t *audit.Target) string {
	if t.Assurance == "" {
		return "nothing read"
	}
	return "assurance " + string(t.Assurance)
}

func (t *text) finding(f audit.Finding) {
	t.printf("  %s", t.paint(severityColor(f.Severity), fmt.Sprintf("%-8s", f.Severity)))
	for _, s := range []string{string(f.Kind), string(f.List), t.id(f.ID)} {
		if s != "" {
			t.printf(" %s", s)
		}
	}
	t.printf("\n           %s\n           %s\n", plain(f.Message), plain(f.Runbook))
}

func (t *text) entries(entries []audit.Entry) {
	if len(entries) == 0 {
		return
	}
	rank := func(e audit.Entry) int { return slices.Index(shown, e.Verdict) }
	sorted := slices.SortedStableFunc(slices.Values(entries), func(a, b audit.Entry) int { return rank(a) - rank(b) })
	tab := tabwriter.NewWriter(t, 0, 0, 2, ' ', 0)
	row := func(verdict string, cells ...string) {
		for i, c := range cells {
			cells[i] = cmp.Or(c, "-")
		}
		fmt.Fprintf(tab, "  %s\t%s\n", verdict, strings.Join(cells, "\t"))
	}
	row(t.paint(bold, "VERDICT"), "LIST", "ID", "NAME", "VERSION", "CLAIM", "ON CHAIN", "WHY")
	for _, e := range sorted {
		row(t.paint(entryColor(e.Verdict), string(e.Verdict)), string(e.List), t.id(e.ID), t.name(e.Name), t.name(e.Version),
			string(e.Claim), string(e.OnChain), why(e))
	}
	tab.Flush()
}

// why gives kind and reason, each once.
func why(e audit.Entry) string {
	if e.Reason == "" || e.Reason == string(e.Kind) {
		return string(e.Kind)
	}
	if e.Kind == "" {
		return plain(e.Reason)
	}
	return string(e.Kind) + " (" + plain(e.Reason) + ")"
}

func (t *text) closing(r *audit.Report) {
	unchecked := slices.ContainsFunc(r.Chains, func(c audit.Chain) bool {
		return slices.ContainsFunc(c.Targets, func(t audit.Target) bool { return t.Completeness == audit.Unchecked })
	})
	if len(r.Chains) > 0 {
		t.printf("\n")
	}
	if unchecked {
		t.printf("completeness unchecked: ids that the API does not list were not looked for\n")
	}
	t.printf("verdict: %s\n", t.paint(verdictColor(r.Verdict), r.Verdict.String()))
}
