package evidence

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// Result is what verified evidence gives. The sentences are fit to show.
type Result struct {
	Report  *audit.Report // as today's rules judge the evidence
	Checked []string
	Trusted []string // what the evidence asserts and does not prove

	// Differences is what today's rules judge otherwise than Rules, by which the file says that the report was made, with
	// Reported for a verdict. Where those are today's rules, a difference is ErrRefuted.
	Differences []string
	Rules       int
	Reported    audit.Verdict
}

// Verdict is the worse of what the report says and what today's rules say: the file names its rules itself, so that older
// ones must not excuse a verdict which the evidence does not give.
func (r *Result) Verdict() audit.Verdict { return audit.Worst(r.Reported, r.Report.Verdict) }

// Verify proves again what the evidence proves, judges it, and compares the outcome with the report, by keys. Evidence
// that does not hold is ErrRefuted. Any other error is that of ctx: then nothing is known.
func Verify(ctx context.Context, f *File) (*Result, error) { return verifyBy(ctx, f, audit.Rules) }

func verifyBy(ctx context.Context, f *File, rules int) (*Result, error) {
	r := &Result{Rules: f.Rules, Reported: f.Report.Verdict}
	r.Checked = []string{"the document is what was written: it has its SHA-256"}
	chains := []audit.Chain{}
	for i := range f.Chains {
		c := &f.Chains[i]
		looks, err := c.looks(ctx, r)
		var chain audit.Chain
		if err == nil {
			chain, err = judge(ctx, c, looks)
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("verifying the evidence: %w", context.Cause(ctx))
		}
		if err != nil {
			return nil, fmt.Errorf("%w: chain %s: %w", ErrRefuted, sanitize.Plain(c.Intent.Chain), err)
		}
		chains = append(chains, chain)
		r.trust(c, &looks)
	}
	r.Trusted = append(r.Trusted, "when the audit ran, what events said (further ids, when and by whom they were changed), and since when something is known to be wrong")
	r.Report = audit.NewReport(f.Report.AuditID, f.Report.Version, f.Report.StartedAt, f.Report.FinishedAt, chains)
	same, differences := compare(f.Report, r.Report)
	switch {
	case len(differences) == 0:
		r.Checked = append(r.Checked, fmt.Sprintf("verdicts, findings and entries (%d) are judged again, by rules %d: the report has the same", same, rules))
	case f.Rules == rules && len(differences) > 1:
		return nil, fmt.Errorf("%w: the report is not what it gives: %s (and %d more)", ErrRefuted, differences[0], len(differences)-1)
	case f.Rules == rules:
		return nil, fmt.Errorf("%w: the report is not what it gives: %s", ErrRefuted, differences[0])
	default:
		r.Differences = differences
	}
	return r, nil
}

// judge judges a chain. Only lists that no audit makes let that take long, or panic: then the judgement is left behind.
func judge(ctx context.Context, c *Chain, looks audit.Looks) (audit.Chain, error) {
	type result struct {
		out audit.Outcome
		err error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if v := recover(); v != nil {
				r.err = fmt.Errorf("it cannot be judged: %s", sanitize.Plain(fmt.Sprint(v)))
			}
			done <- r
		}()
		if r.out = audit.Judge(c.Intent, c.Prior, looks); r.out.Absent {
			r.err = errors.New("no audit reports it, since the API names no KMS there")
		}
	}()
	select {
	case r := <-done:
		return r.out.Chain, r.err
	case <-ctx.Done():
		return audit.Chain{}, ctx.Err()
	}
}

// looks derives the looks at a chain from their raw bytes.
func (c *Chain) looks(ctx context.Context, r *Result) (audit.Looks, error) {
	out := audit.Looks{Interrupted: c.Interrupted}
	first, err := c.derive(ctx, r, &c.First)
	if err != nil {
		return out, err
	}
	out.First = *first
	if out.Second, err = c.derive(ctx, r, c.Second); err != nil {
		return out, err
	}
	out.Head, err = c.derive(ctx, r, c.Head)
	return out, err
}

func (c *Chain) derive(ctx context.Context, r *Result, l *Look) (*audit.Observation, error) {
	if l == nil {
		return nil, nil
	}
	o := l.Observation
	if err := l.claims(&o, c.Intent.ChainID); err != nil {
		return nil, err
	}
	if n := len(l.Listing); l.Claim != nil || n > 0 {
		if l.Claim != nil {
			n++
		}
		r.Checked = append(r.Checked, fmt.Sprintf("%s: the API's answers (%d) have their SHA-256, and are decoded again", sanitize.Plain(c.Intent.Chain), n))
	}
	seen := map[common.Address]bool{}
	for i := range o.Readings {
		seen[o.Readings[i].Contract] = true
		switch {
		case o.Readings[i].Assurance == audit.Proven:
			return nil, fmt.Errorf("contract %s is said to be proven, and nothing proves it", o.Readings[i].Contract)
		case o.Block == nil:
			return nil, errors.New("contracts were read at no block")
		}
	}
	for _, p := range l.Proven {
		seen[p.Contract] = true
	}
	if len(seen) < len(o.Readings)+len(l.Proven) {
		return nil, errors.New("one contract was read twice at one block")
	}
	proven, err := c.prove(ctx, l)
	if err != nil {
		return nil, err
	}
	if len(proven) > 0 {
		r.Checked = append(r.Checked, fmt.Sprintf("%s: what the contracts (%d) say at block %d follows from its header, whose hash is %s", sanitize.Plain(c.Intent.Chain), len(proven), o.Block.Number, o.Block.Hash))
	}
	o.Readings = slices.Concat(o.Readings, proven)
	return &o, nil
}

// claims decodes what the API said.
func (l *Look) claims(o *audit.Observation, chainID uint64) error {
	if l.Claim != nil {
		if err := l.Claim.check(); err != nil {
			return err
		}
		d, err := kmsapi.Decode(l.Claim.Body)
		if err != nil {
			return fmt.Errorf("decoding the API's answer: %w", err)
		}
		o.Claim = observe.ClaimOf(d)
		o.Claim.Claim = l.Claim.Claim
	}
	var pages [][]byte
	for i := range l.Listing {
		if err := l.Listing[i].check(); err != nil {
			return err
		}
		pages = append(pages, l.Listing[i].Body)
	}
	if pages != nil {
		all, err := kmsapi.DecodeList(pages...)
		if err != nil {
			return fmt.Errorf("decoding the API's list of KMS: %w", err)
		}
		o.Listing = observe.ListingOf(all, chainID)
	}
	return nil
}

func (a *Answer) check() error {
	if sum := sha256.Sum256(a.Body); hex.EncodeToString(sum[:]) != a.SHA256 {
		return errors.New("an answer of the API is not that of its SHA-256")
	}
	return nil
}

// prove proves the readings of a look that are said to be proven.
func (c *Chain) prove(ctx context.Context, l *Look) ([]audit.Reading, error) {
	if len(l.Proven) == 0 {
		return nil, nil
	}
	at := l.Observation.Block
	if at == nil {
		return nil, errors.New("contracts were proven at no block")
	}
	hash, err := sanitize.ParseID(at.Hash)
	if err != nil {
		return nil, fmt.Errorf("the hash of block %d is none: %w", at.Number, err)
	}
	queries := make([]ethrpc.Query, len(l.Proven))
	for i, p := range l.Proven {
		queries[i] = ethrpc.Query(p.Query)
	}
	state, block, err := ethrpc.Prove(ctx, c.Intent.ChainID, hash, ethrpc.Witness{Header: l.Header, Nodes: c.Nodes, Codes: c.Codes}, queries, false)
	if err != nil {
		return nil, fmt.Errorf("proving what the contracts say at block %d: %w", at.Number, err)
	}
	if block.Number != at.Number || !block.Time.Equal(at.Time) || at.Hash != hash.Hex() {
		return nil, fmt.Errorf("block %s is block %d of %s, not %d of %s", hash, block.Number, block.Time, at.Number, at.Time)
	}
	out := make([]audit.Reading, len(queries))
	for i, p := range l.Proven {
		r := &state.Readings[i]
		if r.Err == nil && !r.Proven {
			r.Err = r.Unproven
		}
		if r.Err != nil {
			return nil, fmt.Errorf("what contract %s says at block %d is not proven: %w", p.Contract, at.Number, r.Err)
		}
		r.Provider = p.Provider
		out[i] = observe.ReadingOf(r, queries[i], p.Events)
		out[i].Changes = p.Changes
	}
	return out, nil
}

// trust says what of a chain's looks is not proven.
func (r *Result) trust(c *Chain, looks *audit.Looks) {
	say := func(format string, args ...any) {
		r.Trusted = append(r.Trusted, sanitize.Plain(c.Intent.Chain)+": "+fmt.Sprintf(format, args...))
	}
	say("what was configured, and what earlier audits left (contracts: %d, open findings: %d)", len(c.Prior.Contracts), len(c.Prior.Open))
	failures := 0
	for _, o := range looks.All() {
		failures += len(o.Failures)
		if o.Claim != nil {
			say("that the API sent its answer at %s: it does not sign", o.Claim.FetchedAt.Format(time.RFC3339))
		}
		if o.Block == nil {
			continue
		}
		say("that block %d, %s, is of this chain, and what %s named at %s", o.Block.Number, sanitize.Plain(o.Block.Hash), sanitize.Plain(o.Tag), o.At.Format(time.RFC3339))
		believed := slices.DeleteFunc(slices.Clone(o.Readings), func(r audit.Reading) bool { return r.Assurance == audit.Proven || r.Err != "" })
		if len(believed) > 0 {
			say("what contracts (%d) say at block %d is not proven, but believed as the file has it; the first is %s", len(believed), o.Block.Number, believed[0].Contract)
		}
	}
	if failures > 0 {
		say("that sources failed (%d times), which makes a verdict unknown, never consistent", failures)
	}
}
