package memory

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/hexid"
	"github.com/kms-auditor/kms-auditor/internal/history"
	"github.com/kms-auditor/kms-auditor/internal/quote"
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
		return base, false, fmt.Errorf("reading the baseline of %s from the state: %s", t, quote.Plain(err.Error()))
	}
	return base, true, nil
}

// Controlled is what is known of who controls a contract.
type Controlled struct {
	Target   history.Target
	Baseline *audit.Baseline // nil: there is none
	Seen     *Seen           // nil: no audit that is remembered read it
}

// Seen is who controls a contract, by the last audit that read it.
type Seen struct {
	Control audit.Control `json:"control"`
	Block   audit.Block   `json:"block"`
	AuditID string        `json:"audit_id"`
}

// Differs names what of the control is not as the baseline has it. An offer to another owner is no change yet.
func (c *Controlled) Differs() []string {
	out := []string{}
	if c.Baseline == nil || c.Seen == nil {
		return out
	}
	was, is := c.Baseline.Control, c.Seen.Control
	for _, f := range []struct{ name, was, is string }{
		{"owner", was.Owner, is.Owner},
		{"implementation", was.Implementation, is.Implementation},
		{"code_hash", was.CodeHash, is.CodeHash},
		{"implementation_code_hash", was.ImplementationCodeHash, is.ImplementationCodeHash},
	} {
		if f.was != f.is {
			out = append(out, f.name)
		}
	}
	return out
}

// Controlled tells of every contract that has a baseline, or of which an audit read who controls it, in the order of
// chain ids and addresses.
func (m *Memory) Controlled() ([]Controlled, error) {
	last, err := m.Last()
	if err != nil {
		return nil, err
	}
	compared, err := m.Compared()
	if err != nil {
		return nil, err
	}
	all := map[history.Target]Controlled{}
	for _, t := range m.store.Targets() {
		if base, ok, err := baselineOf(m.store, t); err != nil {
			return nil, err
		} else if ok {
			all[t] = Controlled{t, &base, nil}
		}
	}
	for _, c := range append(last, compared...) {
		for _, target := range c.Targets {
			contract, err := hexid.ParseAddress(target.Contract)
			if err != nil {
				return nil, fmt.Errorf("reading the last report from the state: %w", err)
			}
			t := history.Target{ChainID: c.ChainID, Contract: contract}
			if known := all[t]; known.Seen == nil && target.Control != nil && c.Block != nil {
				all[t] = Controlled{t, known.Baseline, &Seen{*target.Control, *c.Block, c.AuditID}}
			}
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b Controlled) int {
		return cmp.Or(cmp.Compare(a.Target.ChainID, b.Target.ChainID), a.Target.Contract.Cmp(b.Target.Contract))
	}), nil
}
