package audit

import (
	"cmp"
	"slices"
	"time"

	"github.com/kms-auditor/kms-auditor/internal/hexid"
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
	Type      ChangeType `json:"type"`
	Chain     string     `json:"chain"`
	Contract  string     `json:"contract"`
	Finding   Finding    `json:"finding"`
	FirstSeen time.Time  `json:"first_seen"`
	LastSeen  time.Time  `json:"last_seen"`
}

// Tracked is an open finding, as it outlives the process. Times are UTC, and Block is where it was last seen.
type Tracked struct {
	Chain     string    `json:"chain"`
	Contract  string    `json:"contract"`
	Finding   Finding   `json:"finding"`
	FirstSeen time.Time `json:"first_seen"`
	LastSeen  time.Time `json:"last_seen"`
	Told      time.Time `json:"told"` // of the last Opened or Open
	Block     uint64    `json:"block,omitempty"`
}

// Tracker follows findings from audit to audit. What an audit could not check again stays open.
// The zero value is ready; it is not safe for concurrent use.
type Tracker struct {
	open    map[findingKey]*Tracked
	version uint64
}

// NewTracker goes on from what another Tracker had open.
func NewTracker(open []Tracked) *Tracker {
	t := &Tracker{open: map[findingKey]*Tracked{}}
	for _, seen := range open {
		t.open[seen.key()] = &seen
	}
	return t
}

// Open lists what is open, the oldest first.
func (t *Tracker) Open() []Tracked {
	out := make([]Tracked, 0, len(t.open))
	for _, seen := range t.open {
		out = append(out, *seen)
	}
	slices.SortFunc(out, func(a, b Tracked) int {
		return cmp.Or(a.FirstSeen.Compare(b.FirstSeen), a.key().compare(b.key()))
	})
	return out
}

// Named returns the ids of a contract that may differ, by what is open. Version changes whenever it does.
func (t *Tracker) Named(chain, contract string) (n Named) {
	for k := range t.open {
		if k.chain != chain || k.contract != contract || !k.kind.OfEntry() || k.kind.Makes() != Drift {
			continue
		}
		if id, err := hexid.ParseID(k.id); err == nil {
			if k.list == Device {
				n.Devices = append(n.Devices, id)
			} else {
				n.Images = append(n.Images, id)
			}
		}
	}
	return n
}

// Version is how often a finding opened or was resolved.
func (t *Tracker) Version() uint64 { return t.version }

type findingKey struct {
	chain, contract string
	kind            Kind
	list            List
	id              string
}

func (k findingKey) compare(o findingKey) int {
	return cmp.Or(cmp.Compare(k.chain, o.chain), cmp.Compare(k.contract, o.contract),
		cmp.Compare(k.kind, o.kind), cmp.Compare(k.list, o.list), cmp.Compare(k.id, o.id))
}

func (t *Tracked) key() findingKey {
	return findingKey{t.Chain, t.Contract, t.Finding.Kind, t.Finding.List, t.Finding.ID}
}

func (t *Tracked) change(what ChangeType) Change {
	return Change{what, t.Chain, t.Contract, t.Finding, t.FirstSeen, t.LastSeen}
}

const reminder = 24 * time.Hour

// Update notes the findings of a report, writes into it since when each is known, and returns what changed:
// findings in the order of the report, then what was resolved.
func (t *Tracker) Update(r *Report) []Change {
	if t.open == nil {
		t.open = map[findingKey]*Tracked{}
	}
	at := r.FinishedAt
	var changes []Change
	present := map[findingKey]bool{}
	chains := map[string]*Chain{}
	checked := map[[2]string]*Target{}
	for i := range r.Chains {
		c := &r.Chains[i]
		chains[c.Chain] = c
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
				switch {
				case !known:
					seen = &Tracked{Chain: k.chain, Contract: k.contract, FirstSeen: at, Told: at}
					t.open[k] = seen
					t.version++
				case at.Before(seen.FirstSeen): // the clock was set back; reports keep what they say
					again := *seen
					again.FirstSeen = at
					seen, t.open[k] = &again, &again
				}
				// A target that did not change is shared with earlier reports, which others may be reading.
				if f.FirstSeen != &seen.FirstSeen {
					f = target.since(n, &seen.FirstSeen)
				}
				seen.Finding, seen.LastSeen = *f, at
				if c.Block != nil {
					seen.Block = c.Block.Number
				}
				switch {
				case !known:
					changes = append(changes, seen.change(Opened))
				case at.Before(seen.Told):
					seen.Told = at
				case at.Sub(seen.Told) >= reminder:
					seen.Told = at
					changes = append(changes, seen.change(Open))
				}
			}
		}
	}
	var resolved []Change
	for k, seen := range t.open {
		c, target := chains[k.chain], checked[[2]string{k.chain, k.contract}]
		switch {
		case present[k] || c == nil || c.Block != nil && c.Block.Number < seen.Block:
		case target != nil && target.settles(k) || target == nil && c.drops(k.kind):
			delete(t.open, k)
			t.version++
			resolved = append(resolved, seen.change(Resolved))
		}
	}
	slices.SortFunc(resolved, func(a, b Change) int { return a.FirstSeen.Compare(b.FirstSeen) })
	return append(changes, resolved...)
}

// since writes into a finding, and into the entry that it is about, since when it is known.
func (t *Target) since(n int, first *time.Time) *Finding {
	if t.Findings[n].FirstSeen != nil {
		t.Findings, t.Entries = slices.Clone(t.Findings), slices.Clone(t.Entries)
	}
	f := &t.Findings[n]
	f.FirstSeen = first
	if e := t.entry(f); e != nil {
		e.FirstSeen = first
	}
	return f
}

// drops tells whether a contract that is not in the report is audited no more: the API's answer is about this chain and
// lists others.
func (c *Chain) drops(k Kind) bool {
	switch {
	case c.Claim == nil:
		return false
	case k == ChainMismatch: // a contract that such an answer made up goes with the answer
		return true
	case slices.Contains(ofList, k) && !c.Crossed:
		return false
	}
	return !c.Elsewhere && len(c.Targets) > 0
}

// byClaim are the kinds that take an answer of the API to be over.
var byClaim = []Kind{ClaimAllowedChainDenied, ClaimDeniedChainAllowed, UnlistedChainAllowed}

// settles tells whether the target was checked well enough to say that a finding which it lacks is gone.
func (t *Target) settles(k findingKey) bool {
	is := func(kind Kind) func(Finding) bool { return func(f Finding) bool { return f.Kind == kind } }
	of := func(a Acceptance) bool { return a.List == k.list && a.ID == k.id }
	switch {
	case slices.ContainsFunc(t.Findings, is(ContractUnexpected)): // the operator has it audited no more
		return true
	case !t.Compared():
		return false
	case k.kind == AcceptExpired || k.kind == AcceptUnused:
		return !slices.ContainsFunc(t.Unmet, of)
	}
	whole := t.Control != nil // nothing of it was left unread
	for _, e := range t.Entries {
		left := e.Reason == ReasonNotRead || e.Reason == ReasonUnconfirmed || e.Reason == ReasonNotAudited
		if k.list != "" && e.List == k.list && e.ID == k.id {
			return !left && (e.Reason != ReasonClaimAbsent || !slices.Contains(byClaim, k.kind))
		}
		whole = whole && !left
	}
	switch k.kind {
	case StorageUnaccounted:
		return t.Completeness == Complete || slices.ContainsFunc(t.Accepted, func(a Acceptance) bool { return a.Kind == k.kind })
	case OwnerChanged, ImplementationChanged, CodeChanged:
		return t.Judged
	case GatewayAppIDMismatch, KMSPubkeyMismatch, KMSContractMismatch:
		return slices.Contains(t.Crossed, k.kind)
	case ProviderDisagreement, ProofInvalid, GetterDisagrees:
		return whole
	case ClaimDeniedChainAllowed, UnlistedChainAllowed, PolicyDeniedAllowed:
		// Listed no more, it has an entry as long as it is trusted, if it was asked for.
		return t.Completeness != Unchecked
	}
	return true
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
