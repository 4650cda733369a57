package audit

import (
	"slices"
	"time"
)

// ChangeType tells what became of a finding. The values are the events of the log.
type ChangeType string

// The change types.
const (
	Opened   ChangeType = "finding_opened"
	Open     ChangeType = "finding_open" // a reminder, once a day
	Resolved ChangeType = "finding_resolved"
)

// Change is a finding that opened, is open still, or was resolved.
type Change struct {
	Type      ChangeType
	Chain     string
	Contract  string
	Finding   Finding
	FirstSeen time.Time
}

// Tracker follows findings from audit to audit. What an audit could not check again stays open.
// The zero value is ready; it is not safe for concurrent use.
type Tracker struct {
	open map[findingKey]*tracked
}

type findingKey struct {
	chain, contract string
	kind            Kind
	list            List
	id              string
}

type tracked struct {
	finding     Finding
	first, told time.Time
}

const reminder = 24 * time.Hour

// Update notes the findings of a report, writes into it since when each is known, and returns what changed:
// findings in the order of the report, then what was resolved.
func (t *Tracker) Update(r *Report) []Change {
	if t.open == nil {
		t.open = map[findingKey]*tracked{}
	}
	at := r.FinishedAt
	var changes []Change
	present := map[findingKey]bool{}
	settled := map[string]bool{} // chains whose list of contracts was fetched
	checked := map[[2]string]*Target{}
	for i := range r.Chains {
		c := &r.Chains[i]
		settled[c.Chain] = c.Claim != nil
		for j := range c.Targets {
			target := &c.Targets[j]
			checked[[2]string{c.Chain, target.Contract}] = target
			for n := range target.Findings {
				f := &target.Findings[n]
				k := findingKey{c.Chain, target.Contract, f.Kind, f.List, f.ID}
				if present[k] {
					continue
				}
				present[k] = true
				seen, known := t.open[k]
				if !known {
					seen = &tracked{first: at, told: at}
					t.open[k] = seen
				}
				seen.finding = *f
				// A target that did not change is shared with earlier reports, which others may be reading.
				if f.FirstSeen != &seen.first {
					f.FirstSeen = &seen.first
					if e := target.entry(f); e != nil {
						e.FirstSeen = &seen.first
					}
				}
				switch {
				case !known:
					changes = append(changes, Change{Opened, k.chain, k.contract, *f, seen.first})
				case at.Sub(seen.told) >= reminder:
					seen.told = at
					changes = append(changes, Change{Open, k.chain, k.contract, *f, seen.first})
				}
			}
		}
	}
	var resolved []Change
	for k, seen := range t.open {
		target := checked[[2]string{k.chain, k.contract}]
		if present[k] || target == nil && !settled[k.chain] || target != nil && !target.settles(k) {
			continue
		}
		delete(t.open, k)
		resolved = append(resolved, Change{Resolved, k.chain, k.contract, seen.finding, seen.first})
	}
	slices.SortFunc(resolved, func(a, b Change) int { return a.FirstSeen.Compare(b.FirstSeen) })
	return append(changes, resolved...)
}

// settles tells whether the target was checked well enough to say that a finding which it lacks is gone.
func (t *Target) settles(k findingKey) bool {
	if !t.Compared() && t.Verdict == Unknown {
		return false
	}
	for _, e := range t.Entries {
		if e.List == k.list && e.ID == k.id && e.Verdict == Unverifiable && e.Kind == "" {
			return false
		}
	}
	return k.list != "" || t.Verdict != Unknown
}

// entry returns the entry that a finding is about; nil: the target as a whole.
func (t *Target) entry(f *Finding) *Entry {
	for i := range t.Entries {
		if e := &t.Entries[i]; e.Kind == f.Kind && e.List == f.List && e.ID == f.ID {
			return e
		}
	}
	return nil
}
