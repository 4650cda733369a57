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

// After an upgrade the storage may hold values that no getter of the new code reads. The older code is still at its address, so
// its getters are run over today's storage, as if the proxy still pointed there.
//
// Older code may be malicious. An owner may upgrade to code whose getter reads the slot of a hidden allowlist entry, and back.
// So the answers of older code are ignored, and a slot that it reads is explained only if it cannot be the slot of an entry:
//
//   - A variable that is not a mapping has a small slot, or one derived from it by hashing 32 bytes (a long string). The slot
//     of an entry is the hash of 64 bytes or more: its id and the slot of the list.
//   - A value by address is at hash(padded address, small slot). That is the slot of an entry if the padded address is its id
//     and the small slot is that of a list. Anybody can register an app from such an address. So today's getters of the three
//     lists run with the padded address as id, and the slots that they read are not explained.
//   - No other slot is explained. That includes hash(id, slot) if the id is not a padded address.
//
// A getter that reads any other slot, or asks about another account, explains nothing.

const (
	maxOlderRounds  = 8    // of fetching state that older code misses
	maxOlderSlots   = 2048 // fetched for getters without an argument
	maxOlderCallers = 4096 // accounts that registered apps, the first ones; few could while registrations were counted
	maxValueSlots   = 8    // read by a getter of an address, including well-known ones

	maxOlderTimePerCall = 4 * maxRunTimePerCall // each call runs several times, and the lists' getters run with it
)

// olderRun is the state of running older implementations.
type olderRun struct {
	asked  int              // stages begun: 1 OlderCalls, 2 the accounts that registered apps
	codes  []common.Address // the implementations
	jobs   []*Job
	budget time.Duration
	slots  int // missed by getters without an argument
	rounds int // older code is given up in this round
}

// implementationJobs returns calls of older implementations if the storage is not accounted for without them. First come
// OlderCalls, then the calls for the accounts that registered apps. If answers may be left out, the Reading becomes partial
// instead.
func (c *Run) implementationJobs() (jobs []*Job) {
	o := &c.olderRun
	now, isProxy := c.implementation()
	if o.asked > 1 || !isProxy || c.Query.CodeOnly || !slices.ContainsFunc(c.Query.Implementations, func(code common.Address) bool { return code != now }) || c.accounted() {
		return nil
	}
	if c.partial {
		c.Reading.Partial = true // else unexplained slots would count
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

// accounted reports whether the slots explained or guessed so far are all that the contract stores.
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

// gaveUp reports whether the jobs are of older implementations and have used up their rounds.
func (c *Run) gaveUp() bool {
	return len(c.jobs) > 0 && c.jobs[0].code != common.Address{} && c.rounds >= c.olderRun.rounds
}

// callOlder runs one job of an older implementation and records what it explains.
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

// keepsTo reports whether a run of older code read only variables, and values of the address in its argument.
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

// argument returns a job's argument, a padded address.
func argument(j *Job) common.Hash { return common.BytesToHash([]byte(j.Data[4:])) }

// isEntry reports whether a slot that the job read may be that of an allowlist entry.
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

// countRegistered sets Registered, Counted and Sequenced if the storage is not fully explained.
func (c *Run) countRegistered() {
	r, most := &c.Reading, uint64(len(c.Query.Apps))
	if r.Storage.Complete {
		return // all registrations are known
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

// controlledApps counts the apps that have a controller. The code of May to July 2025 packs a controller and the registered flag
// into one word; later code stores only the flag. The words are read from storage, because older code is not trusted.
func (c *Run) controlledApps() (n int) {
	mapping := 0 // the slot of the mapping that today's getter of apps reads
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
