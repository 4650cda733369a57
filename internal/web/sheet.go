package web

import "github.com/kms-auditor/kms-auditor/audit"

// What one page shows at most: a browser chokes on more, and nobody reads it there.
const (
	maxRows     = 1000 // entries
	maxFindings = 100  // findings, and as many accepted differences
)

// foldFrom is the number of entries in order from which they are folded away.
const foldFrom = 25

// worst is the order of entries: what disagrees comes first.
var worst = []audit.EntryVerdict{audit.Mismatch, audit.Unverifiable, audit.Pending, audit.Accepted, audit.Match}

// gravity is the order of findings; what is neither comes last.
var gravity = map[audit.Severity]int{audit.Critical: -2, audit.Warning: -1}

// sheet is what the status page shows of a report: all of it, as far as the limits go, and the worst of all contracts first.
type sheet struct {
	audit.Chain
	Targets []*shown
}

// shown is what the page shows of a contract.
type shown struct {
	*audit.Target
	Chain        string
	Findings     []audit.Finding
	Accepted     []audit.Acceptance
	Open, Folded []audit.Entry // those to be seen at once, the worst first, and those in order where they are many
}

// Rows is how many entries the page shows.
func (s *shown) Rows() int { return len(s.Open) + len(s.Folded) }

func sheets(r *audit.Report) []sheet {
	if r == nil {
		return nil
	}
	out, all := make([]sheet, len(r.Chains)), []*shown{}
	accepted := maxFindings
	for i := range r.Chains {
		out[i].Chain = r.Chains[i]
		for j := range r.Chains[i].Targets {
			s := &shown{Target: &r.Chains[i].Targets[j], Chain: r.Chains[i].Chain}
			n := min(accepted, len(s.Target.Accepted))
			s.Accepted, accepted = s.Target.Accepted[:n], accepted-n
			out[i].Targets, all = append(out[i].Targets, s), append(all, s)
		}
	}
	findings := maxFindings
	for g := -len(gravity); g <= 0; g++ {
		for _, s := range all {
			s.Findings = pick(s.Findings, s.Target.Findings, &findings, func(f *audit.Finding) bool { return gravity[f.Severity] == g })
		}
	}
	rows := maxRows
	for _, v := range worst {
		for _, s := range all {
			to := &s.Open
			if v == audit.Match && s.Counts.Match >= foldFrom {
				to = &s.Folded
			}
			*to = pick(*to, s.Entries, &rows, func(e *audit.Entry) bool { return e.Verdict == v })
		}
	}
	return out
}

// pick appends what is wanted of a list, at most left of it.
func pick[T any](to, list []T, left *int, wanted func(*T) bool) []T {
	for i := 0; i < len(list) && *left > 0; i++ {
		if wanted(&list[i]) {
			to, *left = append(to, list[i]), *left-1
		}
	}
	return to
}
