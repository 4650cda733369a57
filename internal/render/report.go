// Package render writes an audit's report for readers: people at a terminal, and programs.
// It decides nothing, and uses the words of the report.
package render

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
)

// Targets yields the contracts of a report, each with its chain.
func Targets(r *audit.Report) iter.Seq2[*audit.Chain, *audit.Target] {
	return func(yield func(*audit.Chain, *audit.Target) bool) {
		for i := range r.Chains {
			for j := range r.Chains[i].Targets {
				if !yield(&r.Chains[i], &r.Chains[i].Targets[j]) {
					return
				}
			}
		}
	}
}

// wrote adds to an error which report could not be written.
func wrote(r *audit.Report, as string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("writing report %s as %s: %w", r.AuditID, as, err)
}

// VerdictOrder lists the verdicts of entries, the worst first.
var VerdictOrder = []audit.EntryVerdict{audit.Mismatch, audit.Unverifiable, audit.Pending, audit.Accepted, audit.Unclaimed, audit.Match}

// CompareEntries orders entries by verdict, the worst first, then by severity.
func CompareEntries(a, b *audit.Entry) int {
	return cmp.Or(slices.Index(VerdictOrder, a.Verdict)-slices.Index(VerdictOrder, b.Verdict), CompareSeverities(a.Severity, b.Severity))
}

// WorstFirst returns the entries in the order of CompareEntries. It does not change list.
func WorstFirst(list []audit.Entry) []*audit.Entry {
	sorted := make([]*audit.Entry, len(list))
	for i := range list {
		sorted[i] = &list[i]
	}
	slices.SortStableFunc(sorted, CompareEntries)
	return sorted
}

// Count is the number of entries with a verdict.
type Count struct {
	N       int
	Verdict audit.EntryVerdict
}

// CountEntries counts the entries of contracts by verdict, the worst first, without zeros.
func CountEntries(targets ...audit.Target) (out []Count) {
	for _, v := range VerdictOrder {
		n := 0
		for _, t := range targets {
			n += t.Counts.Of(v)
		}
		if n > 0 {
			out = append(out, Count{n, v})
		}
	}
	return out
}

// found is a finding, or a difference that the operator accepts.
type found struct {
	audit.Finding
	entry    *audit.Entry      // nil if it is about the contract, or this audit did not see it
	accepted *audit.Acceptance // nil if it is not accepted
}

// allFound returns the findings of t, then the accepted differences.
func allFound(t *audit.Target) (out []found) {
	about := func(k audit.Kind, l audit.List, id string) [3]string { return [3]string{string(k), string(l), id} }
	shown, accepted := map[[3]string][]*audit.Entry{}, map[[3]string]*audit.Entry{}
	for i := range t.Entries {
		e := &t.Entries[i]
		k := about(e.Kind, e.List, e.ID)
		if e.Kind != "" {
			shown[k] = append(shown[k], e)
		}
		if e.Verdict == audit.Accepted {
			accepted[k] = cmp.Or(accepted[k], e)
		}
	}
	for _, f := range t.Findings {
		next, k := found{Finding: f}, about(f.Kind, f.List, f.ID)
		if same := shown[k]; len(same) > 0 && f.State != audit.Still { // images without a hash share an empty id
			next.entry, shown[k] = same[0], same[1:]
		}
		out = append(out, next)
	}
	for _, a := range t.Accepted {
		f := audit.Finding{Kind: a.Kind, Severity: a.Kind.Severity(), List: a.List, ID: a.ID, Message: a.Message}
		out = append(out, found{f, accepted[about(a.Kind, a.List, a.ID)], &a})
	}
	return out
}

// unchecked reports whether something on the chain could not be checked. A verdict of drift may hide that.
func unchecked(c *audit.Chain) bool {
	open := func(f audit.Finding) bool { return f.State == audit.Still }
	return c.Verdict == audit.Unknown || slices.ContainsFunc(c.Targets, func(t audit.Target) bool {
		return t.Verdict == audit.Unknown || len(t.Reasons) > 0 || slices.ContainsFunc(t.Findings, open)
	})
}

var severities = map[audit.Severity]int{audit.Critical: -2, audit.Warning: -1}

// CompareSeverities orders findings, the most severe first.
func CompareSeverities(a, b audit.Severity) int { return severities[a] - severities[b] }

// Open counts the findings of earlier audits that this one could not check again, and returns the worst: the most severe, then
// the oldest. It returns nil without one.
func Open(r *audit.Report) (n int, worst *audit.Finding) {
	for _, t := range Targets(r) {
		for i := range t.Findings {
			f := &t.Findings[i]
			if f.State != audit.Still {
				continue
			}
			if n++; worst == nil || worse(f, worst) {
				worst = f
			}
		}
	}
	return n, worst
}

func worse(a, b *audit.Finding) bool {
	if order := CompareSeverities(a.Severity, b.Severity); order != 0 {
		return order < 0
	}
	return a.FirstSeen != nil && b.FirstSeen != nil && a.FirstSeen.Before(*b.FirstSeen)
}

// openSince says since when a finding is open, or "" if the report's audit saw it.
func openSince(r *audit.Report, f audit.Finding) string {
	if f.State != audit.Still {
		return ""
	}
	confirmed := ""
	if f.LastConfirmedAt != nil {
		confirmed = ", last confirmed " + Span(r.FinishedAt.Sub(*f.LastConfirmedAt)) + " ago"
	}
	return "open" + after(" since ", when(f.FirstSeen)) + confirmed + ": this audit could not check it"
}

// Span formats a duration in its largest unit, as the page's script does.
func Span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(0, d)/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}
