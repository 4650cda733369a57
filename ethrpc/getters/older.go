package getters

import (
	"context"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"

	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// An upgrade leaves in the storage what no getter of the newer code reads. The older code is still at its address, so its
// getters are run over today's storage, as if the proxy still pointed there.
//
// Older code need not be honest. An owner may upgrade to code whose getter reads the place of a hidden entry, and back.
// So what a getter says is not believed, and what it reads is explained only where it is not the place of an entry:
//
//   - A variable that is no mapping has a small slot, or one that follows from it by hashing 32 bytes (a long text). The
//     place of an entry follows from hashing 64 bytes or more: its id and the slot of the list.
//   - A value by address has hash(padded address, small slot), which is the place of an entry if the padded address is
//     its id and the small slot is that of a list. Anybody can register an app from such an address. So the getters of
//     the three lists are run for the padded address as an id, wherever the code of today keeps its lists, and what they
//     read is not explained.
//   - Anything else is not explained, among it hash(id, slot) of an id that is no padded address.
//
// A getter that reads anything besides what it may explain, or that asks about another account, explains nothing at all.

const (
	maxOlderRounds  = 8    // of asking for what older code misses
	maxOlderSlots   = 2048 // that are asked for, for getters without an argument
	maxOlderCallers = 4096 // who registered apps, the first ones: anybody can, but few could while that was counted
	maxValueSlots   = 8    // of a getter of an address, the well-known ones included

	maxOlderTimePerCall = 4 * maxRunTimePerCall // it is run several times, and the getters of the lists with it
)

// olderRun is what running older implementations takes and came to.
type olderRun struct {
	asked  int              // how often calls were asked for: those of contracts, then those of whoever registered apps
	codes  []common.Address // the implementations
	jobs   []*Job
	budget time.Duration
	slots  int // that getters without an argument asked for
	rounds int // the number of the first round that is one too many
}

// implementationJobs returns calls of older implementations where the storage is not accounted for without them, and nothing may
// be left out: at first those that show what an implementation has, then those that take the accounts which registered apps.
func (c *Run) implementationJobs() (jobs []*Job) {
	o := &c.olderRun
	now, isProxy := c.implementation()
	if o.asked > 1 || !isProxy || c.Query.CodeOnly || !slices.ContainsFunc(c.Query.Implementations, func(code common.Address) bool { return code != now }) || c.accounted() {
		return nil
	}
	if c.partial {
		c.Reading.Partial = true // else what is not explained would stand
		return nil
	}
	if o.asked++; o.asked == 1 {
		for _, code := range c.Query.Implementations[:min(len(c.Query.Implementations), kms.MaxImplementations)] {
			if code != now {
				o.codes = append(o.codes, code)
				jobs = appendJobs(jobs, code, kms.OlderCalls)
			}
		}
		o.budget = maxRunTime
	} else {
		calls := c.Query.OldCalls(kms.NextAppSequence)
		for _, j := range o.jobs {
			if j.Old == kms.NextAppSequence && j.output != nil {
				jobs = appendJobs(jobs, j.code, calls[:min(len(calls), maxOlderCallers)])
			}
		}
	}
	o.jobs = append(o.jobs, jobs...)
	o.budget += time.Duration(len(jobs)) * maxOlderTimePerCall
	o.rounds = c.rounds + maxOlderRounds
	return jobs
}

func appendJobs(jobs []*Job, code common.Address, calls []kms.Call) []*Job {
	for _, call := range calls {
		jobs = append(jobs, &Job{Call: call, code: code})
	}
	return jobs
}

// accounted reports whether what is explained, and guessed, by now is all that the contract stores.
func (c *Run) accounted() bool {
	addr, explained := c.Query.Contract, c.explained(c.Query.Contract, c.Query.NeededSlots())
	for key := range c.guess.words {
		explained[key] = true
	}
	if !c.State.Complete(addr) && (c.guess.tried || !c.State.ProveBySpeculation(addr, c.guess.words)) {
		return false
	}
	_, all := c.State.Accounted(addr, explained)
	return all
}

// gaveUp reports whether the jobs are those of older implementations, and have cost too many rounds.
func (c *Run) gaveUp() bool {
	return len(c.jobs) > 0 && c.jobs[0].code != common.Address{} && c.rounds >= c.olderRun.rounds
}

// callOlder runs one job of an older implementation, and notes what it explains.
func (c *Run) callOlder(ctx context.Context, j *Job) (proof.Missing, error) {
	o, addr := &c.olderRun, c.Query.Contract
	if o.budget < 0 {
		return proof.Missing{}, nil
	}
	began := time.Now()
	at := proof.Slot{Account: addr, Key: kms.ImplementationSlot}
	res, err := c.State.CallReplacing(ctx, addr, []byte(j.Data), at, common.BytesToHash(j.code[:]))
	o.budget -= cost(res, began)
	switch {
	case ctx.Err() != nil:
		return proof.Missing{}, context.Cause(ctx)
	case err != nil || !c.keepsTo(j, res):
		return proof.Missing{}, nil
	case !res.Missing.Empty():
		if j.Old == "" {
			o.slots += len(res.Missing.Slots)
		}
		if o.slots > maxOlderSlots {
			return proof.Missing{}, nil
		}
		return res.Missing, nil
	}
	isKnown := func(s proof.Slot) bool { return c.touched[s] || c.appSlots[s] || !c.State.HasLeaf(s) }
	left := slices.DeleteFunc(res.Touched, isKnown)
	if res.Reverted || slices.ContainsFunc(left, func(s proof.Slot) bool { return c.isEntry(ctx, j, s) }) {
		return proof.Missing{}, nil
	}
	for _, s := range left {
		c.touched[s], c.Accounts[j.code] = true, true
	}
	j.output = res.Output
	return proof.Missing{}, nil
}

// keepsTo reports whether a run of older code read nothing but variables, and values of the address that it was asked for.
func (c *Run) keepsTo(j *Job, res proof.Result) bool {
	foreign := func(a common.Address) bool { return a != c.Query.Contract && a != j.code }
	if slices.ContainsFunc(res.Accounts, foreign) || j.Old != "" && len(res.Touched) > maxValueSlots {
		return false
	}
	for _, s := range res.Touched {
		if s.Account != c.Query.Contract || !kms.IsVariable(s.Key) && (j.Old == "" || !kms.IsValueOf(s.Key, argument(j))) {
			return false
		}
	}
	return true
}

// argument is the padded address that a job asks for.
func argument(j *Job) common.Hash { return common.BytesToHash([]byte(j.Data[4:])) }

// isEntry reports whether a slot that the job read may be the place of an entry of a list.
func (c *Run) isEntry(ctx context.Context, j *Job, s proof.Slot) bool {
	if kms.IsVariable(s.Key) {
		return false
	}
	for _, entry := range kms.EntryCalls(argument(j)) {
		began := time.Now()
		res, err := c.State.CallAssuming(ctx, s.Account, []byte(entry.Data), nil)
		c.olderRun.budget -= cost(res, began)
		if err != nil || len(res.Missing.Accounts)+len(res.Missing.Codes) > 0 || slices.Contains(res.Touched, s) {
			return true
		}
	}
	return false
}

// countRegistered compares the apps whose registration was counted with what the counters say, where something that the
// contract stores is not explained.
func (c *Run) countRegistered() {
	r, most := &c.Reading, uint64(len(c.Query.Apps))
	if r.Storage.Complete {
		return // whoever it was is known
	}
	count := func(output []byte) int {
		if n := new(uint256.Int).SetBytes(output); n.IsUint64() {
			return int(min(n.Uint64(), most))
		}
		return 0
	}
	if r.Sequenced {
		r.Counted = len(c.Query.Apps)
		for _, j := range c.older {
			if j.Old == kms.NextAppSequence {
				r.Registered += count(j.output)
			}
		}
		return
	}
	byCaller := map[string]int{}
	for _, j := range c.olderRun.jobs {
		if j.Old == kms.NextAppSequence && j.output != nil {
			r.Sequenced = true
			byCaller[j.Data] = max(byCaller[j.Data], count(j.output))
		}
	}
	for _, n := range byCaller {
		r.Registered += n
	}
	if r.Sequenced {
		r.Counted = c.controlledApps()
	}
}

// controlledApps counts the apps that have a controller. Of May to July 2025 each app has one, which is packed into a
// word with whether it is registered; the code since then keeps only the latter there. The words are taken from the
// storage: what older code says is not believed.
func (c *Run) controlledApps() (n int) {
	mapping := 0 // that today's getter of apps reads
	slot := func(app common.Address) proof.Slot {
		return proof.Slot{Account: c.Query.Contract, Key: kms.MappingSlot(common.BytesToHash(app[:]), mapping)}
	}
	for len(c.Query.Apps) > 0 && mapping < kms.SmallSlots && !c.appSlots[slot(c.Query.Apps[0])] {
		mapping++
	}
	for _, app := range c.Query.Apps {
		if word, _ := c.State.Value(slot(app)); new(uint256.Int).SetBytes(word[:]).BitLen() > 8 {
			n++
		}
	}
	return n
}
