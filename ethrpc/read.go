package ethrpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/kms-auditor/kms-auditor/ethrpc/block"
	"github.com/kms-auditor/kms-auditor/ethrpc/getters"
	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// The quality of a Reading. A better one replaces it.
const (
	unread   = iota
	doubtful // an answer is missing; the contract or the provider may be to blame
	answered
	proven
)

// entry is one contract of a Read.
type entry struct {
	query   *Query
	reading Reading
	quality int
	failed  []ProviderError
	fault   error           // why its code cannot be proven with any provider
	attempt *attempt        // the last one
	proof   *getters.Proven // nil if not proven

	// The problem with the last provider's answers, and whether it concerns only this contract.
	complaint error
	own       bool
}

// proofCache has the proofs of earlier Reads by contract. It is immutable: a Read makes a new one.
type proofCache map[common.Address]cached

type cached struct {
	*getters.Proven
	block common.Hash
}

// reader is one Read.
type reader struct {
	c        *Client
	at       *Pinned
	opt      ReadOptions
	entries  []*entry
	failed   []ProviderError
	verified *proof.VerifiedState // nil until the header is verified
	old      proofCache
	proven   proofCache
}

// Read reads every Query at the pinned block, by its hash. The provider that pinned, or opt.First, is asked first. Any other
// provider must first give the same chain id and block. If a provider cannot answer for a contract, or cannot prove it (except
// with VerifyOff), Read asks the next one. If no provider proves it, the first complete answer counts; if no answer is complete,
// the first answer counts. With an agreement of k, k providers must then agree.
//
// The State has a Reading for every Query, in order. The error is a *ReadError: no provider could serve the block. It wraps
// ErrNoState if the block's state is pruned, a *DisagreementError about its hash, or a *ChainIDError.
func (c *Client) Read(ctx context.Context, at *Pinned, queries []Query, opt ReadOptions) (*State, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	r := &reader{c: c, at: at, opt: opt, proven: proofCache{}}
	if old := c.proven.Load(); old != nil {
		r.old = *old
	}
	for i := range queries {
		r.entries = append(r.entries, &entry{query: &queries[i], reading: notRead(queries[i].Contract, nil)})
	}
	late := ctx
	if end, ok := ctx.Deadline(); ok && len(queries) > 1 {
		var cancel context.CancelFunc
		late, cancel = context.WithTimeoutCause(ctx, time.Until(end)/2, errLate)
		defer cancel()
	}
	for _, p := range c.from(cmp.Or(opt.First, at.Provider)) {
		todo, within := r.todo(p), ctx
		if len(todo) < len(queries) {
			within = late
		}
		if within.Err() != nil {
			break
		}
		if len(todo) > 0 {
			r.readFrom(within, late, p, todo)
		}
	}
	if !opt.NoCache {
		r.cache()
	}
	told := func(e *entry) bool { return e.quality > unread || len(e.failed) > 0 || e.fault != nil }
	if len(queries) > 0 && !slices.ContainsFunc(r.entries, told) {
		return nil, &ReadError{Failures: r.failed}
	}
	return r.quorum(ctx)
}

// cache keeps this Read's proofs for the next Read. It keeps earlier proofs of contracts that could not be proven now, and of
// contracts that were read at the same block but not in this Read.
func (r *reader) cache() {
	for addr, m := range r.old {
		asked := slices.ContainsFunc(r.entries, func(e *entry) bool { return e.query.Contract == addr })
		if _, known := r.proven[addr]; !known && (asked || m.block == r.at.Block.Hash) {
			r.proven[addr] = m
		}
	}
	if proven := r.proven; len(proven) > 0 { // copied, because a pointer to the field would retain the reader
		r.c.proven.Store(&proven)
	}
}

// from returns the providers in order, but the named one first.
func (c *Client) from(first string) []*provider {
	i := slices.IndexFunc(c.providers, func(p *provider) bool { return p.Name == first })
	if i < 1 {
		return c.providers
	}
	return slices.Concat(c.providers[i:i+1], c.providers[:i], c.providers[i+1:])
}

// todo lists the contracts for which the provider may give a better Reading.
func (r *reader) todo(p *provider) (out []*entry) {
	cannot := false
	for _, e := range r.entries {
		switch {
		case e.quality == proven, e.quality == answered && (r.c.opt.Verify == VerifyOff || e.fault != nil), e.fault != nil && r.c.opt.Verify == VerifyRequired:
		case e.quality == answered && p.cannot(toProve) != nil:
			cannot = true
		default:
			out = append(out, e)
		}
	}
	if cannot && len(out) == 0 {
		r.failed = append(r.failed, ProviderError{Provider: p.Name, Err: p.cannot(toProve)})
	}
	return out
}

// errLate ends the work on postponed contracts, so that the rest of the audit has time.
var errLate = errors.New("it takes more than half of the remaining time")

// readFrom asks one provider, and retries if the provider does not know the block. Postponed contracts run under the context
// late. If every contract fails for a reason that is not its own, the provider failed for the block as a whole.
func (r *reader) readFrom(ctx, late context.Context, p *provider, todo []*entry) {
	at := r.at
	if p.Name != r.at.Provider || at.raw == nil {
		var err error
		if at, err = r.c.pin(ctx, p, AtHash(r.at.Block.Hash), nil); err != nil {
			r.failed = append(r.failed, ProviderError{Provider: p.Name, Err: err})
			return
		}
	}
	lost, known := todo, false // lost: contracts that failed because the block was unknown; known: the block's number is known
	err := p.Retry(ctx, func(err error) bool { return errors.Is(err, errUnknownBlock) }, func() (err error) {
		r.readOnce(ctx, late, p, at, lost)
		lost = slices.DeleteFunc(slices.Clone(lost), func(e *entry) bool { return !errors.Is(e.complaint, errUnknownBlock) })
		if len(lost) == 0 {
			return nil
		}
		// The node lags, or pruned the block's state, or the chain was reorganised. The block with that number shows which.
		if known, err = p.sameBlock(ctx, at); err != nil {
			return err
		}
		return lost[0].complaint
	})
	if errors.Is(err, errUnknownBlock) && known {
		err = pruned(at, err)
	} else if errors.Is(err, errUnknownBlock) {
		err = fmt.Errorf("reading at block %d (%s): %w", at.Block.Number, at.Block.Hash, err)
	}
	for _, e := range lost {
		e.complaint = err
	}
	if !slices.ContainsFunc(todo, func(e *entry) bool { return e.complaint == nil || e.own }) {
		r.failed = append(r.failed, ProviderError{Provider: p.Name, Err: todo[0].complaint})
		return
	}
	for _, e := range todo {
		if e.complaint != nil {
			e.failed = append(e.failed, ProviderError{Provider: p.Name, Err: e.complaint})
		}
	}
}

// readOnce proves the answers if that is wanted and possible, and otherwise uses the provider's unproven answers. Contracts whose
// own code prevents a proof come last.
func (r *reader) readOnce(ctx, late context.Context, p *provider, at *Pinned, todo []*entry) {
	cannot, auto := p.cannot(toProve), r.c.opt.Verify == VerifyAuto
	var prove, ask, alone []*entry
	for _, e := range todo {
		e.complaint, e.own = nil, false
		switch {
		case r.c.opt.Verify == VerifyOff || e.fault != nil:
		case auto && cannot != nil:
			e.complaint = cannot
		default:
			prove = append(prove, e)
		}
	}
	r.prove(ctx, late, p, at, prove)
	for _, e := range todo {
		switch {
		case e.fault != nil && auto:
			alone = append(alone, e)
		case r.c.opt.Verify == VerifyOff, auto && errors.Is(e.complaint, ErrNoProof) && ctx.Err() == nil && e.quality < answered:
			ask = append(ask, e)
		}
	}
	r.readUnproven(ctx, p, at, ask)
	r.readUnproven(late, p, at, alone)
}

// prove sets for each contract a proven Reading, a fault or a complaint.
func (r *reader) prove(ctx, late context.Context, p *provider, at *Pinned, todo []*entry) {
	if len(todo) == 0 {
		return
	}
	if err := r.begin(at); err != nil {
		p.pause(toProve, err)
		for _, e := range todo {
			e.complaint = err
		}
		return
	}
	var all []*attempt
	for _, e := range todo {
		old := r.old[e.query.Contract].Proven
		if old.UnchangedIn(r.verified, true) && old.Query.Equal(e.query) {
			same := *old
			same.State = r.verified
			r.settle(p, e, &same)
			continue
		}
		e.attempt = &attempt{Run: getters.New(e.query, r.verified, old, r.opt.AllowPartial), beside: r.opt.Beside}
		if said, asked := r.at.prefetched.getters[e.query.Contract]; asked {
			e.attempt.asked = true
			for _, q := range said {
				_ = q.take(r.at, e.attempt) // never fails
			}
		}
		all = append(all, e.attempt)
	}
	(&prover{p: p, at: at}).prove(ctx, late, all)
	refused := true // the provider proves no contract
	for _, e := range todo {
		c := e.attempt
		switch {
		case e.quality == proven:
			refused = false
		case c.Fault != nil:
			e.fault = c.Fault
		case c.err != nil:
			e.complaint, e.own = c.err, isLie(c.err)
			refused = refused && errors.Is(c.err, ErrNoProof)
		default:
			refused = false
			r.settle(p, e, c.Finish())
		}
	}
	if i := slices.IndexFunc(todo, func(e *entry) bool { return e.complaint != nil }); refused && i >= 0 && ctx.Err() == nil {
		p.pause(toProve, todo[i].complaint)
	}
}

// begin verifies the header, once.
func (r *reader) begin(at *Pinned) error {
	if r.verified != nil {
		return nil
	}
	h, err := at.header()
	if err != nil {
		return err
	}
	r.verified = proof.New(h, r.c.opt.ChainID)
	whose := &attempt{Run: getters.New(&Query{}, r.verified, nil, false)}
	for _, q := range at.prefetched.requests {
		_ = q.take(at, whose) // on failure it is asked for again
	}
	adopted := map[*proof.VerifiedState]bool{}
	for _, m := range r.old {
		if !adopted[m.State] {
			adopted[m.State] = true
			r.verified.ReuseFrom(m.State)
		}
	}
	return nil
}

// header verifies the block's header against its hash.
func (p *Pinned) header() (*types.Header, error) {
	header, err := proof.EncodeHeader(p.raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoProof, err)
	}
	h, err := proof.Header(header, p.Block.Hash)
	if err != nil {
		// An unknown field of a newer fork changes the hash as well, so this need not be a lie.
		return nil, fmt.Errorf("%w: %v", ErrNoProof, err)
	}
	return h, nil
}

// settle records a proven Reading.
func (r *reader) settle(p *provider, e *entry, m *getters.Proven) {
	e.quality, e.proof = proven, m
	e.reading = Reading{Reading: m.Reading, Provider: p.Name, Proven: true}
	if !e.query.CodeOnly {
		r.proven[e.query.Contract] = cached{m, r.at.Block.Hash}
	}
}

// refuses returns why the node's answer to a call is not accepted, or nil.
func (e *entry) refuses(c kms.Call) error {
	if e.fault == nil {
		return nil
	}
	return e.attempt.Refuses(c)
}

// isLie reports whether the provider gave an answer that is proven to be wrong.
func isLie(err error) bool {
	_, getter := errors.AsType[*GetterError](err)
	return getter || errors.Is(err, proof.ErrInvalid)
}

// sameBlock reports whether the provider has a block with the pinned number. A block with another hash is an error.
func (p *provider) sameBlock(ctx context.Context, at *Pinned) (bool, error) {
	c := block.AtNumber(at.Block.Number).Ask()
	if err := p.Do(ctx, c); err != nil {
		return false, fmt.Errorf("checking block %d again: %w", at.Block.Number, err)
	}
	b, err := block.Decode(c)
	switch {
	case errors.Is(err, ErrNoState):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("checking block %d again: %w", at.Block.Number, err)
	case b.Hash != at.Block.Hash:
		return false, fmt.Errorf("the chain was reorganised between pin and read: block %d was %s and is now %s", at.Block.Number, at.Block.Hash, b.Hash)
	}
	return true, nil
}
