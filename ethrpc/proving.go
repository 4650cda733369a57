package ethrpc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// What one contract's code may cost here. A contract that takes more is not proven; no other one notices.
const (
	maxRounds            = 16 // of asking for what a call still misses
	maxIncrementalRounds = 8  // that ask for what changed, before all that is missing is asked for
	slotsPerRound        = 32 // of an incremental round
	maxAccounts          = 64 // that its code asks about: a proxy and its implementation are two, each is proven in every audit

	// Time is measured in gas, so that it is the same on every machine. A call that uses up its gas takes about 200 ms, a
	// getter of a list 60 µs at most. There are five other getters.
	maxRunTime        = 2 * time.Second
	maxRunTimePerCall = 500 * time.Microsecond
	timePerGas        = 7 * time.Nanosecond
)

// output is what a coverage call returned. Neither data nor err: it reverted.
type output struct {
	data []byte
	err  error
}

// job is one local call.
type job struct {
	kms.Call
	compared bool
	node     *Answer // the node's, in a multicall
}

// proving is the attempt to prove one contract's answers by running its code over proven state. Several share what is verified,
// and nothing else.
type proving struct {
	query    *Query
	old      *provenContract // nil: nothing is known of it
	verified *proof.VerifiedState
	partial  bool // what a guess does not explain may be left out
	compares bool // with what a node answers

	all      []job  // those of lists first
	jobs     []*job // left to run
	waiting  []*job // to be asked of the node
	reading  Reading
	outputs  map[string]output       // of coverage calls
	touched  map[proof.Slot]bool     // by all calls
	accounts map[common.Address]bool // that the answers rest on
	volatile bool                    // some code looked at the block itself
	guess    guess

	hints   proof.Missing // what may be missing next
	hinted  bool          // they were asked for
	missing proof.Missing
	rounds  int
	budget  time.Duration // that is left to run
	slow    bool          // the last step was cut short

	fault error // why the contract's code cannot be proven, by whichever provider; an ErrNoProof
	ended bool  // by what it costs
	err   error // why the provider could not prove it
}

func newProving(q *Query, w *proof.VerifiedState, old *provenContract) *proving {
	c := &proving{
		query: q, verified: w, old: old, reading: newReading(q), outputs: map[string]output{},
		touched: map[proof.Slot]bool{}, accounts: map[common.Address]bool{q.Contract: true},
	}
	if old != nil {
		c.hints.Slots = slices.Collect(maps.Keys(old.touched))
	}
	for _, call := range slices.Concat(q.ListCalls(), q.CoverageCalls()) {
		c.all = append(c.all, job{Call: call})
	}
	for i := range c.all {
		c.jobs = append(c.jobs, &c.all[i])
	}
	c.budget = maxRunTime + time.Duration(len(c.jobs))*maxRunTimePerCall
	return c
}

var errRunTime = errors.New("the contract's code takes too long")

// step runs what can be run, for limit at most unless it is 0, and reports whether something is left. What is missing for
// it is in c.missing.
func (c *proving) step(ctx context.Context, limit time.Duration) (left bool) {
	run := ctx
	if limit > 0 {
		var cancel context.CancelFunc
		run, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	for {
		m, jobs := c.round(run)
		if c.ended {
			return false
		}
		c.jobs, c.missing = jobs, proof.Missing{}
		if ctx.Err() != nil {
			c.err = fmt.Errorf("the audit ended before its code had run: %w", context.Cause(ctx))
			return false
		}
		if c.slow = len(jobs) > 0 && run.Err() != nil; c.slow {
			return true
		}
		m = c.needed(m)
		incremental := slotsPerRound
		if c.rounds >= maxIncrementalRounds {
			incremental = 0
		}
		if m.Slots = c.verified.NextSlots(m.Slots, incremental); !m.Empty() {
			c.missing = m
			break
		}
		if c.jobs = c.settleGuess(); len(c.jobs) == 0 {
			return false
		}
	}
	if c.rounds == maxRounds {
		c.endRounds()
	}
	return !c.missing.Empty()
}

// endRounds gives up the calls that still miss something.
func (c *proving) endRounds() {
	err := fmt.Errorf("after %d rounds the contract's code still asks for more state", c.rounds)
	for _, j := range c.jobs {
		c.failJob(j, err)
	}
	c.jobs, c.missing = nil, proof.Missing{}
}

// fail notes that the contract's code cannot be proven. Its other calls go on: one that writes is not to be believed.
func (c *proving) fail(err error) {
	if c.fault == nil {
		c.fault = fmt.Errorf("%w: %w", ErrNoProof, err)
	}
}

// end is fail for code that costs too much.
func (c *proving) end(err error) {
	c.fail(err)
	c.ended, c.jobs, c.missing = true, nil, proof.Missing{}
}

// failJob notes that one call cannot be made here. A list must be proven as a whole. Anything else stands for itself.
func (c *proving) failJob(j *job, err error) {
	if j.Getter == "" {
		c.outputs[j.Data] = output{err: err}
		return
	}
	c.reading.setAnswer(j.Call, Answer{Err: err})
	if !errors.Is(err, proof.ErrWrites) { // with two answers to choose from there is none, and that is proven
		c.fail(err)
	}
}

// round runs the jobs, and returns what is missing and the jobs that are left.
func (c *proving) round(ctx context.Context) (m proof.Missing, left []*job) {
	blocked := false // for want of some code, which the other calls are likely to want too
	for i, j := range c.jobs {
		if blocked {
			return m, append(left, c.jobs[i:]...)
		}
		missing, err := c.call(ctx, j)
		if ctx.Err() != nil && err != nil {
			return m, append(left, c.jobs[i:]...)
		}
		if err != nil {
			c.failJob(j, err)
		}
		blocked = len(missing.Accounts)+len(missing.Codes) > 0
		if !missing.Empty() {
			left = append(left, j)
			m.Accounts, m.Slots, m.Codes = append(m.Accounts, missing.Accounts...), append(m.Slots, missing.Slots...), append(m.Codes, missing.Codes...)
		}
		if err := c.costs(); err != nil {
			c.end(err)
			return m, nil
		}
	}
	return m, left
}

// costs is an error where the code takes too much.
func (c *proving) costs() error {
	switch {
	case c.budget < 0:
		return errRunTime
	case len(c.accounts) > maxAccounts:
		return fmt.Errorf("the contract's code asks for more than %d accounts", maxAccounts)
	}
	return nil
}

// needed adds what is to be known of the contract whatever its code reads.
func (c *proving) needed(m proof.Missing) proof.Missing {
	addr := c.query.Contract
	a, known := c.verified.Account(addr)
	if !known {
		m.Accounts = append(m.Accounts, addr)
	}
	if known && a == nil {
		return m
	}
	for _, key := range c.query.NeededSlots() {
		m.Slots = append(m.Slots, proof.Slot{Account: addr, Key: key})
	}
	hinted := c.hints.Accounts
	if impl := c.implementation(); c.query.Control && !c.query.CodeOnly && impl != nil {
		c.accounts[*impl] = true
		hinted = append(hinted, *impl)
	}
	for _, a := range hinted {
		if _, known := c.verified.Account(a); !known {
			m.Accounts = append(m.Accounts, a)
		}
	}
	m.Slots = append(m.Slots, c.hints.Slots...)
	c.hints = proof.Missing{}
	return m
}

// call runs one job and notes what it read.
func (c *proving) call(ctx context.Context, j *job) (proof.Missing, error) {
	if c.verified.HasNoCode(c.query.Contract) {
		if j.Getter != "" {
			c.reading.setAnswer(j.Call, Answer{Err: errNoCode})
		}
		return proof.Missing{}, nil
	}
	word, guessed := c.guessFor(j)
	began := time.Now()
	res, err := c.verified.CallAssuming(ctx, c.query.Contract, []byte(j.Data), word)
	if c.budget -= time.Duration(res.Gas) * timePerGas; res.Gas == 0 {
		c.budget -= time.Since(began)
	}
	switch {
	case ctx.Err() != nil && err != nil:
		return proof.Missing{}, err
	case guessed && c.guess.take(c.query.Contract, j, res, word):
		return proof.Missing{}, nil
	case !res.Missing.Empty():
		return res.Missing, nil
	}
	for _, a := range res.Accounts {
		c.accounts[a] = true
	}
	c.volatile = c.volatile || res.Volatile
	if err != nil {
		return proof.Missing{}, err
	}
	for _, s := range res.Touched {
		c.touched[s] = true
	}
	switch {
	case j.Getter != "":
		a := Answer{Err: errReverted}
		if !res.Reverted {
			a = kms.DecodeBool(res.Output)
		}
		c.reading.setAnswer(j.Call, a)
	case res.Reverted:
		c.outputs[j.Data] = output{}
	default:
		c.outputs[j.Data] = output{data: res.Output}
	}
	return proof.Missing{}, nil
}

// implementation returns the address in the contract's proven ERC-1967 slot, or nil if it is empty or not proven yet.
func (c *proving) implementation() *common.Address {
	word, known := c.verified.Value(proof.Slot{Account: c.query.Contract, Key: kms.ImplementationSlot})
	if !known || word == (common.Hash{}) {
		return nil
	}
	impl, err := kms.DecodeAddress(word[:])
	if err != nil {
		return nil
	}
	return &impl
}

var (
	errReverted = errors.New("the contract reverts")
	errNoCode   = errors.New("there is no code")
	emptyCode   = crypto.Keccak256Hash()
)

// finish returns what is proven.
func (c *proving) finish() *provenContract {
	addr, r := c.query.Contract, c.reading
	r.Proven = true
	a, _ := c.verified.Account(addr)
	if a != nil {
		hash := common.BytesToHash(a.CodeHash)
		if r.HasCode = hash != emptyCode; r.HasCode && c.query.Control && !c.query.CodeOnly {
			r.Control = c.control(hash)
		}
		if !c.query.CodeOnly {
			keys := map[common.Hash]bool{} // that are explained
			for _, key := range c.query.NeededSlots() {
				keys[key] = true
			}
			for s := range c.touched {
				if s.Account == addr {
					keys[s.Key] = true
				}
			}
			all, known := c.verified.Leaves(addr, keys)
			r.Storage = &Storage{a.Root, hash, known, c.verified.Complete(addr) && known == all}
		}
	}
	return &provenContract{
		query: c.query.Clone(), reading: r, verified: c.verified, touched: c.touched,
		accounts: slices.SortedFunc(maps.Keys(c.accounts), common.Address.Cmp), volatile: c.volatile,
	}
}

// control is what is proven of the contract's control.
func (c *proving) control(codeHash common.Hash) Control {
	out := Control{CodeHash: codeHash}
	for i, call := range kms.ControlCalls {
		o := c.outputs[call.Data]
		out.SetGetter(i, o.data, o.err)
	}
	word, _ := c.verified.Value(proof.Slot{Account: c.query.Contract, Key: kms.ImplementationSlot})
	out.SetImplementation(word, nil)
	if out.Implementation.Present {
		if a, known := c.verified.Account(out.Implementation.Value); !known {
			out.CodeErr = errLacksState
		} else if a != nil {
			out.ImplementationCodeHash = common.BytesToHash(a.CodeHash)
		}
	}
	return out
}
