package web

import (
	"slices"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

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
