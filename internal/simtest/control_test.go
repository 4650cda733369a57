package simtest_test

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
	"github.com/kms-auditor/kms-auditor/internal/state"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// control is who controls a contract and which code runs there, as in a report.
type control struct {
	owner string
	slot  string          // the address in the ERC-1967 slot
	impl  string          // the only account that calls are delegated to
	runs  map[string]code // all code that runs when the getters answer
	seen  map[string]code // the part of it that slots alone show
}

// code is the code of an account. impl is true if calls are delegated to it.
type code struct {
	hash string
	impl bool
}

// baseline is the auditor's baseline of a contract.
type baseline struct {
	owner, impl string
	runs        map[string]code
	complete    bool
}

// control reads from the node what runs, given whose code answers for the devices and for the rest.
func (w *world) control(ctx context.Context, block common.Hash, at common.Address, is *contract, facets []common.Address) error {
	no := (common.Address{}).Hex()
	c := control{owner: is.owner.Hex(), slot: is.slot.Hex(), runs: map[string]code{}, seen: map[string]code{}}
	if c.slot == no {
		c.slot = ""
	}
	add := func(a common.Address, impl, seen bool) error {
		runs, err := w.dump(ctx, block, a)
		if err != nil || a == (common.Address{}) || runs.CodeHash == (common.Hash{}) || runs.CodeHash == types.EmptyCodeHash {
			return err
		}
		c.runs[a.Hex()] = code{runs.CodeHash.Hex(), impl}
		if seen {
			c.seen[a.Hex()] = c.runs[a.Hex()]
		}
		return nil
	}
	proxy := len(facets) > 0
	if err := add(at, !proxy, true); err != nil {
		return err
	}
	for _, a := range facets {
		if err := add(a, true, is.slot != common.Address{} || is.beacon != common.Address{}); err != nil {
			return err
		}
	}
	if len(slices.Compact(slices.Clone(facets))) == 1 {
		c.impl = facets[0].Hex()
	}
	if err := add(is.beacon, false, true); err != nil {
		return err
	}
	if is.name == testchain.Helped {
		if err := add(is.helper, false, false); err != nil {
			return err
		}
	}
	is.control = c
	return nil
}

// reported is the part of it in a report or a baseline.
func reported(c audit.Control) baseline {
	b := baseline{c.Owner, c.Implementation, map[string]code{}, c.Complete}
	for _, a := range c.Accounts {
		b.runs[a.Address] = code{a.CodeHash, a.Role == footprint.Implementation}
	}
	return b
}

// codeIs reports whether the known code is true.
func (b baseline) codeIs(c control) bool {
	impl := c.slot
	if b.complete {
		impl = c.impl
	}
	return b.impl == impl && b.within(c.runs, b.complete) && (!b.complete || len(b.runs) == len(c.runs))
}

// within reports whether all code is among other code. Roles are known only with a proof.
func (b baseline) within(all map[string]code, roles bool) bool {
	for a, is := range b.runs {
		if o := all[a]; o.hash != is.hash || roles && o.impl != is.impl {
			return false
		}
	}
	return true
}

// judgeControl compares owner and code with the policy, else with the baseline. Without proofs less of the code is known.
func (w *world) judgeControl(t *truth, n int, at common.Address) {
	is, proven := t.is.control, w.Verify != "off"
	was, known := w.mem.baselines[at]
	wantOwner, impl, wantImpl := was.owner, is.impl, was.impl
	if !proven {
		is.runs, impl = is.seen, is.slot
	}
	pinned := n == 0 && w.Named != "" && w.Runs != ""
	switch {
	case n == 0 && w.Named != "" && w.Owner != "":
		wantOwner = testchain.Address(w.Owner).Hex()
	case !known:
		wantOwner = is.owner
	}
	switch {
	case pinned:
		wantImpl = w.impl[w.Runs].Hex()
	case !known:
		wantImpl = impl
	case !was.complete:
		impl = is.slot // nothing else was known
	}
	if is.owner != wantOwner {
		t.wrong[finding{Kind: "owner_changed"}] = true
	}
	if impl != wantImpl && impl == "" && !proven {
		t.blank = true // that it is gone is not proven
	} else if impl != wantImpl {
		t.wrong[finding{Kind: "implementation_changed"}] = true
	}
	if !known {
		return
	}
	another := false // one finding about another implementation is enough
	if now := map[bool]string{true: is.impl, false: is.slot}[proven]; now != "" {
		another = now != was.impl && is.slot != was.impl
	}
	for a, c := range is.runs {
		b, ran := was.runs[a]
		if (ran && b.hash != c.hash || !ran && proven && was.complete) && !(another && c.impl) {
			t.wrong[finding{Kind: "code_changed"}] = true
		}
	}
	t.loose = w.mem.lied && !was.complete // it may have code that never ran
	for a, b := range was.runs {
		_, runs := is.runs[a]
		switch {
		case runs, another && b.impl, t.loose:
		case proven:
			t.wrong[finding{Kind: "code_changed"}] = true
		default:
			t.blank = true // whether it runs is not known
		}
	}
}

// rememberControl takes over a baseline. New values in it must be true, and old ones must not change.
func (l *law) rememberControl(at common.Address, c audit.Control) {
	is, truly := reported(c), l.truthOf(at, l.look).is.control
	was, known := l.mem.baselines[at]
	stays := is.owner == was.owner && was.within(is.runs, was.complete)
	switch {
	case !known && (l.liar || is.owner == truly.owner && is.codeIs(truly)):
	case known && stays && is.complete == was.complete && is.impl == was.impl && len(is.runs) == len(was.runs):
	case known && stays && is.complete && (l.liar || is.codeIs(truly)): // all of it is known now
	default:
		l.fail("the baseline of %s is %+v, and was %+v, and is in truth %+v", at, is, was, truly)
	}
	l.mem.baselines[at] = is
}

// acknowledge makes the operator accept the last values that were read.
func (w *world) acknowledge(ctx context.Context, n int) error {
	at := w.at[n]
	for _, c := range w.state.Controlled() {
		if c.Target.Contract != at || c.Seen == nil || !w.Baselines || w.mem.lied {
			continue
		}
		if err := w.state.Apply(state.Request{Kind: state.Accept, Chain: "test", Contract: at, Control: &c.Seen.Control, At: time.Now()}, nil); err != nil {
			return err
		}
		truly, err := w.contract(ctx, common.HexToHash(c.Seen.Block.Hash), at)
		if err != nil {
			return err
		}
		is, was := reported(c.Seen.Control), w.mem.baselines[at]
		if is.owner == "" {
			is.owner = was.owner
		}
		if is.impl == "" && truly.control.slot != "" { // it was not read
			is.impl = was.impl
		}
		if was.complete && !is.complete && is.within(was.runs, false) { // an unproven part does not replace a proven whole
			is.runs, is.complete, is.impl = was.runs, true, cmp.Or(is.impl, was.impl)
		}
		w.mem.baselines[at] = is
		if w.mem.watched[at] == nil {
			w.mem.watched[at] = watched{}
		}
		maps.Copy(w.mem.watched[at], reportedOf(c.Seen.Control))
	}
	return nil
}
