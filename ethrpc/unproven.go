package ethrpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/ethrpc/getters"
	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
)

// unproven reads one contract without proofs and trusts the provider.
type unproven struct {
	entry   *entry
	code    *transport.Call
	slot    *transport.Call   // the ERC-1967 implementation slot; nil if Control is not asked for
	beacon  *transport.Call   // the ERC-1967 beacon slot
	getters []*transport.Call // of Control
	points  *transport.Call   // the beacon's implementation(); nil without a beacon
	further []further         // accounts whose code is read as well
	lists   []kms.Call
	answers []*transport.Call // of lists
	static  []*transport.Call // multicalls of lists, then getters
	control Control
	reading Reading
	err     error
	doubt   error // the first reason to ask another provider too; the contract or the provider may be to blame
}

// further is another account whose code runs: an implementation or a beacon.
type further struct {
	at   common.Address
	role footprint.Role
	code *transport.Call
}

// newUnproven also returns the first calls to make.
func newUnproven(at *Pinned, e *entry) (*unproven, group) {
	q := e.query
	u := &unproven{entry: e, code: getCode(q.Contract, at.ref()), lists: q.ListCalls(), reading: Reading{Reading: getters.NewReading(q)}}
	g := group{contract: q.Contract, calls: []*transport.Call{u.code}}
	if q.Control && !q.CodeOnly {
		u.slot = &transport.Call{Method: "eth_getStorageAt", Args: []any{q.Contract, kms.ImplementationSlot, at.ref()}}
		for _, call := range kms.ControlCalls {
			u.getters = append(u.getters, ethCall(at, q.Contract, call.Data))
		}
		u.beacon = &transport.Call{Method: "eth_getStorageAt", Args: []any{q.Contract, kms.BeaconSlot, at.ref()}}
		g.calls = append(g.calls, u.slot, u.beacon)
	}
	for _, l := range u.lists {
		u.answers = append(u.answers, ethCall(at, q.Contract, l.Data))
	}
	g.calls = slices.Concat(g.calls, u.getters, u.answers)
	return u, g
}

// staticGetters is the number of kms.ControlCalls, from the first, that take little gas.
const staticGetters = 2

// statics repeats the calls in static multicalls. If nothing could be proven, that shows whether a getter writes, unless it
// behaves differently in a static call. Code that was run locally needs no such check.
func (u *unproven) statics(at *Pinned) group {
	q := u.entry.query
	var inputs []string
	for _, l := range u.lists {
		inputs = append(inputs, l.Data)
	}
	if u.slot != nil {
		for _, c := range kms.ControlCalls[:staticGetters] {
			inputs = append(inputs, c.Data+string(make([]byte, common.HashLength))) // the getter ignores the padding
		}
	}
	for some := range slices.Chunk(inputs, maxCalls) {
		u.static = append(u.static, multicall(at, q.Contract, some))
	}
	return group{contract: q.Contract, calls: u.static, optional: true}
}

var errOnlyStateful = fmt.Errorf("it reverts in a static call: %w", proof.ErrWrites)

// refuse records the first getter whose answer is not accepted, and returns err.
func (u *unproven) refuse(c kms.Call, err error) error {
	u.reading.Refused = cmp.Or(u.reading.Refused, fmt.Errorf("calling %s: %w", c.Name, err))
	return err
}

// writes reports, for each call of lists and then of getters, whether it reverts in a static call. It is false if the node
// makes no multicalls.
func (u *unproven) writes() []bool {
	out := make([]bool, len(u.lists)+min(len(u.getters), staticGetters))
	for i, c := range u.static {
		first := i * maxCalls
		if results, err := decodeMulticall(c, min(maxCalls, len(out)-first)); err == nil {
			for k, r := range results {
				out[first+k] = r == callReverted
			}
		}
	}
	return out
}

// readUnproven reads several contracts without proofs.
func (r *reader) readUnproven(ctx context.Context, p *provider, at *Pinned, todo []*entry) {
	for i, u := range p.believe(ctx, at, todo, r.c.opt.Verify == VerifyAuto) {
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
			if e.fault != nil {
				e.reading.Refused = e.attempt.Refused()
			}
		}
	}
}

// believe makes all calls at the pinned block without proofs. The second round trip has the calls that did not fit into the
// first batch, and the implementation's code. A beacon takes a third one. If static is true, believe also looks for getters that
// write.
func (p *provider) believe(ctx context.Context, at *Pinned, todo []*entry, static bool) []*unproven {
	out, groups := make([]*unproven, len(todo)), make([]group, len(todo))
	do := func(more ...group) {
		for i, err := range p.doGroups(ctx, slices.Concat(groups, more))[:len(todo)] {
			if u := out[i]; u.err == nil && err != nil {
				u.err = atBlock("reading", at, err)
			}
		}
	}
	left, room := make([][]*transport.Call, len(todo)), p.BatchSize()
	var statics []group
	for i, e := range todo {
		u, g := newUnproven(at, e)
		all, first := g.calls, len(g.calls)-len(u.answers)
		n := min(max(room, first), len(all))
		out[i], groups[i], left[i], room = u, group{contract: g.contract, calls: all[:n]}, all[n:], room-n
		if static && e.fault == nil && p.cannot(toMulticall) == nil {
			statics = append(statics, u.statics(at))
		}
	}
	do(statics...)
	for i, u := range out {
		if groups[i].calls = nil; u.err != nil {
			continue
		}
		groups[i].calls = append(slices.Clip(left[i]), u.takeSlots(at)...)
	}
	do()
	for i, u := range out {
		groups[i].calls = nil
		if u.err == nil && u.points != nil {
			groups[i].calls = u.takeBeacon(at)
		}
	}
	do()
	var gone error
	if at.byNumber && len(todo) > 0 {
		known := false
		if known, gone = p.sameBlock(ctx, at); gone == nil && !known {
			gone = fmt.Errorf("the provider no longer has block %d, which was just read", at.Block.Number)
		}
	}
	for _, u := range out {
		if u.err == nil {
			u.err = cmp.Or(u.take(at), gone)
		}
	}
	return out
}

// takeSlots decodes the implementation's and the beacon's address, and returns the calls about them.
func (u *unproven) takeSlots(at *Pinned) (calls []*transport.Call) {
	if u.slot == nil {
		return nil
	}
	word, err := wordOf(u.slot)
	u.control.SetImplementation(word, err)
	switch impl := u.control.Implementation; {
	case impl.Present:
		return u.codeOf(at, impl.Value, footprint.Implementation)
	case impl.Err != nil:
		return nil
	}
	word, err = wordOf(u.beacon)
	addr, e := kms.DecodeAddress(word[:])
	if err = cmp.Or(err, e); err != nil {
		u.control.CodeErr = fmt.Errorf("reading the beacon's slot: %w", err)
	} else if word != (common.Hash{}) {
		u.points = ethCall(at, addr, kms.ForeignCalls[len(kms.ForeignCalls)-1].Data)
		calls = append(u.codeOf(at, addr, footprint.Beacon), u.points)
	}
	return calls
}

// takeBeacon decodes the implementation that the beacon points at, and returns the calls about it.
func (u *unproven) takeBeacon(at *Pinned) []*transport.Call {
	b, err := u.points.Bytes()
	addr, e := kms.DecodeAddress(b)
	if err = cmp.Or(err, e); err != nil {
		u.control.CodeErr = fmt.Errorf("asking the beacon for the implementation: %w", err)
		return nil
	}
	return u.codeOf(at, addr, footprint.Implementation)
}

func (u *unproven) codeOf(at *Pinned, addr common.Address, role footprint.Role) []*transport.Call {
	call := getCode(addr, at.ref())
	u.further = append(u.further, further{addr, role, call})
	return []*transport.Call{call}
}

// wordOf decodes the answer to eth_getStorageAt.
func wordOf(c *transport.Call) (common.Hash, error) {
	b, err := c.Bytes()
	if err == nil && len(b) != common.HashLength {
		err = fmt.Errorf("the answer has %d bytes, want 32", len(b))
	}
	return common.BytesToHash(b), err
}

// take decodes the answers. An error spoils all of them.
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
	writes := u.writes()
	for i, l := range u.lists {
		answer := answerOf(u.answers[i])
		if answer.Err == nil && !u.reading.HasCode {
			return fmt.Errorf("the provider says that %s has no code, but it answers calls to it", addr)
		}
		err := u.entry.refuses(l)
		if err == nil && answer.Err == nil && writes[i] {
			err = u.refuse(l, errOnlyStateful)
		}
		if err != nil {
			answer = Answer{Err: err}
		} else if answer.Err != nil && u.doubt == nil {
			u.doubt = fmt.Errorf("calling %s of %s: %w", l.Getter, addr, answer.Err)
		}
		u.reading.SetAnswer(l, answer)
	}
	if u.slot == nil || !u.reading.HasCode {
		return nil
	}
	return u.takeControl(at, code, writes)
}

// takeControl decodes the answers for Control. It fails only if the block is gone.
func (u *unproven) takeControl(at *Pinned, code []byte, writes []bool) error {
	addr, role := u.entry.query.Contract, footprint.Implementation
	if len(u.further) > 0 {
		role = footprint.Proxy
	}
	calls := append([]*transport.Call{u.slot, u.beacon, u.points}, u.getters...)
	for _, f := range u.further {
		calls = append(calls, f.code)
	}
	for _, c := range calls {
		if c != nil && isGone(providerError(at, c.Err)) {
			return providerError(at, c.Err)
		}
	}
	for i, c := range u.getters {
		data, err := c.Bytes()
		if c.Err != nil {
			err = providerError(at, c.Err) // nil for a revert
		} else if err == nil && len(data) == 0 {
			// A missing getter reverts. An empty answer may also come from a broken node.
			err = errors.New("the answer is empty")
		}
		getter := kms.ControlCalls[i]
		if err == nil && len(data) > 0 && i < staticGetters && writes[len(u.lists)+i] {
			err = u.refuse(getter, errOnlyStateful)
		}
		u.control.SetGetter(i, data, cmp.Or(u.entry.refuses(getter), err))
	}
	for _, f := range u.further {
		code, err := f.code.Bytes()
		if err != nil {
			u.control.CodeErr = fmt.Errorf("reading the %s's code: %w", f.role, err)
		} else {
			u.control.AddCode(f.at, f.role, crypto.Keccak256Hash(code))
		}
	}
	u.control.AddCode(addr, role, crypto.Keccak256Hash(code))
	u.control.Code.Sort(addr.Hex())
	u.reading.Control = u.control
	return nil
}

// DisagreementError reports two providers that disagree about one block.
type DisagreementError struct {
	Providers [2]string
	Block     Block
	What      string // both answers; safe to show
}

func (e *DisagreementError) Error() string {
	return fmt.Sprintf("%s and %s disagree about block %d: %s", e.Providers[0], e.Providers[1], e.Block.Number, e.What)
}

// quorum asks further providers until enough agree about the block's hash and about every answer that is not proven. A proven
// answer needs only one provider.
func (r *reader) quorum(ctx context.Context) (*State, error) {
	need := r.c.opt.Agreement
	short := func(agreed int) error {
		return fmt.Errorf("only %d of the %d required providers agree", agreed, need)
	}
	s := &State{Agreed: 1, verified: r.verified, accounts: map[common.Address]bool{}}
	for _, p := range r.c.providers {
		open, first := r.open(p), p.Name == r.at.Provider
		if len(open) == 0 && (first || s.Agreed >= need) {
			continue
		}
		at, err := r.c.pin(ctx, p, AtNumber(r.at.Block.Number), nil)
		if err == nil && at.Block.Hash != r.at.Block.Hash {
			err = r.disagreement(r.at.Provider, p, fmt.Sprintf("its hash is %s vs. %s", r.at.Block.Hash, at.Block.Hash))
		}
		if err != nil {
			r.failed = append(r.failed, ProviderError{Provider: p.Name, Err: err})
			continue
		}
		if !first {
			s.Agreed++
		}
		for i, u := range p.believe(ctx, at, open, r.c.opt.Verify == VerifyAuto) {
			e := open[i]
			err := u.err
			if differ := e.reading.Differences(&u.reading.Reading); err == nil && differ != "" {
				err = r.disagreement(e.reading.Provider, p, differ)
			}
			if err != nil {
				e.failed = append(e.failed, ProviderError{Provider: p.Name, Err: err})
			} else {
				e.reading.Agreed++
			}
		}
	}
	if s.Agreed < need {
		return nil, &ReadError{Failures: append(r.failed, ProviderError{Provider: r.at.Provider, Err: short(s.Agreed)})}
	}
	s.Failed = r.failed
	for _, e := range r.entries {
		out := e.reading
		switch {
		case e.quality == unread:
			out.Err = cmp.Or(e.fault, error(&ReadError{Failures: slices.Concat(e.failed, r.failed)}))
		case e.quality == proven:
			out.Agreed = s.Agreed
			maps.Copy(s.accounts, e.proof.Accounts)
		case out.Agreed < need:
			failed := slices.Concat(e.failed, r.failed, []ProviderError{{Provider: out.Provider, Err: short(out.Agreed)}})
			out = notRead(out.Contract, &ReadError{Failures: failed})
		}
		out.Failed = e.failed
		s.Readings = append(s.Readings, out)
	}
	return s, nil
}

// open lists the contracts that still need the provider for a quorum.
func (r *reader) open(p *provider) (out []*entry) {
	for _, e := range r.entries {
		if (e.quality == doubtful || e.quality == answered) && e.reading.Agreed < r.c.opt.Agreement && e.reading.Provider != p.Name {
			out = append(out, e)
		}
	}
	return out
}

func (r *reader) disagreement(first string, p *provider, what string) error {
	return &DisagreementError{[2]string{first, p.Name}, r.at.Block, what}
}
