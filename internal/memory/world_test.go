package memory_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/history"
	"github.com/kms-auditor/kms-auditor/internal/memory"
)

var (
	contract = common.HexToAddress("0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C")
	target   = history.Target{ChainID: 8453, Contract: contract}
	device   = "0x" + strings.Repeat("d1", 32)
	noon     = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

	control = audit.Control{Owner: "0x0000000000000000000000000000000000000001", CodeHash: "0x" + strings.Repeat("c0", 32)}
	taken   = audit.Control{Owner: "0x0000000000000000000000000000000000000002", CodeHash: control.CodeHash}
)

// life is a program on one state file, that is started again and again.
type life struct {
	t       *testing.T
	path    string
	store   *history.Store
	memory  *memory.Memory
	tracker *audit.Tracker
	audits  int
}

func newLife(t *testing.T) *life {
	l := &life{t: t, path: filepath.Join(t.TempDir(), "state.db")}
	l.restart()
	return l
}

// restart ends the program as a kill does: nothing is written, and the file is free.
func (l *life) restart() {
	l.t.Helper()
	if l.store != nil {
		l.store.Close()
	}
	var err error
	if l.store, err = history.Open(l.path); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { l.store.Close() })
	if l.memory, err = memory.New(l.store); err != nil {
		l.t.Fatal(err)
	}
	l.tracker = audit.NewTracker(l.memory.Open())
}

// audit has an audit find a state of the world, and returns what it logs.
func (l *life) audit(state string, at time.Time) []audit.Change {
	l.t.Helper()
	l.audits++
	r := report(state, at)
	r.Chains[0].Duration = time.Duration(l.audits)
	changes := l.tracker.Update(r)
	if err := l.memory.Keep(r, l.tracker.Open(), changes); err != nil {
		l.t.Fatal(err)
	}
	return changes
}

// report is what an audit finds: match, drift, taken (by another owner) or down (no source).
func report(state string, at time.Time) *audit.Report {
	e := audit.Entry{List: audit.Device, ID: device, Claim: audit.ClaimAllowed, OnChain: audit.ChainAllowed, Verdict: audit.Match, Assurance: audit.Single}
	who := control
	tg := audit.Target{
		Contract: contract.Hex(), Verdict: audit.Consistent, Reasons: []string{}, Assurance: audit.Single, Completeness: audit.Unchecked,
		Counts: audit.Counts{Match: 1}, Control: &who, Judged: true, Findings: []audit.Finding{},
	}
	c := audit.Chain{
		Chain: "base", ChainID: 8453, Policy: "latest", Errors: []audit.SourceError{},
		Block: &audit.Block{Number: uint64(at.Unix()), Hash: "0x" + strings.Repeat("b0", 32), Time: at},
		Claim: &audit.Claim{FetchedAt: at, SHA256: strings.Repeat("ab", 32), APIVersion: "2026-06-23", RequestID: at.String()},
	}
	found := func(f audit.Finding) {
		f.Severity, f.Runbook, tg.Verdict = f.Kind.Severity(), f.Kind.Runbook(), audit.Drift
		tg.Findings = append(tg.Findings, f)
	}
	switch state {
	case "drift":
		e.OnChain, e.Verdict, e.Kind, e.Severity = audit.ChainDenied, audit.Mismatch, audit.ClaimAllowedChainDenied, audit.Warning
		tg.Counts = audit.Counts{Mismatch: 1}
		found(audit.Finding{Kind: e.Kind, List: e.List, ID: e.ID})
	case "taken":
		who = taken
		found(audit.Finding{Kind: audit.OwnerChanged})
	case "down":
		c.Block, c.Claim = nil, nil
		c.Errors = []audit.SourceError{{Stage: audit.StageAPI, Source: "api", Message: "down"}}
		tg.Verdict, tg.Counts, tg.Control = audit.Unknown, audit.Counts{}, nil
		e = audit.Entry{}
	}
	tg.Entries = []audit.Entry{}
	if e.ID != "" {
		tg.Entries = append(tg.Entries, e)
	}
	c.Targets, c.Verdict = []audit.Target{tg}, tg.Verdict
	return &audit.Report{
		Schema: audit.Schema, AuditID: "A" + at.Format("150405"), Version: "v1", StartedAt: at.Add(-time.Second), FinishedAt: at,
		Verdict: tg.Verdict, Chains: []audit.Chain{c},
	}
}
