package render

import (
	"fmt"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
)

var severities = map[audit.Severity]int{audit.Critical: -2, audit.Warning: -1}

// CompareSeverities orders findings, the most severe first.
func CompareSeverities(a, b audit.Severity) int { return severities[a] - severities[b] }

// Open counts the findings of earlier audits that the report's audit could not look at again, and returns the worst of
// them: the most severe, then the oldest. nil: there is none.
func Open(r *audit.Report) (n int, worst *audit.Finding) {
	for _, c := range r.Chains {
		for _, t := range c.Targets {
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
	s := "open"
	if f.FirstSeen != nil {
		s += " since " + when(f.FirstSeen)
	}
	if f.LastConfirmedAt != nil {
		s += ", last confirmed " + Span(r.FinishedAt.Sub(*f.LastConfirmedAt)) + " ago"
	}
	return s + ": this audit could not look"
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
