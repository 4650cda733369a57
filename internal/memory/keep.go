package memory

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/history"
)

// Keep adds an audit: its report, what is open after it, and what changed by it. What did not change but for times and
// blocks is not written again. What could not be written is with the next audit.
func (m *Memory) Keep(r *audit.Report, open []audit.Tracked, changes []audit.Change) error {
	m.findings = findings{open, m.resolved(changes, r.FinishedAt)}
	m.due = m.due || len(changes) > 0 || len(open) > 0 && r.FinishedAt.Sub(m.written).Abs() >= rest
	var blobs []history.Blob
	audits, kept := slices.Clone(m.audits), map[string]audit.Chain{}
	for _, c := range r.Chains {
		now := Chain{r.AuditID, r.Version, r.StartedAt, r.FinishedAt, c}
		i := slices.IndexFunc(audits, func(a Chain) bool { return a.Chain.Chain == c.Chain })
		if i < 0 {
			i, audits = len(audits), append(audits, Chain{})
		}
		aside, err := m.compared(audits[i], now)
		if err != nil {
			return err
		}
		blobs = append(blobs, aside...)
		if kept[c.Chain] = still(c); !reflect.DeepEqual(kept[c.Chain], m.kept[c.Chain]) {
			b, err := pack(lastBlob+c.Chain, now)
			if err != nil {
				return err
			}
			blobs = append(blobs, b)
		}
		now.Errors, now.Targets = nil, nil
		audits[i] = now
	}
	b, err := pack(auditsBlob, audits)
	if err != nil {
		return err
	}
	blobs = append(blobs, b)
	if m.due {
		if b, err = pack(findingsBlob, m.findings); err != nil {
			return err
		}
		blobs = append(blobs, b)
	}
	untold := Untold{r.AuditID, changes}
	if len(changes) > 0 {
		if b, err = pack(untoldBlob, untold); err != nil {
			return err
		}
		blobs = append(blobs, b)
	}
	if err := m.store.SaveAll(blobs...); err != nil {
		return err
	}
	if len(changes) > 0 {
		m.untold = untold
	}
	m.audits = audits
	maps.Copy(m.kept, kept)
	if m.due {
		m.written, m.due = r.FinishedAt, false
	}
	return nil
}

// resolved are the last findings that were resolved, by now.
func (m *Memory) resolved(changes []audit.Change, now time.Time) []Resolved {
	all := slices.Clone(m.findings.Resolved)
	for _, c := range changes {
		if c.Type == audit.Resolved {
			all = append(all, Resolved{audit.Tracked{
				Chain: c.Chain, Contract: c.Contract, Finding: c.Finding, FirstSeen: c.FirstSeen, LastSeen: c.LastSeen,
			}, now})
		}
	}
	return all[max(len(all)-maxResolved, 0):]
}

// compared keeps aside what before saw where now could not compare, and forgets it where now could again.
func (m *Memory) compared(before, now Chain) ([]history.Blob, error) {
	switch {
	case before.Compared() == now.Compared():
		return nil, nil
	case now.Compared():
		return []history.Blob{{Name: comparedBlob + now.Chain.Chain}}, nil
	}
	c, err := m.last(before)
	if err != nil {
		return nil, err
	}
	b, err := pack(comparedBlob+c.Chain.Chain, c)
	return []history.Blob{b}, err
}

// still is c without what every audit changes. Equal targets of later reports share their entries, so that comparing
// them takes no time.
func still(c audit.Chain) audit.Chain {
	c.Block, c.Duration = nil, 0
	if c.Claim != nil {
		claim := *c.Claim
		claim.FetchedAt, claim.RequestID = time.Time{}, ""
		c.Claim = &claim
	}
	return c
}

// last completes the short record of an audit.
func (m *Memory) last(short Chain) (Chain, error) {
	var c Chain
	if err := m.load(lastBlob+short.Chain.Chain, &c); err != nil {
		return Chain{}, err
	}
	short.Errors, short.Targets = c.Errors, c.Targets
	return short, nil
}

// Last returns what the last audit found on each chain, whether or not it could compare.
func (m *Memory) Last() ([]Chain, error) {
	var out []Chain
	for _, short := range m.audits {
		c, err := m.last(short)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// Compared returns what the last audit that read both sources found on each chain; one that never did is left out.
func (m *Memory) Compared() ([]Chain, error) {
	all, err := m.Last()
	if err != nil {
		return nil, err
	}
	var out []Chain
	for _, c := range all {
		if !c.Compared() {
			old := Chain{}
			if err := m.load(comparedBlob+c.Chain.Chain, &old); err != nil {
				return nil, err
			}
			c = old
		}
		if c.Compared() {
			out = append(out, c)
		}
	}
	return out, nil
}

// Report puts the last audits of all chains into one report, in the name of the newest; nil: there was none.
func (m *Memory) Report() (*audit.Report, error) {
	all, err := m.Last()
	if err != nil || len(all) == 0 {
		return nil, err
	}
	newest := slices.MaxFunc(all, func(a, b Chain) int { return a.StartedAt.Compare(b.StartedAt) })
	r := &audit.Report{
		Schema: audit.Schema, AuditID: newest.AuditID, Version: newest.Version,
		StartedAt: newest.StartedAt, FinishedAt: newest.FinishedAt, Verdict: all[0].Verdict,
	}
	for _, c := range all {
		r.Verdict = audit.Worst(r.Verdict, c.Verdict)
		r.Chains = append(r.Chains, c.Chain)
	}
	return r, nil
}
