package ethrpc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// Where several contracts are proven at once, one that asks for more than this is put off until the others are done.
const (
	maxSharedSlots = 2048 // in a round; the lists of an ordinary contract have some dozens of entries

	// Of a step of all of them, whose code takes some milliseconds each.
	maxSharedTime, maxStepTime, minStepTime = 5 * time.Second, 500 * time.Millisecond, 20 * time.Millisecond
)

// prover proves contracts with one provider.
type prover struct {
	p        *provider
	at       pin
	verified *proof.VerifiedState
	hinted   int
}

// prove has every contract's code run over proven state, which it fetches. Each ends on its own: in fault where its code
// is to blame, in err where the provider is. late is for those that are put off.
func (r *prover) prove(ctx, late context.Context, all []*proving) {
	later := r.proveTogether(ctx, all, len(all) > 1)
	for i, c := range later {
		alone, cancel := late, context.CancelFunc(func() {})
		if end, ok := late.Deadline(); ok {
			alone, cancel = context.WithTimeoutCause(late, time.Until(end)/time.Duration(len(later)-i), errRunTime)
		}
		if r.proveTogether(alone, []*proving{c}, false); c.err != nil && alone.Err() != nil && ctx.Err() == nil {
			c.end(errRunTime)
		}
		cancel()
	}
}

// proveTogether returns the contracts that it put off.
func (r *prover) proveTogether(ctx context.Context, all []*proving, putOff bool) (later []*proving) {
	limit := time.Duration(0)
	if putOff {
		limit = min(max(maxSharedTime/time.Duration(len(all)), minStepTime), maxStepTime)
		slow := func(c *proving) bool { return r.p.slow.has(c.query.Contract) }
		later = slices.DeleteFunc(slices.Clone(all), func(c *proving) bool { return !slow(c) })
		all = slices.DeleteFunc(slices.Clone(all), slow)
	}
	for _, c := range all {
		standing := c.old.unchangedIn(r.verified, false)
		for _, j := range c.jobs {
			if c.before(j, standing) == nil {
				c.compareWithNode(j)
			}
		}
	}
	if slices.ContainsFunc(all, func(c *proving) bool { return len(c.waiting) > 0 && c.guessable() }) {
		r.sendMulticalls(ctx, all)
	}
	var done []*proving
	for live := all; len(live) > 0; {
		var wanting []*proving
		for _, c := range live {
			switch {
			case c.err != nil:
			case !c.step(ctx, limit) && !(putOff && r.p.slow.has(c.query.Contract)):
				done = append(done, c)
			case putOff && (c.slow || len(c.missing.Slots) > maxSharedSlots || r.p.slow.has(c.query.Contract)):
				later = append(later, c)
			default:
				wanting = append(wanting, c)
			}
		}
		if len(wanting) > 0 {
			r.fetch(ctx, wanting)
		}
		live = wanting
	}
	r.checkNode(ctx, done)
	return later
}

// guessable reports whether guesses about the contract can be tried at once: nothing is likely to be missing but its slots.
func (c *proving) guessable() bool {
	if !c.verified.Fresh(c.query.Contract) {
		return false
	}
	impl := c.implementation()
	if impl == nil {
		return true
	}
	_, known := c.verified.Account(*impl)
	return known
}

// fetched is what one contract asked for.
type fetched struct {
	proofs []*wanted
	codes  map[common.Address]*call
	hints  []*call
}

// fetch asks for what the contracts miss and verifies it. The node is asked along with it what is to be compared.
func (r *prover) fetch(ctx context.Context, all []*proving) {
	groups, answers := make([]group, len(all)), make([]fetched, len(all))
	accounts, codes := map[common.Address]*wanted{}, map[common.Address]*call{} // contracts share what they have in common
	for i, c := range all {
		answers[i] = r.wants(c, accounts, codes)
		for _, w := range answers[i].proofs {
			groups[i].calls = append(groups[i].calls, &w.call)
		}
		for _, a := range sortedKeys(answers[i].codes) {
			groups[i].calls = append(groups[i].calls, answers[i].codes[a])
		}
		groups[i].contract, groups[i].optional = c.query.Contract, answers[i].hints
		c.rounds++
	}
	var along [][]*multicall
	said := make(chan struct{})
	if countWaiting(all) <= maxInlineCalls {
		if along = r.multicalls(all); along != nil {
			for i := range groups {
				groups[i].optional = append(groups[i].optional, callsOf(along[i])...)
			}
		}
		close(said)
	} else {
		go func() {
			defer close(said)
			r.sendMulticalls(ctx, all)
		}()
	}
	errs := r.p.doGroups(ctx, groups)
	<-said
	r.failed("proving", all, errs)
	if along != nil {
		r.collect(all, along)
	}
	checked := map[*call]error{}
	for i, c := range all {
		if c.err == nil {
			c.hint(answers[i].hints)
			c.err = r.take(answers[i], checked)
		}
	}
}

// failed notes the contracts whose calls were not made.
func (r *prover) failed(doing string, all []*proving, errs []error) {
	for i, c := range all {
		if c.err == nil && errs[i] != nil {
			c.err = atBlock(doing, r.at, errs[i])
		}
	}
}

// wants makes the calls for what a contract misses. Those for an account alone, and for code, are shared.
func (r *prover) wants(c *proving, accounts map[common.Address]*wanted, codes map[common.Address]*call) fetched {
	slots, seen := map[common.Address][]common.Hash{}, map[proof.Slot]bool{}
	for _, s := range c.missing.Slots {
		if !seen[s] {
			seen[s] = true
			slots[s.Account] = append(slots[s.Account], s.Key)
		}
	}
	out := fetched{codes: map[common.Address]*call{}}
	for _, a := range slices.Concat(c.missing.Accounts, c.missing.Codes) {
		if codes[a] == nil {
			codes[a] = &call{method: "eth_getCode", args: []any{a, r.at.ref()}}
		}
		out.codes[a] = codes[a]
	}
	for _, a := range unique(c.missing.Accounts) {
		if len(slots[a]) > 0 {
			continue
		}
		if accounts[a] == nil {
			accounts[a] = wantProof(a, nil, r.at.ref())
		}
		out.proofs = append(out.proofs, accounts[a])
	}
	for _, a := range sortedKeys(slots) {
		for keys := range slices.Chunk(slots[a], keysAtOnce) {
			out.proofs = append(out.proofs, wantProof(a, keys, r.at.ref()))
		}
	}
	if addr := c.query.Contract; !c.hinted && !c.query.CodeOnly && r.hinted < maxHinted && slices.Contains(c.missing.Accounts, addr) {
		c.hinted = true
		r.hinted++
		out.hints = hintsFor(addr, r.at.ref())
	}
	return out
}

// take verifies what came for one contract. checked are the calls that were verified before, for another one.
func (r *prover) take(f fetched, checked map[*call]error) error {
	once := func(c *call, verify func() error) error {
		err, known := checked[c]
		if !known {
			err = verify()
			checked[c] = err
		}
		return err
	}
	for _, w := range f.proofs {
		if err := once(&w.call, func() error { return r.takeProof(w) }); err != nil {
			return err
		}
	}
	for _, addr := range sortedKeys(f.codes) {
		c := f.codes[addr]
		if err := once(c, func() error { return r.takeCode(addr, c) }); err != nil {
			return err
		}
	}
	return nil
}

func (r *prover) takeProof(w *wanted) error {
	if w.err != nil {
		if err := providerError(r.at, w.err); errors.Is(err, errUnknownBlock) {
			return err
		}
		return fmt.Errorf("%w: eth_getProof: %w", ErrNoProof, w.err)
	}
	a, err := readProof(w.result, len(w.keys))
	if err != nil {
		return fmt.Errorf("reading eth_getProof of %s: %w", w.addr, err)
	}
	if err := r.verified.AddAccount(w.addr, a.account); err != nil {
		return err
	}
	if acct, _ := r.verified.Account(w.addr); acct == nil {
		return nil
	}
	for i, key := range w.keys {
		if err := r.verified.AddSlot(w.addr, key, a.slots[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *prover) takeCode(addr common.Address, c *call) error {
	if err := providerError(r.at, c.err); err != nil {
		return err
	}
	code, err := bytesOf(c.result)
	if err != nil {
		return fmt.Errorf("reading the code of %s: %w", addr, err)
	}
	acct, known := r.verified.Account(addr)
	if !known || acct == nil || common.BytesToHash(acct.CodeHash) == emptyCode {
		return nil
	}
	if err := r.verified.AddCode(code); err != nil {
		return fmt.Errorf("the code of %s: %w", addr, err)
	}
	return nil
}

// providerError tells the provider's fault from the contract's answer: nil for no error, and for a revert.
func providerError(at pin, err error) error {
	switch {
	case err == nil || isRevert(err):
		return nil
	case isUnknownBlock(err):
		return fmt.Errorf("%w: %w", errUnknownBlock, err)
	case isPruned(err):
		return pruned(at, err)
	default:
		return atBlock("reading", at, err)
	}
}

func pruned(at pin, err error) error {
	return fmt.Errorf("%w at block %d: use a provider that keeps older state, or a younger block policy such as `block: latest-5`: %w",
		ErrNoState, at.block.Number, err)
}

// isGone reports whether an error is of the block, whatever is asked of it.
func isGone(err error) bool { return errors.Is(err, errUnknownBlock) || errors.Is(err, ErrNoState) }
