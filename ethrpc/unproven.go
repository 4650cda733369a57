package ethrpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// unproven is what a provider is asked of one contract, and believed.
type unproven struct {
	entry    *entry
	code     *transport.Call
	getters  []*transport.Call // of Control
	slot     *transport.Call   // of the implementation; nil: Control is not asked for
	implCode *transport.Call   // nil: there is no implementation
	lists    []kms.Call
	answers  []*transport.Call // of lists
	control  Control
	reading  Reading
	err      error
	doubt    error // the first reason to ask another provider too: it may be the contract's fault, or the provider's
}

func newUnproven(at *Pinned, e *entry) *unproven {
	q := e.query
	u := &unproven{entry: e, code: getCode(q.Contract, at.ref()), lists: q.ListCalls(), reading: newReading(q)}
	if q.Control && !q.CodeOnly {
		u.slot = &transport.Call{Method: "eth_getStorageAt", Args: []any{q.Contract, kms.ImplementationSlot, at.ref()}}
		for _, call := range kms.ControlCalls {
			u.getters = append(u.getters, ethCall(at, q.Contract, call.Data))
		}
	}
	for _, l := range u.lists {
		u.answers = append(u.answers, ethCall(at, q.Contract, l.Data))
	}
	return u
}

// readUnproven takes the provider's word for several contracts.
func (r *reader) readUnproven(ctx context.Context, p *provider, at *Pinned, todo []*entry) {
	for i, u := range p.believe(ctx, at, todo) {
		e := todo[i]
		quality := answered
		if u.err != nil {
			quality = unread
		} else if u.doubt != nil {
			quality = doubtful
		}
		unproven := cmp.Or(e.fault, e.complaint)
		if e.complaint, e.own = cmp.Or(u.err, u.doubt, e.complaint), u.err == nil && u.doubt != nil; quality > e.quality {
			e.reading, e.quality = u.reading, quality
			e.reading.Provider, e.reading.Agreed, e.reading.Unproven = p.Name, 1, unproven
		}
	}
}

// believe asks everything at the pinned block. What does not fit into the first round trip goes along with the code of what
// turned out to be the implementation.
func (p *provider) believe(ctx context.Context, at *Pinned, todo []*entry) []*unproven {
	out, groups := make([]*unproven, len(todo)), make([]group, len(todo))
	do := func() {
		for i, err := range p.doGroups(ctx, groups) {
			if u := out[i]; u.err == nil && err != nil {
				u.err = atBlock("reading", at, err)
			}
		}
	}
	rest, room := make([][]*transport.Call, len(todo)), p.BatchSize()
	for i, e := range todo {
		u := newUnproven(at, e)
		first, n := append([]*transport.Call{u.code}, u.getters...), len(u.answers)
		if u.slot != nil {
			first = append(first, u.slot)
			n = min(n, max(room-len(first), 0))
		}
		room -= len(first) + n
		out[i], groups[i] = u, group{contract: e.query.Contract, calls: append(first, u.answers[:n]...)}
		rest[i] = u.answers[n:]
	}
	do()
	for i, u := range out {
		if groups[i].calls = rest[i]; u.err != nil {
			groups[i].calls = nil
		} else if u.slot != nil && u.takeSlot(at) {
			groups[i].calls = append(rest[i], u.implCode)
		}
	}
	do()
	for _, u := range out {
		if u.err == nil {
			u.err = u.take(at)
		}
	}
	if at.byNumber && len(todo) > 0 {
		known, err := p.sameBlock(ctx, at)
		if err == nil && !known {
			err = fmt.Errorf("block %d, which was just read, is gone", at.Block.Number)
		}
		for _, u := range out {
			u.err = cmp.Or(u.err, err)
		}
	}
	return out
}

// takeSlot reads which account is the implementation, and reports whether there is one, whose code to ask for.
func (u *unproven) takeSlot(at *Pinned) bool {
	word, err := u.slot.Bytes()
	if err == nil && len(word) != 32 {
		err = fmt.Errorf("the answer has %d bytes, want 32", len(word))
	}
	if u.control.SetImplementation(common.BytesToHash(word), err); !u.control.Implementation.Present {
		return false
	}
	u.implCode = getCode(u.control.Implementation.Value, at.ref())
	return true
}

// take reads the answers. The error is of all of them.
func (u *unproven) take(at *Pinned) error {
	addr := u.entry.query.Contract
	for _, c := range append([]*transport.Call{u.code}, u.answers...) {
		if err := providerError(at, c.Err); err != nil {
			return err
		}
	}
	code, err := u.code.Bytes()
	if err != nil {
		return fmt.Errorf("reading the code of %s: %w", addr, err)
	}
	if u.reading.HasCode = len(code) > 0; !u.reading.HasCode {
		u.doubt = fmt.Errorf("there is no code at %s", addr)
	}
	for i, l := range u.lists {
		answer := answerOf(u.answers[i])
		if answer.Err == nil && !u.reading.HasCode {
			return fmt.Errorf("the provider says that %s has no code, and yet answers calls to it", addr)
		}
		if err := u.entry.refuses(l); err != nil {
			answer = Answer{Err: err}
		} else if answer.Err != nil && u.doubt == nil {
			u.doubt = fmt.Errorf("calling %s of %s: %w", l.Getter, addr, answer.Err)
		}
		u.reading.setAnswer(l, answer)
	}
	if u.slot == nil || !u.reading.HasCode {
		return nil
	}
	return u.takeControl(at, code)
}

// takeControl reads what the getters of Control returned. The error is of the block: it is not to be had.
func (u *unproven) takeControl(at *Pinned, code []byte) error {
	u.control.CodeHash = crypto.Keccak256Hash(code)
	for i, c := range u.getters {
		err := providerError(at, c.Err)
		if isGone(err) {
			return err
		}
		var data []byte
		if c.Err == nil {
			if data, err = c.Bytes(); err == nil && len(data) == 0 {
				// A node that answers nothing at all does so too; a getter that is not there reverts.
				err = errors.New("the answer has no bytes")
			}
		}
		u.control.SetGetter(i, data, err)
	}
	if err := providerError(at, u.slot.Err); isGone(err) {
		return err
	}
	if c := u.implCode; c != nil {
		if gone := providerError(at, c.Err); isGone(gone) {
			return gone
		}
		if code, err := c.Bytes(); err != nil {
			u.control.CodeErr = fmt.Errorf("reading the implementation's code: %w", err)
		} else {
			u.control.ImplementationCodeHash = crypto.Keccak256Hash(code)
		}
	}
	u.reading.Control = u.control
	return nil
}
