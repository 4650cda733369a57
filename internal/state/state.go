// Package state keeps everything that outlives an audit in one file: each chain's input to the next audit, the timeline of the
// contracts' lists, the last reports, resolved findings, and changes that are not logged yet.
//
// Everything is in memory. Save atomically replaces the file with a snapshot. Only one process has a file open; View reads it
// without a lock. bbolt databases of earlier releases are converted. Timeline and Explain query the state for people.
package state

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/kms-auditor/kms-auditor/audit"
)

// State is the content of a state file. It is safe for concurrent use. Values that its methods return are read-only.
type State struct {
	path string       // links resolved; empty if in memory only
	lock *flock.Flock // nil if the state is read-only

	mu       sync.RWMutex
	chains   []*chain // in order of first appearance
	scans    map[Target]*scan
	resolved []Resolved // latest last
	outbox   outbox
	due      bool // something changed that is worth a write
	stale    bool // only times and block numbers changed

	saving  sync.Mutex
	old     []byte        // content of the converted file, until it is backed up
	size    int           // of the last snapshot
	written time.Time     // time of the last snapshot
	cost    time.Duration // duration of the last write
}

// chain is the state of one chain.
type chain struct {
	Name      string      `json:"name"`
	ID        uint64      `json:"chain_id"` // 0 if not known yet
	Prior     audit.Prior `json:"prior"`
	Last      *Chain      `json:"last,omitempty"`
	Compared  *Chain      `json:"compared,omitempty"` // the last audit that compared, if Last did not
	Forgotten []forgotten `json:"forgotten,omitempty"`
}

// adopt converts code fields that older releases wrote.
func (c *chain) adopt() {
	for _, k := range c.Prior.Contracts {
		if k.Baseline != nil {
			k.Baseline.Control.Adopt(k.Address.Hex(), k.Baseline.Control.Implementation)
		}
	}
	for _, last := range []*Chain{c.Last, c.Compared} {
		for _, t := range targetsOf(last) {
			if t.Control != nil {
				t.Control.Adopt(t.Contract, t.Control.Implementation)
			}
			if t.Baseline != nil {
				t.Baseline.Control.Adopt(t.Contract, t.Baseline.Control.Implementation)
			}
		}
	}
}

// Chain is what an audit found on one chain.
type Chain struct {
	AuditID    string    `json:"audit_id"`
	Version    string    `json:"version"` // of the program
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	audit.Chain
}

// compared reports whether the audit read both the chain and the claim, if there are claims.
func (c *Chain) compared() bool {
	return c != nil && (c.Claim != nil || c.Claims == audit.ClaimNone) && c.Block != nil
}

// Resolved is a resolved finding.
type Resolved struct {
	Chain      string        `json:"chain"`
	Contract   string        `json:"contract"`
	Finding    audit.Finding `json:"finding"`
	ResolvedAt time.Time     `json:"resolved_at"`
}

// outbox has the changes of an audit until they are logged.
type outbox struct {
	AuditID string         `json:"audit_id"`
	Changes []audit.Change `json:"changes"`
}

const maxResolved = 1000

// chainOf returns a chain by its name, or nil.
func (s *State) chainOf(name string) *chain {
	for _, c := range s.chains {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// chain returns the state of a chain. It adds the chain if it is new.
func (s *State) chain(name string) *chain {
	c := s.chainOf(name)
	if c == nil {
		c = &chain{Name: name}
		s.chains = append(s.chains, c)
	}
	return c
}

// SetChainID sets the configured chain id of a chain. If the name had another id before, its state is dropped except for open
// findings, which stay open until an audit checks them.
func (s *State) SetChainID(name string, id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A converted file may have a chain under its id instead of its name.
	if c := s.chainOf(strconv.FormatUint(id, 10)); c != nil && c.ID == id && s.chainOf(name) == nil {
		for _, t := range s.targets() {
			if t.Chain == c.Name {
				s.scans[Target{name, t.Contract, t.Public}] = s.scans[t]
				delete(s.scans, t)
			}
		}
		c.Name, s.due = name, true
	}
	c := s.chain(name)
	if c.ID != 0 && c.ID != id {
		open := slices.Clone(c.Prior.Open)
		for i := range open {
			open[i].Block, open[i].Assurance, open[i].Trust = 0, "", ""
		}
		*c = chain{Name: name, Prior: audit.Prior{Open: open}, Forgotten: c.Forgotten}
		maps.DeleteFunc(s.scans, func(t Target, _ *scan) bool { return t.Chain == name })
		s.due = true
	}
	c.ID = id
}

// Prior returns what the next audit of a chain needs to know.
func (s *State) Prior(name string) audit.Prior {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if c := s.chainOf(name); c != nil {
		return c.Prior
	}
	return audit.Prior{}
}

// Record stores an audit: the Prior of the next one by chain, the report, and the changes.
func (s *State) Record(r *audit.Report, next map[string]audit.Prior, changes []audit.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range r.Chains {
		now := &Chain{r.AuditID, r.Version, r.StartedAt, r.FinishedAt, c}
		known := s.chain(c.Chain)
		known.ID = c.ChainID
		if p, ok := next[c.Chain]; ok {
			known.Prior = p
		}
		s.due = s.due || !reflect.DeepEqual(known.Last.outline(), now.outline())
		if now.compared() {
			known.Compared = nil
		} else if known.Last.compared() {
			known.Compared = known.Last
		}
		known.Last = now
	}
	s.stale = true
	s.change(r.AuditID, r.FinishedAt, changes)
}

// change adds changes to the outbox, and resolved findings to the history.
func (s *State) change(auditID string, now time.Time, changes []audit.Change) {
	if len(changes) == 0 {
		return
	}
	s.due = true
	s.outbox = outbox{auditID, slices.Concat(s.outbox.Changes, changes)}
	all := slices.Clone(s.resolved)
	for _, c := range changes {
		if c.Type == audit.Resolved {
			all = append(all, Resolved{c.Chain, c.Contract, c.Finding, now})
		}
	}
	s.resolved = all[max(len(all)-maxResolved, 0):]
}

// outline returns c without fields that every audit changes, and without entries and findings.
func (c *Chain) outline() audit.Chain {
	if c == nil {
		return audit.Chain{}
	}
	out := c.Chain
	out.Block, out.Duration, out.Targets = nil, 0, slices.Clone(c.Targets)
	if c.Claim != nil {
		out.Claim = &audit.Claim{SHA256: c.Claim.SHA256}
	}
	for i := range out.Targets {
		out.Targets[i].Entries, out.Targets[i].Findings = nil, nil // changes cover these
	}
	return out
}

// Outbox returns changes that were saved but not logged, because the process ended in between.
func (s *State) Outbox() (auditID string, changes []audit.Change) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.outbox.AuditID, s.outbox.Changes
}

// MarkLogged clears the outbox after it was logged.
func (s *State) MarkLogged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due = s.due || len(s.outbox.Changes) > 0
	s.outbox = outbox{}
}

// Last returns what the last audit found on each chain, whether or not it could compare.
func (s *State) Last() []Chain {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []Chain
	for _, c := range s.chains {
		if c.Last != nil {
			out = append(out, *c.Last)
		}
	}
	return out
}

// LastCompared returns the last audit of a chain that compared, or nil if c did, or if none is known.
func (s *State) LastCompared(c *audit.Chain) *Chain {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if known := s.chainOf(c.Chain); known != nil && !(&Chain{Chain: *c}).compared() {
		return known.Compared
	}
	return nil
}

// Report returns the last audits of all chains as one report with the id of the newest, or nil before the first audit.
func (s *State) Report() *audit.Report {
	all := s.Last()
	if len(all) == 0 {
		return nil
	}
	newest := slices.MaxFunc(all, func(a, b Chain) int { return a.StartedAt.Compare(b.StartedAt) })
	var chains []audit.Chain
	for _, c := range all {
		chains = append(chains, c.Chain)
	}
	return audit.NewReport(newest.AuditID, newest.Version, newest.StartedAt, newest.FinishedAt, chains)
}

// Resolved lists resolved findings, latest last.
func (s *State) Resolved() []Resolved {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.resolved
}

// Chains lists the names of all chains in the state.
func (s *State) Chains() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []string
	for _, c := range s.chains {
		out = append(out, c.Name)
	}
	return out
}
