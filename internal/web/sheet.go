package web

import (
	"slices"

	"github.com/kms-auditor/kms-auditor/audit"
)

// What one page shows at most: a browser chokes on more, and nobody reads it there.
const (
	maxRows     = 1000 // entries
	maxFindings = 100  // findings, and as many accepted differences
)

// foldFrom is the number of entries in order from which they are folded away.
const foldFrom = 25

// worst is the order of entries: what disagrees comes first.
var worst = []audit.EntryVerdict{audit.Mismatch, audit.Unverifiable, audit.Pending, audit.Accepted, audit.Unclaimed, audit.Match}

// severityRank is the order of findings, and of entries with the same verdict.
var severityRank = map[audit.Severity]int{audit.Critical: 0, audit.Warning: 1, audit.Info: 2, "": 2}

const severityRanks = 3

// entryRank is the place of an entry among others: the worst verdict first, and of that the most severe.
func entryRank(e *audit.Entry) int {
	return slices.Index(worst, e.Verdict)*severityRanks + severityRank[e.Severity]
}

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
	Visible, Folded []audit.Entry // those to be seen at once, the worst first, and those in order if they are many
}

// Rows is how many entries the page shows.
func (s *targetView) Rows() int { return len(s.Visible) + len(s.Folded) }

func chainViews(r *audit.Report) []chainView {
	if r == nil {
		return nil
	}
	out, all := make([]chainView, len(r.Chains)), []*targetView{}
	accepted := maxFindings
	for i := range r.Chains {
		out[i].Chain = r.Chains[i]
		for j := range r.Chains[i].Targets {
			s := &targetView{Target: &r.Chains[i].Targets[j], Chain: r.Chains[i].Chain}
			n := min(accepted, len(s.Target.Accepted))
			s.Accepted, accepted = s.Target.Accepted[:n], accepted-n
			out[i].Targets, all = append(out[i].Targets, s), append(all, s)
		}
	}
	findings := maxFindings
	for rank := range severityRanks {
		for _, s := range all {
			s.Findings = pick(s.Findings, s.Target.Findings, &findings, func(f *audit.Finding) bool { return severityRank[f.Severity] == rank })
		}
	}
	rows := maxRows
	for rank := range len(worst) * severityRanks {
		for _, s := range all {
			to := &s.Visible
			if worst[rank/severityRanks] == audit.Match && s.Counts.Match >= foldFrom {
				to = &s.Folded
			}
			*to = pick(*to, s.Entries, &rows, func(e *audit.Entry) bool { return entryRank(e) == rank })
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
