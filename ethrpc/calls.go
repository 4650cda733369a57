package ethrpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/block"
	"github.com/kms-auditor/kms-auditor/ethrpc/getters"
	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// Limits for all calls of one ProvenCalls together.
const (
	maxCallRounds   = 64 // of fetching
	maxCallAccounts = 256
	maxCallSlots    = 4096
	maxCallTime     = 10 * time.Second // of running code locally
)

// Errors of an Answer.
var (
	ErrReverted = getters.ErrReverted
	ErrNoCode   = getters.ErrNoCode
)

// ProvenCalls calls any contract over the proven state of one block. It fetches and verifies state as the code asks for it, so
// an answer does not depend on who serves that state. It is not safe for concurrent use.
type ProvenCalls struct {
	state *proof.VerifiedState
	old   *ProvenCalls // its state is prefetched; may be nil
	// fetch adds what is missing to the state.
	fetch func(ctx context.Context, missing proof.Missing, codes bool) error

	accounts map[common.Address]bool // that the calls read
	slots    map[proof.Slot]bool

	rounds, askedAccounts, askedSlots int
	ran                               time.Duration
}

// Proven returns calls at the pinned block. One request prefetches the state that the calls of old read. old may be nil, and must
// not be used at the same time. It fails if the block's header cannot be verified.
func (c *Client) Proven(at *Pinned, old *ProvenCalls) (*ProvenCalls, error) {
	h, err := at.header()
	if err != nil {
		return nil, atBlock("proving", at, err)
	}
	out := newProvenCalls(proof.New(h, c.opt.ChainID))
	f := &callFetcher{c: c, at: at, providers: c.from(at.Provider), state: out.state}
	out.fetch, out.old = f.fetch, old
	return out, nil
}

// ProveCalls is like Proven, but reads only from a Witness. A call that reads more than the Witness proves fails.
func ProveCalls(chainID uint64, hash common.Hash, w Witness) (*ProvenCalls, Block, error) {
	verified, at, err := fromWitness(chainID, hash, w)
	if err != nil {
		return nil, Block{}, err
	}
	out := newProvenCalls(verified)
	out.fetch = func(context.Context, proof.Missing, bool) error { return getters.ErrLacksState }
	return out, at, nil
}

func newProvenCalls(state *proof.VerifiedState) *ProvenCalls {
	return &ProvenCalls{state: state, accounts: map[common.Address]bool{}, slots: map[proof.Slot]bool{}}
}

// Witness returns what proves the answers so far.
func (c *ProvenCalls) Witness() *Witness {
	header, nodes, codes := c.state.Witness(c.accounts)
	return &Witness{header, nodes, codes}
}

// Call makes calls from the zero address, as eth_call does, and fetches their missing state together. It returns an Answer for
// each call, in order. A contract's failure is in its Answer (ErrReverted, ErrNoCode, proof.ErrWrites, proof.ErrBeyondState).
// Call fails if no provider served the state, or if the code asked for too much.
func (c *ProvenCalls) Call(ctx context.Context, calls ...proof.Call) ([]proof.Answer, error) {
	if err := c.prefetch(ctx); err != nil {
		return nil, err
	}
	answers, done := make([]proof.Answer, len(calls)), make([]bool, len(calls))
	for {
		missing, err := c.run(ctx, calls, answers, done)
		if err != nil || missing.Empty() {
			return answers, err
		}
		accounts := unique(missing.Accounts)
		for _, a := range accounts {
			missing.Slots = append(missing.Slots, proof.Slot{Account: a, Key: kms.ImplementationSlot}) // a proxy asks for it next
		}
		c.rounds, c.askedAccounts, c.askedSlots = c.rounds+1, c.askedAccounts+len(accounts), c.askedSlots+len(missing.Slots)
		if c.rounds > maxCallRounds || c.askedAccounts > maxCallAccounts || c.askedSlots > maxCallSlots {
			return nil, fmt.Errorf("%w: the code asks for more than %d accounts or %d slots, or in more than %d rounds", ErrNoProof, maxCallAccounts, maxCallSlots, maxCallRounds)
		}
		if err := c.fetch(ctx, missing, true); err != nil {
			return nil, err
		}
	}
}

// prefetch proves, once, the state that the earlier calls read. It reuses unchanged code.
func (c *ProvenCalls) prefetch(ctx context.Context) error {
	old := c.old
	if c.old = nil; old == nil {
		return nil
	}
	c.state.ReuseFrom(old.state)
	unknown := func(a common.Address) bool { _, known := c.state.Account(a); return !known }
	var missing proof.Missing
	for a := range old.accounts {
		if unknown(a) {
			missing.Accounts = append(missing.Accounts, a)
		}
	}
	for s := range old.slots {
		if unknown(s.Account) {
			missing.Slots = append(missing.Slots, s)
		}
	}
	if missing.Empty() {
		return nil
	}
	err := c.fetch(ctx, missing, false)
	c.state.ReuseFrom(old.state)
	return err
}

// run makes the calls that are not done and returns what they miss.
func (c *ProvenCalls) run(ctx context.Context, calls []proof.Call, answers []proof.Answer, done []bool) (missing proof.Missing, err error) {
	began := time.Now()
	defer func() { c.ran += time.Since(began) }()
	ctx, cancel := context.WithTimeoutCause(ctx, maxCallTime-c.ran, getters.ErrRunTime)
	defer cancel()
	for i, call := range calls {
		if done[i] {
			continue
		}
		res, err := c.state.CallAssuming(ctx, call.To, call.Data, nil)
		switch {
		case ctx.Err() != nil:
			return missing, fmt.Errorf("calling %s: %w", call.To, context.Cause(ctx))
		case !res.Missing.Empty():
			missing.Add(res.Missing)
			continue
		case err == nil && res.Reverted:
			err = ErrReverted
		case err == nil && c.state.HasNoCode(call.To):
			err = ErrNoCode
		}
		answers[i], done[i] = proof.Answer{Output: res.Output, Err: err}, true
		for _, a := range res.Accounts {
			c.accounts[a] = true
		}
		for _, s := range res.Touched {
			c.slots[s] = true
		}
	}
	return missing, nil
}

// callFetcher fetches state for ProvenCalls from one provider, and fails over to the next.
type callFetcher struct {
	c         *Client
	at        *Pinned
	providers []*provider // not yet failed
	failed    []ProviderError
	state     *proof.VerifiedState
}

func (f *callFetcher) fetch(ctx context.Context, missing proof.Missing, codes bool) error {
	for len(f.providers) > 0 {
		p := f.providers[0]
		err := f.from(ctx, p, missing, codes)
		if err == nil || ctx.Err() != nil {
			return err
		}
		f.failed = append(f.failed, ProviderError{Provider: p.Name, Err: err})
		f.providers = f.providers[1:]
	}
	return &ReadError{Failures: f.failed}
}

func (f *callFetcher) from(ctx context.Context, p *provider, missing proof.Missing, codes bool) (err error) {
	if err := p.cannot(toProve); err != nil {
		return err
	}
	if p.Name != f.at.Provider {
		if f.at, err = f.c.pin(ctx, p, AtHash(f.at.Block.Hash), nil); err != nil {
			return err
		}
	}
	run := &attempt{Run: getters.New(&Query{CodeOnly: true}, f.state, nil, false)}
	run.Missing = missing
	return p.Retry(ctx, func(err error) bool { return errors.Is(err, errUnknownBlock) }, func() error {
		r := &prover{p: p, at: f.at}
		requests := r.requests(run, map[string]*request{})
		if !codes {
			requests = slices.DeleteFunc(requests, func(q *request) bool { return q.call.Method == "eth_getCode" })
		}
		run.err = nil
		r.do(ctx, "proving", []*attempt{run}, [][]*request{requests})
		return run.err
	})
}

// Headers returns the RLP of the headers of the blocks from high down to low. They come from the first provider that has them
// all and whose headers pass accept; the provider named first is asked first. A nil accept passes everything. The headers are
// unverified. The error is a *ReadError.
func (c *Client) Headers(ctx context.Context, first string, high, low uint64, accept func([][]byte) error) ([][]byte, error) {
	var failed []ProviderError
	providers := slices.Clone(c.providers)
	slices.SortStableFunc(providers, func(a, b *provider) int {
		return cmp.Compare(slices.Index([]string{first}, b.Name), slices.Index([]string{first}, a.Name))
	})
	for _, p := range providers {
		out, err := p.headers(ctx, high, low)
		if err == nil && accept != nil {
			err = accept(out)
		}
		if err == nil {
			return out, nil
		}
		failed = append(failed, ProviderError{Provider: p.Name, Err: err})
	}
	return nil, &ReadError{Failures: failed}
}

func (p *provider) headers(ctx context.Context, high, low uint64) (out [][]byte, err error) {
	var calls []*transport.Call
	for n := high; n >= low && n <= high; n-- { // n wraps around below 0
		calls = append(calls, block.AtNumber(n).Ask())
	}
	if err := p.Do(ctx, calls...); err != nil {
		return nil, err
	}
	for i, call := range calls {
		if _, err := block.Decode(call); err != nil {
			return nil, fmt.Errorf("reading block %d: %w", high-uint64(i), err)
		}
		header, err := proof.EncodeHeader(call.Result)
		if err != nil {
			return nil, fmt.Errorf("reading block %d: %w", high-uint64(i), err)
		}
		out = append(out, header)
	}
	return out, nil
}
