// Package memory keeps in the state file what later audits, and people, want to know of earlier ones: findings and since
// when they are known, the last report, and who controlled each contract.
//
// New reads what was kept; Keep adds an audit to it, in one transaction; what changed is logged then, and Told says so, so
// that a process which is killed in between is not the last that knows. Baselines may be used from several goroutines, all
// else from one.
package memory

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/history"
	"github.com/kms-auditor/kms-auditor/internal/quote"
)

// The names of blobs: one of each under the zero target, but for the baselines, of which each contract has one, and for
// the chains, whose names follow.
const (
	findingsBlob = "findings"
	auditsBlob   = "audits"
	lastBlob     = "last:"
	comparedBlob = "compared:"
	untoldBlob   = "untold"
	baselineBlob = "baseline"
)

const (
	maxResolved = 1000
	maxBlob     = 64 << 20  // bytes before packing; a report of 100,000 entries has half as many
	rest        = time.Hour // after which LastSeen of what is open is written again
)

// Chain is what an audit found on one chain.
type Chain struct {
	AuditID    string    `json:"audit_id"`
	Version    string    `json:"version"` // of the program
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	audit.Chain
}

// Compared tells whether the audit read both sources.
func (c *Chain) Compared() bool { return c.Claim != nil && c.Block != nil }

// Resolved is a finding that is no more.
type Resolved struct {
	audit.Tracked
	ResolvedAt time.Time `json:"resolved_at"`
}

// findings is the content of findingsBlob.
type findings struct {
	Open     []audit.Tracked `json:"open"`     // the oldest first
	Resolved []Resolved      `json:"resolved"` // the last of them, the latest last
}

// Untold is what changed by an audit, until it is logged.
type Untold struct {
	AuditID string         `json:"audit_id"`
	Changes []audit.Change `json:"changes"`
}

// Memory is what a Store knows of audits.
type Memory struct {
	store    *history.Store
	findings findings
	audits   []Chain                // the last of each chain, without errors and targets, which its blob has
	kept     map[string]audit.Chain // what Keep wrote last, by chain, as still leaves it
	written  time.Time              // the findings
	due      bool                   // they are to be written
	untold   Untold
}

// New reads what s knows of audits.
func New(s *history.Store) (*Memory, error) {
	m := &Memory{store: s, kept: map[string]audit.Chain{}}
	err := m.load(findingsBlob, &m.findings)
	if err == nil {
		err = m.load(auditsBlob, &m.audits)
	}
	if err == nil {
		err = m.load(untoldBlob, &m.untold)
	}
	for _, t := range s.Targets() {
		if _, _, wrong := baselineOf(s, t); err == nil {
			err = wrong
		}
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Open lists the findings that the last audits left open, the oldest first.
func (m *Memory) Open() []audit.Tracked { return m.findings.Open }

// Resolved lists the last findings that were resolved, the latest last.
func (m *Memory) Resolved() []Resolved { return m.findings.Resolved }

// Untold is what was kept and not told: nothing, unless the process ended in between.
func (m *Memory) Untold() Untold { return m.untold }

// Told notes that everything was told.
func (m *Memory) Told() error {
	if len(m.untold.Changes) == 0 {
		return nil
	}
	err := m.store.Save(history.Target{}, untoldBlob, nil)
	if err == nil {
		m.untold = Untold{}
	}
	return err
}

// load reads a blob of no contract; where there is none, v stays as it is.
func (m *Memory) load(name string, v any) error {
	packed, ok := m.store.Load(history.Target{}, name)
	if !ok {
		return nil
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err == nil {
		err = json.NewDecoder(io.LimitReader(z, maxBlob)).Decode(v)
	}
	if err != nil {
		return fmt.Errorf("reading %s from the state: %s", quote.Plain(name), quote.Plain(err.Error()))
	}
	return nil
}

func pack(name string, v any) (history.Blob, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return history.Blob{}, fmt.Errorf("writing %s to the state: %w", name, err)
	}
	if len(b) > maxBlob {
		return history.Blob{}, fmt.Errorf("writing %s to the state: it has %d bytes, want at most %d", name, len(b), maxBlob)
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	z.Write(b) // a buffer takes everything
	z.Close()
	return history.Blob{Name: name, Data: out.Bytes()}, nil
}
