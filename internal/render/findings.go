package render

import (
	"fmt"
	"slices"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
)

// found is a finding, or a difference that the operator accepts.
type found struct {
	audit.Finding
	entry    *audit.Entry      // that shows it; nil: it is about the contract, or this audit did not see it
	accepted *audit.Acceptance // nil: it counts
}

// allFound returns the findings of t, and then what is accepted.
func allFound(t *audit.Target) (out []found) {
	about := func(k audit.Kind, l audit.List, id string) [3]string { return [3]string{string(k), string(l), id} }
	shown := map[[3]string][]*audit.Entry{}
	for i := range t.Entries {
		if e := &t.Entries[i]; e.Kind != "" {
			k := about(e.Kind, e.List, e.ID)
			shown[k] = append(shown[k], e)
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
		next := found{Finding: f, accepted: &a}
		if i := slices.IndexFunc(t.Entries, func(e audit.Entry) bool {
			return e.Verdict == audit.Accepted && e.Kind == a.Kind && e.List == a.List && e.ID == a.ID
		}); i >= 0 {
			next.entry = &t.Entries[i]
		}
		out = append(out, next)
	}
	return out
}

// unchecked reports whether something on the chain could not be checked, which drift elsewhere may hide.
func unchecked(c *audit.Chain) bool {
	for _, t := range c.Targets {
		if t.Verdict == audit.Unknown || len(t.Reasons) > 0 || slices.ContainsFunc(t.Findings, func(f audit.Finding) bool { return f.State == audit.Still }) {
			return true
		}
	}
	return c.Verdict == audit.Unknown
}

var severities = map[audit.Severity]int{audit.Critical: -2, audit.Warning: -1}

// CompareSeverities orders findings, the most severe first.
func CompareSeverities(a, b audit.Severity) int { return severities[a] - severities[b] }

// Open counts the findings of earlier audits that the report's audit could not look at again, and returns the worst of
// them: the most severe, then the oldest. It returns nil if nothing is open.
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

// openSince says since when a finding is open that the report's audit could not look at again; empty if it saw it.
func openSince(r *audit.Report, f audit.Finding) string {
	if f.State != audit.Still {
		return ""
	}
	confirmed := ""
	if f.LastConfirmedAt != nil {
		confirmed = ", last confirmed " + Span(r.FinishedAt.Sub(*f.LastConfirmedAt)) + " ago"
	}
	return "open" + after(" since ", when(f.FirstSeen)) + confirmed + ": this audit could not look"
}

// Span spells a time span in its largest unit, as the page's script does.
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
