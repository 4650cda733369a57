package getters

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
)

// Limits for one contract's code. A contract that exceeds them is not proven; others are unaffected.
const (
	maxRounds            = 16 // of fetching state that calls miss
	maxIncrementalRounds = 8  // that fetch only what changed; later ones fetch all that is missing
	slotsPerRound        = 32 // in an incremental round
	maxAccounts          = 64 // that the code asks about; each is proven in every audit

	// Time is derived from gas, so that it is the same on every machine. A call that uses up its gas takes about 200 ms, an
	// allowlist's getter at most 60 µs. There are five other getters.
	maxRunTime        = 2 * time.Second
	maxRunTimePerCall = 500 * time.Microsecond
	timePerGas        = 7 * time.Nanosecond
	timePerWatchedGas = 4 * timePerGas
)

// Proven is what was proven about one contract. After Finish it is immutable, since several Proven share its maps.
type Proven struct {
	Query    kms.Query
	Reading  Reading
	State    *proof.VerifiedState
	Accounts map[common.Address]bool // that the answers depend on

	said     [][]byte            // the node's answers to kms.FixedCalls, nil if missing; kept while a guess may need them
	touched  map[proof.Slot]bool // slots that getters read
	appSlots map[proof.Slot]bool // slots that the apps' getter read
	allApps  *Proven             // the last one whose runs cover every app of its Query; may be nil
	volatile bool                // some code read block data, so its answers hold for this block only
}

// UnchangedIn reports whether w proves that every account that the answers depend on has the same code and, if storage is true,
// the same storage.
func (m *Proven) UnchangedIn(w *proof.VerifiedState, storage bool) bool {
	if m == nil || m.volatile || storage && m.Reading.Partial {
		return false
	}
	for addr := range m.Accounts {
		was, _ := m.State.Account(addr)
		is, known := w.Account(addr)
		if !known || (was == nil) != (is == nil) {
			return false
		}
		if is != nil && (storage && is.Root != was.Root || !bytes.Equal(is.CodeHash, was.CodeHash)) {
			return false
		}
	}
	return true
}

// Job is one local call and its result.
type Job struct {
	kms.Call
	Node *kms.Answer // the node's answer; nil if not asked or not given
	Err  error       // why the local call failed

	code     common.Address  // the older implementation to run; zero for today's
	to       *common.Address // nil for the contract
	app      bool            // it is about an app
	passing  bool            // only the slots that it read are kept
	compared bool            // the node is asked for its answer
	ran      bool
	output   []byte // of a coverage call; nil without Err if it reverted
}

// Run proves one contract's answers by running its code over proven state. Several Runs may share that state, but nothing else.
type Run struct {
	*Proven               // what is proven so far
	Missing proof.Missing // what the next Step needs
	Waiting []*Job        // what to ask the node
	Slow    bool          // the last Step ran into its limit
	Fault   error         // why the contract's code cannot be proven with any provider; an ErrNoProof

	old     *Proven // from an earlier Run; may be nil
	partial bool    // answers may be left out if a guess does not explain the storage

	all      []*Job
	coverage []*Job // the jobs of all that call no allowlist's getter
	jobs     []*Job // left to run
	guess    guess
	apps     appRuns
	older    []*Job // further coverage calls of an older generation
	oldAsked bool
	olderRun olderRun

	roles        map[common.Address]footprint.Role // of the accounts whose code ran
	ways         map[string]bool                   // sequences of accounts whose code a traced call loaded
	unwatched    bool                              // a watched call failed
	foreign      []common.Address                  // further accounts whose storage the allowlists' getters read
	foreignAsked int                               // how many of these have jobs

	nextSlots []proof.Slot // likely to be missing next
	rounds    int
	budget    time.Duration // remaining run time
}

// New returns a Run of a Query over a state. An earlier Run's result saves work; old may be nil. If partial is true, the Run may
// leave out answers of a contract that stores more than the Query explains.
func New(q *kms.Query, state *proof.VerifiedState, old *Proven, partial bool) *Run {
	c := &Run{
		Proven: &Proven{
			Query: q.Clone(), Reading: NewReading(q), State: state, Accounts: map[common.Address]bool{q.Contract: true},
			said: make([][]byte, len(kms.FixedCalls)), touched: map[proof.Slot]bool{}, appSlots: map[proof.Slot]bool{},
		},
		old: old, partial: partial, roles: map[common.Address]footprint.Role{q.Contract: footprint.Implementation}, ways: map[string]bool{},
	}
	if old != nil {
		c.nextSlots = slices.Collect(maps.Keys(old.touched))
		copy(c.said, old.said)
		c.allApps = old.allApps
	}
	c.apps.plan(q, c.allApps)
	lists := q.ListCalls()
	for _, call := range slices.Concat(lists, q.CoverageCalls()) {
		c.all = append(c.all, &Job{Call: call})
	}
	for _, call := range c.firstAppCalls() {
		c.all = append(c.all, &Job{Call: call, app: true})
	}
	c.jobs, c.coverage = c.all, c.all[len(lists):]
	c.budget = maxRunTime + time.Duration(len(c.jobs))*maxRunTimePerCall
	return c
}

// Said records the node's answer to call i of kms.FixedCalls.
func (c *Run) Said(i int, output []byte) { c.said[i] = output }

// Errors of an answer or a proof.
var (
	ErrNoProof  = errors.New("not proven") // not a lie; proof.ErrInvalid marks one
	ErrReverted = errors.New("the contract reverts")
	ErrNoCode   = errors.New("there is no code")
	ErrRunTime  = errors.New("the contract's code takes too long")
)

// Step runs the jobs that can run, for at most limit; 0 means no limit. It reports whether jobs are left, which need Missing or
// the node's answers to Waiting. It fails if ctx ends.
func (c *Run) Step(ctx context.Context, limit time.Duration) (left bool, err error) {
	run := ctx
	if limit > 0 {
		var cancel context.CancelFunc
		run, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	c.State.CarryOver(c.Query.Contract) // the fetched slots may be all that changed
	for {
		m, jobs := c.round(run, false)
		c.jobs, c.Missing = jobs, proof.Missing{}
		if err := c.costs(); err != nil {
			c.Fail(err)
			return false, nil
		}
		if ctx.Err() != nil {
			return false, fmt.Errorf("the audit ended before its code had run: %w", context.Cause(ctx))
		}
		if c.Slow = len(jobs) > 0 && run.Err() != nil; c.Slow {
			return true, nil
		}
		m = c.needed(m)
		incremental := slotsPerRound
		if c.rounds >= maxIncrementalRounds {
			incremental = 0
		}
		if m.Slots = c.State.NextSlots(m.Slots, incremental); !m.Empty() && !c.gaveUp() {
			c.Missing = m
			break
		}
		var ask bool
		if c.jobs, ask = c.appJobs(); ask {
			return true, nil
		} else if len(c.jobs) > 0 {
			continue
		}
		if c.jobs = c.olderJobs(); len(c.jobs) > 0 {
			continue // before settleGuess, since the guess must include the slots that they read
		}
		if c.jobs = c.implementationJobs(); len(c.jobs) > 0 {
			continue // likewise
		}
		if c.jobs = c.settleGuess(); len(c.jobs) > 0 || c.appsLeft() {
			continue
		}
		if c.jobs = c.foreignJobs(); len(c.jobs) == 0 {
			return false, nil
		}
	}
	if c.rounds++; c.rounds <= max(maxRounds, c.olderRun.rounds+maxRounds/2) {
		return true, nil
	}
	for _, j := range c.jobs {
		c.failJob(j, fmt.Errorf("after %d rounds the contract's code still asks for more state", c.rounds))
	}
	c.jobs, c.Missing = nil, proof.Missing{}
	return false, nil
}

// olderJobs returns, once, the further coverage calls if the contract turned out to be of an older generation.
func (c *Run) olderJobs() []*Job {
	if c.oldAsked {
		return nil
	}
	c.oldAsked = true
	for _, j := range c.coverage {
		if j.Old == "" || j.output == nil {
			continue
		}
		for _, call := range c.Query.OldCalls(j.Old) {
			c.older = append(c.older, &Job{Call: call})
		}
		c.Reading.Sequenced = c.Reading.Sequenced || j.Old == kms.NextAppSequence
	}
	c.budget += time.Duration(len(c.older)) * maxRunTimePerCall
	return c.older
}

// Fail records that the contract's code cannot be proven. Its other calls continue, to find getters that write.
func (c *Run) Fail(err error) {
	if c.Fault == nil {
		c.Fault = fmt.Errorf("%w: %w", ErrNoProof, err)
	}
}

// failJob records that one local call failed. Devices and OS images, which the API claims, must all be proven. Other answers may
// fail one by one.
func (c *Run) failJob(j *Job, err error) {
	c.unwatched = c.unwatched || j.watched() && !j.ran
	if j.app {
		c.apps.appFailed(err)
	}
	if j.output, j.Err = nil, err; j.Getter == "" {
		return
	}
	c.Reading.SetAnswer(j.Call, kms.Answer{Err: err})
	if j.Getter != kms.AllowedAggregatedMR && !errors.Is(err, proof.ErrWrites) { // that a getter writes is proven
		c.Fail(err)
	}
}

// round runs the jobs, and returns the missing state and the jobs that are left. It returns no jobs if they cost too much. Unless
// it is the last round, a job that lacks code ends it: the others are likely to lack the same code.
func (c *Run) round(ctx context.Context, last bool) (m proof.Missing, left []*Job) {
	blocked := false
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
		blocked = !last && len(missing.Accounts)+len(missing.Codes) > 0
		if !missing.Empty() {
			left = append(left, j)
			m.Add(missing)
		}
		if c.costs() != nil {
			return m, nil
		}
	}
	return m, left
}

// costs returns an error if the code exceeds its limits. It is not run any more then.
func (c *Run) costs() error {
	switch {
	case c.budget < 0:
		return ErrRunTime
	case len(c.Accounts) > maxAccounts:
		return fmt.Errorf("the contract's code asks for more than %d accounts", maxAccounts)
	}
	return nil
}

// needed adds the state to m that must be proven even if the contract's code does not read it.
func (c *Run) needed(m proof.Missing) proof.Missing {
	addr := c.Query.Contract
	a, known := c.State.Account(addr)
	if !known {
		m.Accounts = append(m.Accounts, addr)
	}
	if known && a == nil {
		return m
	}
	for _, key := range c.Query.NeededSlots() {
		m.Slots = append(m.Slots, proof.Slot{Account: addr, Key: key})
	}
	if impl, ok := c.implementation(); ok && c.Query.Control && !c.Query.CodeOnly {
		c.Accounts[impl] = true
		if _, known := c.State.Account(impl); !known {
			m.Accounts = append(m.Accounts, impl)
		}
	}
	for _, code := range c.olderRun.codes {
		if _, known := c.State.Account(code); !known {
			m.Accounts = append(m.Accounts, code)
		}
	}
	for _, a := range c.foreign[:c.foreignAsked] {
		for _, key := range kms.WellKnown {
			m.Slots = append(m.Slots, proof.Slot{Account: a, Key: key})
		}
	}
	m.Slots = append(m.Slots, c.nextSlots...)
	c.nextSlots = nil
	return m
}

// call runs one job and records its answer and what it read.
func (c *Run) call(ctx context.Context, j *Job) (proof.Missing, error) {
	if c.State.HasNoCode(c.Query.Contract) {
		if j.Getter != "" {
			c.Reading.SetAnswer(j.Call, kms.Answer{Err: ErrNoCode})
		}
		return proof.Missing{}, nil
	}
	if j.code != (common.Address{}) {
		return c.callOlder(ctx, j)
	}
	want, assume := c.guessFor(j)
	began, to := time.Now(), c.Query.Contract
	if j.to != nil {
		to = *j.to
	}
	res, err := c.State.CallAssuming(ctx, to, []byte(j.Data), assume)
	if ctx.Err() == nil { // an interrupted call runs again
		c.budget -= cost(res, began)
	}
	if ctx.Err() != nil && err != nil {
		return proof.Missing{}, err
	}
	guessed := want != nil && c.guess.take(c.Query.Contract, j, res, want, assume)
	switch {
	case guessed && !j.passing: // it runs again in settleGuess
		return proof.Missing{}, nil
	case !guessed && !res.Missing.Empty():
		return res.Missing, nil
	}
	for _, a := range res.Accounts {
		c.Accounts[a] = true
	}
	c.volatile = c.volatile || res.Volatile
	if j.watched() {
		if err := c.watch(ctx, j, res, err == nil); err != nil {
			return proof.Missing{}, err
		}
		j.ran = true
	}
	if err != nil {
		return proof.Missing{}, err
	}
	touched := c.touched
	switch {
	case guessed:
		touched = c.guess.apps
	case j.app:
		touched = c.appSlots
	}
	for _, s := range res.Touched {
		touched[s] = true
	}
	switch {
	case j.Getter != "" && res.Reverted:
		c.Reading.SetAnswer(j.Call, kms.Answer{Err: ErrReverted})
	case j.Getter != "":
		c.Reading.SetAnswer(j.Call, kms.DecodeBool(res.Output))
	case !res.Reverted:
		j.output = res.Output
	}
	return proof.Missing{}, nil
}

// cost returns the time that a run took.
func cost(res proof.Result, began time.Time) time.Duration {
	if res.Gas == 0 {
		return time.Since(began)
	}
	return time.Duration(res.Gas) * timePerGas
}

// implementation returns the address in the contract's proven ERC-1967 slot. If ok is false, the slot has none or is not proven yet.
func (c *Run) implementation() (addr common.Address, ok bool) {
	word, _ := c.State.Value(proof.Slot{Account: c.Query.Contract, Key: kms.ImplementationSlot})
	addr, err := kms.DecodeAddress(word[:])
	return addr, err == nil && word != common.Hash{}
}

// Finish completes the Reading and returns what was proven.
func (c *Run) Finish() *Proven {
	addr, r := c.Query.Contract, &c.Reading
	if !r.Partial {
		c.said = nil
	}
	if len(c.Query.Apps) > 0 && !r.Partial && c.apps.ranForAll() {
		c.allApps = c.Proven
	}
	a, _ := c.State.Account(addr)
	if a == nil {
		return c.Proven
	}
	hash := common.BytesToHash(a.CodeHash)
	r.HasCode = hash != types.EmptyCodeHash
	if c.Query.CodeOnly {
		return c.Proven
	}
	if r.HasCode && c.Query.Control {
		r.Control = c.control()
	}
	slots, all := c.State.Accounted(addr, c.explained(addr, c.Query.NeededSlots()))
	r.Storage = &Storage{a.Root, hash, slots, all}
	r.Unaccounted, r.Refused = c.unaccounted(), c.Refused()
	c.countRegistered()
	return c.Proven
}

// control returns the proven Control.
func (c *Run) control() kms.Control {
	out := kms.Control{Code: c.code()}
	for i := range kms.ControlCalls {
		out.SetGetter(i, c.coverage[i].output, c.coverage[i].Err)
	}
	word, _ := c.State.Value(proof.Slot{Account: c.Query.Contract, Key: kms.ImplementationSlot})
	out.SetImplementation(word, nil)
	return out
}
