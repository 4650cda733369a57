package evidence

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/quote"
)

// Verify derives the report anew from its evidence alone, and returns it with a sentence on each chain's answers that
// the evidence does not prove, and which are therefore believed. It is an error when the report comes out otherwise.
func Verify(ctx context.Context, f *File) (report *audit.Report, believed []string, err error) {
	if !printable(f.Report) {
		return nil, nil, errors.New("the report holds characters that cannot be printed")
	}
	out := *f.Report
	out.Chains, out.Verdict = make([]audit.Chain, len(f.Chains)), audit.Unknown
	for i := range f.Chains {
		chain, err := f.derive(ctx, &f.Chains[i])
		if err != nil {
			return nil, nil, fmt.Errorf("verifying chain %s: %w", quote.Plain(f.Report.Chains[i].Chain), err)
		}
		if i == 0 {
			out.Verdict = chain.Verdict
		}
		remember(f.Report.Chains[i].Targets, chain.Targets)
		out.Chains[i], out.Verdict = *chain, audit.Worst(out.Verdict, chain.Verdict)
		believed = append(believed, f.Chains[i].believed()...)
	}
	if err := equal(f.Report, &out); err != nil {
		return nil, nil, err
	}
	return &out, believed, nil
}

// remember takes over when findings were first seen: audits before this one told, of which there is no evidence here.
func remember(reported, derived []audit.Target) {
	for i := range min(len(reported), len(derived)) {
		from, to := reported[i], derived[i]
		for j := range min(len(from.Findings), len(to.Findings)) {
			to.Findings[j].FirstSeen = from.Findings[j].FirstSeen
		}
		for j := range min(len(from.Entries), len(to.Entries)) {
			to.Entries[j].FirstSeen = from.Entries[j].FirstSeen
		}
	}
}

// derive audits one chain again, out of its evidence.
func (f *File) derive(ctx context.Context, c *Chain) (*audit.Chain, error) {
	auditing, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	o := &offline{c: c, prove: func(hash common.Hash, e ethrpc.Evidence, q ethrpc.Questions, sketch bool) (*ethrpc.State, error) {
		return ethrpc.Prove(ctx, c.ChainID, hash, e, q, sketch) // also what was proven before the audit was interrupted
	}}
	chain := audit.ChainOptions{
		Name: c.Chain, ChainID: c.ChainID, Reader: o, Contracts: c.Contracts, Required: c.Required, Eager: true,
		Explained: explained(c),
	}
	for _, s := range c.Policies {
		p, err := ethrpc.ParsePolicy(s)
		if err != nil {
			return nil, err
		}
		chain.Policies = append(chain.Policies, p)
	}
	c.options(&chain, o)
	events := logsOf(c.Events)
	if c.Events != nil {
		chain.Events = events
	}
	delay := time.Duration(0)
	if c.Interrupted != "" {
		delay = time.Hour // the second pass never comes
		cancel(errors.New(c.Interrupted))
	}
	var bug error
	r := audit.New(audit.Options{
		Claims: o, Chains: []audit.ChainOptions{chain}, ConfirmDelay: delay, PendingMax: f.PendingMax,
		Now:      func(string) time.Time { return c.Began },
		Waited:   o.waited,
		Panicked: func(_ string, v any, _ []byte) { bug = fmt.Errorf("a bug in kms-auditor: %v", v) },
	}).Audit(auditing)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := errors.Join(bug, o.over(), events.over()); err != nil {
		return nil, fmt.Errorf("the evidence does not hold: %w", err)
	}
	return &r.Chains[0], nil
}

func explained(c *Chain) map[common.Address][]audit.ExplainedSlot {
	out := map[common.Address][]audit.ExplainedSlot{}
	for addr, slots := range c.Explained {
		for _, s := range slots {
			out[addr] = append(out[addr], audit.ExplainedSlot(s))
		}
	}
	return out
}

// believed tells of the first answers that are not proven.
func (c *Chain) believed() []string {
	for _, r := range c.Reads {
		if b := r.Believed; b != nil && r.Block != nil {
			return []string{fmt.Sprintf("%s: what the contracts say at block %d is not proven, but believed as the file has it: %s",
				quote.Plain(c.Chain), r.Block.Number, quote.Plain(cmp.Or(b.Why, "proof was not asked for")))}
		}
	}
	return nil
}

// equal holds the report against what its evidence gives. Errors come in the order in which sources fail.
func equal(want, got *audit.Report) error {
	for i := range want.Chains {
		a, b := want.Chains[i], got.Chains[i]
		a.Errors, b.Errors = sorted(a.Errors), sorted(b.Errors)
		if !sameJSON(a, b) {
			return fmt.Errorf("the report is not what its evidence gives: chain %s is reported %s, and the evidence makes it %s%s",
				quote.Plain(b.Chain), a.Verdict, b.Verdict, where(a, b))
		}
	}
	if want.Verdict != got.Verdict {
		return fmt.Errorf("the report is not what its evidence gives: it says %s, and the evidence %s", want.Verdict, got.Verdict)
	}
	return nil
}

// where names the first difference of two chains that are not alike.
func where(a, b audit.Chain) string {
	if len(a.Targets) != len(b.Targets) {
		return fmt.Sprintf(", with %d contracts instead of %d", len(b.Targets), len(a.Targets))
	}
	for i := range b.Targets {
		if !sameJSON(a.Targets[i], b.Targets[i]) {
			return ", and contract " + b.Targets[i].Contract + " otherwise"
		}
	}
	return ", with another block, claim or errors"
}

func sorted(in []audit.SourceError) []audit.SourceError {
	return slices.SortedFunc(slices.Values(in), func(a, b audit.SourceError) int {
		return cmp.Or(cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Message, b.Message))
	})
}

func sameJSON(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// printable tells whether the texts of a report can be shown on a terminal as they are.
func printable(r *audit.Report) bool {
	b, err := json.Marshal(r)
	if err != nil {
		return false
	}
	d := json.NewDecoder(bytes.NewReader(b))
	for {
		t, err := d.Token()
		if err != nil {
			return true
		}
		if s, ok := t.(string); ok && strings.ContainsFunc(s, unicode.IsControl) {
			return false
		}
	}
}
