package memory

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/history"
)

// Baselines are those of a chain's contracts.
func (m *Memory) Baselines(chainID uint64) audit.Baselines { return baselines{m.store, chainID} }

type baselines struct {
	store *history.Store
	chain uint64
}

func (b baselines) Baseline(contract common.Address) (audit.Baseline, bool) {
	// New has read them all, and what came later is as save wrote it.
	base, ok, err := baselineOf(b.store, history.Target{ChainID: b.chain, Contract: contract})
	return base, ok && err == nil
}

// Begin leaves what is there already.
func (b baselines) Begin(contract common.Address, base audit.Baseline) error {
	t := history.Target{ChainID: b.chain, Contract: contract}
	if _, known := b.store.Load(t, baselineBlob); known {
		return nil
	}
	return save(b.store, t, base)
}

// Accept makes a control the baseline of a contract, by the operator's word.
func (m *Memory) Accept(chainID uint64, contract common.Address, control audit.Control, at time.Time) error {
	return save(m.store, history.Target{ChainID: chainID, Contract: contract}, audit.Baseline{Control: control, Since: at.UTC(), Accepted: true})
}

func save(s *history.Store, t history.Target, base audit.Baseline) error {
	b, err := json.Marshal(base)
	if err == nil {
		err = s.Save(t, baselineBlob, b)
	}
	if err != nil {
		return fmt.Errorf("keeping the baseline of %s: %w", t, err)
	}
	return nil
}

func baselineOf(s *history.Store, t history.Target) (base audit.Baseline, ok bool, err error) {
	b, ok := s.Load(t, baselineBlob)
	if !ok {
		return base, false, nil
	}
	if err := json.Unmarshal(b, &base); err != nil {
		return base, false, fmt.Errorf("reading the baseline of %s from the state: %w", t, err)
	}
	return base, true, nil
}

// Seen is who controls a contract, by the last audit that read it.
type Seen struct {
	Control audit.Control
	Block   audit.Block
	AuditID string
}

// Seen returns who controls a contract, and false where no audit read it.
func (m *Memory) Seen(chainID uint64, contract common.Address) (Seen, bool, error) {
	last, err := m.Last()
	if err != nil {
		return Seen{}, false, err
	}
	compared, err := m.Compared()
	if err != nil {
		return Seen{}, false, err
	}
	for _, c := range append(last, compared...) {
		for _, t := range c.Targets {
			if c.ChainID == chainID && t.Contract == contract.Hex() && t.Control != nil && c.Block != nil {
				return Seen{*t.Control, *c.Block, c.AuditID}, true, nil
			}
		}
	}
	return Seen{}, false, nil
}
