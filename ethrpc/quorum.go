package ethrpc

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
)

// DisagreementError is two providers that say different things of one block.
type DisagreementError struct {
	Providers [2]string
	Block     Block
	What      string // what both say, fit to show
}

func (e *DisagreementError) Error() string {
	return fmt.Sprintf("%s and %s disagree about block %d: %s", e.Providers[0], e.Providers[1], e.Block.Number, e.What)
}

// quorum asks further providers until enough say the same: of the block's hash, and of each contract whose answers are not
// proven, of every answer. One proof needs no second opinion.
func (r *reader) quorum(ctx context.Context) (*State, error) {
	need := r.c.agreement
	short := func(agreed int) error {
		return fmt.Errorf("%d of the %d providers that must agree say the same", agreed, need)
	}
	s := &State{Agreed: 1, verified: r.verified, accounts: map[common.Address]bool{}}
	for _, p := range r.c.providers {
		open := r.open(p)
		if s.Agreed >= need && len(open) == 0 {
			continue
		}
		first := p.Name == r.at.Provider
		if first && len(open) == 0 {
			continue
		}
		at, err := p.pin(ctx, r.c.chainID, AtNumber(r.at.Block.Number), nil)
		if err == nil && at.Block.Hash != r.at.Block.Hash {
			err = r.disagreement(r.at.Provider, p, fmt.Sprintf("its hash is %s, or %s", r.at.Block.Hash, at.Block.Hash))
		}
		if err != nil {
			r.failed = append(r.failed, ProviderError{Provider: p.Name, Err: err})
			continue
		}
		if !first {
			s.Agreed++
		}
		for i, u := range p.believe(ctx, at, open) {
			e := open[i]
			err := u.err
			if differ := e.reading.differences(&u.reading); err == nil && differ != "" {
				err = r.disagreement(e.reading.Provider, p, differ)
			}
			if err != nil {
				e.failed = append(e.failed, ProviderError{Provider: p.Name, Err: err})
			} else {
				e.reading.Agreed++
			}
		}
	}
	if s.Agreed < need {
		return nil, &ReadError{Failures: append(r.failed, ProviderError{Provider: r.at.Provider, Err: short(s.Agreed)})}
	}
	s.Failed = r.failed
	for _, e := range r.entries {
		out := e.reading
		switch {
		case e.quality == unread:
			out.Err = cmp.Or(e.fault, error(&ReadError{Failures: slices.Concat(e.failed, r.failed)}))
		case e.quality == proven:
			out.Agreed = s.Agreed
			for _, a := range e.proof.accounts {
				s.accounts[a] = true
			}
		case out.Agreed < need:
			failed := slices.Concat(e.failed, r.failed, []ProviderError{{Provider: out.Provider, Err: short(out.Agreed)}})
			out = Reading{Contract: out.Contract, Err: &ReadError{Failures: failed}}
		}
		out.Failed = e.failed
		s.Readings = append(s.Readings, out)
	}
	return s, nil
}

// open lists the contracts of which the provider's word is needed.
func (r *reader) open(p *provider) (out []*entry) {
	for _, e := range r.entries {
		if (e.quality == doubtful || e.quality == answered) && e.reading.Agreed < r.c.agreement && e.reading.Provider != p.Name {
			out = append(out, e)
		}
	}
	return out
}

func (r *reader) disagreement(first string, p *provider, what string) error {
	return &DisagreementError{[2]string{first, p.Name}, r.at.Block, what}
}

// differences tells what another provider says otherwise; empty: nothing.
func (r *Reading) differences(o *Reading) string {
	var differ []string
	for _, getter := range []string{kms.AllowedDevice, kms.AllowedOSImage} {
		theirs := o.answers(getter)
		for id, a := range r.answers(getter) {
			if b := theirs[id]; a.Allowed != b.Allowed || (a.Err == nil) != (b.Err == nil) {
				differ = append(differ, fmt.Sprintf("%s(%s) is %s, or %s", getter, id, a, b))
			}
		}
	}
	slices.Sort(differ)
	if !r.Control.Equal(&o.Control) {
		differ = append(differ, fmt.Sprintf("%s is %s, or %s", r.Contract, &r.Control, &o.Control))
	}
	if r.HasCode != o.HasCode {
		differ = append(differ, fmt.Sprintf("%s has code: %t, or %t", r.Contract, r.HasCode, o.HasCode))
	}
	return strings.Join(differ[:min(len(differ), 3)], "; ")
}
