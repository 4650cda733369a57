package web

import (
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// maxName is the number of characters of a foreign name that the page shows; the rest is in its title.
const maxName = 48

// functions are what the templates say things with.
var functions = template.FuncMap{
	"ago":      func(now, t time.Time) string { return render.Span(now.Sub(t)) },
	"changed":  changed,
	"cut":      func(s string) string { return render.Cut(s, maxName) },
	"day":      func(t time.Time) string { return t.UTC().Format(time.DateOnly) },
	"iso":      func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"label":    label,
	"meaning":  func(f audit.Finding) string { return render.NewKnown(f).Meaning },
	"plain":    sanitize.Plain,
	"sentence": render.Plain,
	"verdicts": verdictCounts,
	"version":  version,
	"wanted":   wanted,
	"when":     func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" },
}

// count is how many entries have a verdict.
type count struct {
	N       int
	Verdict audit.EntryVerdict
}

// verdictCounts counts entries by verdict, the worst first.
func verdictCounts(c audit.Counts) (out []count) {
	for _, v := range render.VerdictOrder {
		if n := c.Of(v); n > 0 {
			out = append(out, count{n, v})
		}
	}
	return out
}

// changed reports whether the last change of any of the entries is known, and wanted whether the operator wants anything of any.
func changed(list []*audit.Entry) bool {
	return slices.ContainsFunc(list, func(e *audit.Entry) bool { return e.Changed != nil })
}

func wanted(list []*audit.Entry) bool {
	return slices.ContainsFunc(list, func(e *audit.Entry) bool { return e.Policy != "" })
}

// version is what the name does not say already.
func version(name, version string) string {
	if strings.Contains(name, version) {
		return ""
	}
	return version
}

// labels explain the report's words.
var labels = map[any]string{
	audit.Consistent: "Every claim of the API was compared with the contract, and agrees.",
	audit.Drift:      "The API and the contract differ, or the contract is not as it should be.",
	audit.Unknown:    "No difference is confirmed, but something could not be checked.",

	audit.Match:        "claim and chain agree",
	audit.Mismatch:     "claim and chain differ",
	audit.Unverifiable: "one side is missing, or the difference was not confirmed",
	audit.Pending:      "the newest block already agrees with the API",
	audit.Accepted:     "you accept the difference for a time",
	audit.Unclaimed:    "neither the API nor your policy says anything of it",

	audit.Assurance(""): "Nothing was read.",
	audit.Single:        "Answers rest on the word of one provider.",
	audit.Agreed:        "As many providers as configured gave the same answers.",
	audit.Proven:        "Every answer was verified against the block's state root.",

	audit.Unchecked:  "Ids that the API does not list were not looked for.",
	audit.EventsOnly: "Ids that the API does not list were looked for in the contract's events. What was written without one is not seen.",
	audit.Complete:   "All that the contract stores is accounted for: nothing is hidden at this block.",
	audit.Incomplete: "Events could not all be read, or do not explain what is stored. Ids that the API does not list may be missing here.",

	audit.ReasonUnconfirmed: "only one look saw the difference",
	audit.ReasonNotRead:     "the chain's answer could not be had",
	audit.ReasonNoClaim:     "the API was not read",
	audit.ReasonWentBack:    "the block is older than one that was audited before",
	audit.ReasonHeadAgrees:  "the newest block already agrees",
	audit.ReasonNotAudited:  "the claim is about another chain",
	audit.ReasonClaimAbsent: "the API gives no answer",
	audit.ReasonMalformed:   "not 32 bytes of hex",
	audit.ReasonNoHash:      "the API gives no hash",

	audit.Device:          "device",
	audit.OSImage:         "OS image",
	string(audit.Device):  "device", // as events spell it
	string(audit.OSImage): "OS image",
}

// label explains a word. One that has no label stays as it is.
func label(word any) string {
	if s, ok := labels[word]; ok {
		return s
	}
	return fmt.Sprint(word)
}

// What one page shows at most: a browser chokes on more, and nobody reads it there.
const (
	maxRows     = 1000 // entries
	maxFindings = 100  // findings, and as many accepted differences
)

// foldFrom is the number of entries in order from which they are folded away.
const foldFrom = 25

// chainView is what the status page shows of a chain: all of it, as far as the limits go, and the worst of all contracts first.
type chainView struct {
	audit.Chain
	Targets []*targetView
}

// targetView is what the page shows of a contract.
type targetView struct {
	*audit.Target
	Chain           string
	Findings        []audit.Finding
	Accepted        []audit.Acceptance
	Visible, Folded []*audit.Entry // those to be seen at once, the worst first, and those in order if they are many
}

// Rows is how many entries the page shows.
func (v *targetView) Rows() int { return len(v.Visible) + len(v.Folded) }

// placed is a finding or an entry with the contract that it is of.
type placed[T any] struct {
	in *targetView
	is *T
}

func chainViews(r *audit.Report) []chainView {
	if r == nil {
		return nil
	}
	chains := make([]chainView, len(r.Chains))
	accepted := maxFindings
	var findings []placed[audit.Finding]
	var entries []placed[audit.Entry]
	for i, c := range r.Chains {
		chains[i].Chain = c
		for j := range c.Targets {
			t := &c.Targets[j]
			v := &targetView{Target: t, Chain: c.Chain, Accepted: t.Accepted[:min(accepted, len(t.Accepted))]}
			accepted -= len(v.Accepted)
			for k := range t.Findings {
				findings = append(findings, placed[audit.Finding]{v, &t.Findings[k]})
			}
			for k := range t.Entries {
				entries = append(entries, placed[audit.Entry]{v, &t.Entries[k]})
			}
			chains[i].Targets = append(chains[i].Targets, v)
		}
	}
	slices.SortStableFunc(findings, func(a, b placed[audit.Finding]) int { return render.CompareSeverities(a.is.Severity, b.is.Severity) })
	for _, f := range findings[:min(maxFindings, len(findings))] {
		f.in.Findings = append(f.in.Findings, *f.is)
	}
	slices.SortStableFunc(entries, func(a, b placed[audit.Entry]) int { return render.CompareEntries(a.is, b.is) })
	for _, e := range entries[:min(maxRows, len(entries))] {
		if e.is.Verdict == audit.Match && e.in.Counts.Match >= foldFrom {
			e.in.Folded = append(e.in.Folded, e.is)
		} else {
			e.in.Visible = append(e.in.Visible, e.is)
		}
	}
	return chains
}
