package getters

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
)

// The footprint of a contract is the accounts whose code runs when its getters answer. Only the allowlists' getters and the
// getters without an argument count, so that apps and events do not change it. If the allowlists' getters read the storage of
// other accounts, that storage must be accounted for too.

// watched reports whether the code that the call runs belongs to the footprint.
func (j *Job) watched() bool { return j.to == nil && (j.Getter != "" || len(j.Data) == selectorLen) }

const selectorLen = 4

// watch records whose code ran in a complete call, and which accounts' storage it read. Tracing is slow, so it traces only
// calls that were answered, and only one of those that load the same code in the same order. It fails if ctx ends.
func (c *Run) watch(ctx context.Context, j *Job, res proof.Result, answered bool) error {
	var way string
	for _, a := range res.Codes {
		way += string(a[:])
		c.addRole(a, footprint.Other)
	}
	if answered && !c.ways[way] && c.Query.Control {
		frames := c.State.Frames(ctx, c.Query.Contract, []byte(j.Data))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		c.budget -= time.Duration(res.Gas) * timePerWatchedGas
		c.ways[way] = true
		slot, _ := c.implementation()
		for a, role := range rolesOf(frames, slot) {
			c.addRole(a, role)
		}
	}
	for _, s := range res.Touched {
		if j.Getter != "" && s.Account != c.Query.Contract && !slices.Contains(c.foreign, s.Account) {
			c.foreign = append(c.foreign, s.Account)
		}
	}
	return nil
}

// addRole gives an account the better of its roles. An account without code has no role.
func (c *Run) addRole(a common.Address, role footprint.Role) {
	if is, known := c.roles[a]; !c.State.HasNoCode(a) && (!known || slices.Index(footprint.Roles, role) < slices.Index(footprint.Roles, is)) {
		c.roles[a] = role
	}
}

// rolesOf derives the roles of accounts in one call. An account that delegates its own input to another is a proxy; the other
// one is the implementation, which may delegate further. The account in the ERC-1967 slot is an implementation whatever its input.
func rolesOf(frames []proof.Frame, slot common.Address) map[common.Address]footprint.Role {
	roles := map[common.Address]footprint.Role{}
	better := func(a common.Address, role footprint.Role) {
		if is, known := roles[a]; !known || slices.Index(footprint.Roles, role) < slices.Index(footprint.Roles, is) {
			roles[a] = role
		}
	}
	var hands []bool           // by depth: the open frame is the contract's, or one that its call was delegated to
	var called [][]proof.Frame // by depth: the frames that the open frame called without delegating
	for i, f := range frames {
		hands, called = append(hands[:f.Depth], i == 0), append(called[:f.Depth], nil)
		switch parent := f.Depth - 1; {
		case i == 0:
			better(f.Code, footprint.Implementation)
		case f.Delegated && hands[parent] && (f.Forwarded || f.Code == slot):
			hands[f.Depth] = true
			better(frames[0].Code, footprint.Proxy)
			better(f.Code, footprint.Implementation)
			for _, g := range called[parent] {
				if g.Gave == f.Code {
					better(g.Code, footprint.Beacon)
				}
			}
		case f.Delegated:
			better(f.Code, footprint.Library)
		default:
			better(f.Code, footprint.Other)
			called[parent] = append(called[parent], f)
		}
	}
	return roles
}

// foreignJobs returns jobs for each further account whose storage the allowlists' getters read. They explain the rest of that
// storage: owner, pending owner and implementation.
func (c *Run) foreignJobs() (out []*Job) {
	for _, a := range c.foreign[c.foreignAsked:] {
		for _, call := range kms.ForeignCalls {
			out = append(out, &Job{Call: call, to: &a})
		}
	}
	c.foreignAsked = len(c.foreign)
	c.budget += time.Duration(len(out)) * maxRunTimePerCall
	return out
}

// unaccounted lists the further accounts that store more than is explained.
func (c *Run) unaccounted() (out []common.Address) {
	for _, a := range slices.SortedFunc(slices.Values(c.foreign), common.Address.Cmp) {
		if _, all := c.State.Accounted(a, c.explained(a, kms.WellKnown)); !all {
			out = append(out, a)
		}
	}
	return out
}

// explained returns the slots of an account that getters read, and the named ones.
func (c *Run) explained(a common.Address, named []common.Hash) map[common.Hash]bool {
	out := map[common.Hash]bool{}
	for _, key := range named {
		out[key] = true
	}
	for _, read := range []map[proof.Slot]bool{c.touched, c.appSlots} {
		for s := range read {
			if s.Account == a {
				out[s.Key] = true
			}
		}
	}
	return out
}

// code returns the proven footprint.
func (c *Run) code() footprint.Code {
	out := kms.Control{}
	for _, a := range slices.Collect(maps.Keys(c.roles)) {
		account, _ := c.State.Account(a)
		out.AddCode(a, c.roles[a], common.BytesToHash(account.CodeHash))
	}
	out.Code.Sort(c.Query.Contract.Hex())
	out.Code.Complete = !c.unwatched && !c.Reading.Partial
	return out.Code
}

// Refused returns why the answer of one of the getters cannot be trusted, or nil.
func (c *Run) Refused() error {
	for _, j := range slices.Concat(c.all, c.older) {
		err := j.Err
		if j.Getter != "" {
			err = c.Reading.answer(j.Call).Err
		}
		if err = unbelievable(err); err != nil {
			return fmt.Errorf("calling %s: %w", j.Name, err)
		}
	}
	return c.apps.err
}

// Refuses returns why the node's answer to a call is not trusted, or nil: the call writes, or asks for more than the state holds.
func (c *Run) Refuses(call kms.Call) error {
	if call.Getter != "" {
		return unbelievable(c.Reading.answer(call).Err)
	}
	i := slices.IndexFunc(c.coverage, func(j *Job) bool { return j.Data == call.Data })
	return unbelievable(c.coverage[i].Err)
}

// unbelievable returns err if the call writes or asks for more than the state holds, else nil.
func unbelievable(err error) error {
	if errors.Is(err, proof.ErrWrites) || errors.Is(err, proof.ErrBeyondState) {
		return err
	}
	return nil
}
