package ethrpc

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/kms-auditor/kms-auditor/ethrpc/getters"
	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/logs"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// Limits of one contract in a round while others wait. The lists of an ordinary contract have some dozens of entries, and its
// code runs for some milliseconds. Gas does not bound time: precompiles take far longer for the same gas than other code.
const (
	maxSharedSlots = 2048
	maxSharedTime  = 5 * time.Second // divided equally among all contracts
	maxStepTime    = 500 * time.Millisecond
	minStepTime    = 20 * time.Millisecond
)

const (
	keysAtOnce  = 256 // slots of one eth_getProof; geth allows 1,024
	proofWeight = 8   // of the account proof in it
)

// attempt is a Run over the state that one provider serves.
type attempt struct {
	*getters.Run
	beside []*logs.Batch // not asked for yet
	asked  bool          // the node was asked for its answers to kms.FixedCalls
	err    error         // why the provider could not prove the contract
}

// step reports whether something is left to do.
func (c *attempt) step(ctx context.Context, limit time.Duration) (left bool) {
	left, c.err = c.Step(ctx, limit)
	return left
}

// prover proves contracts with one provider.
type prover struct {
	p       *provider
	at      *Pinned
	refused error // why a multicall of this round failed
	taken   bool  // a multicall of this round succeeded
}

// prove runs every contract's code over proven state, and fetches that state. Each contract ends by itself: with a Fault if its
// code is to blame, or with err if the provider is. Contracts that keep others waiting are postponed until the others are done,
// and run under the context late.
func (r *prover) prove(ctx, late context.Context, all []*attempt) {
	later := r.proveTogether(ctx, all, len(all) > 1)
	for i, c := range later {
		alone, cancel := late, context.CancelFunc(func() {})
		if end, ok := late.Deadline(); ok {
			alone, cancel = context.WithTimeoutCause(late, time.Until(end)/time.Duration(len(later)-i), getters.ErrRunTime)
		}
		if r.proveTogether(alone, []*attempt{c}, false); c.err != nil && alone.Err() != nil && ctx.Err() == nil {
			c.Fail(getters.ErrRunTime)
		}
		cancel()
	}
}

// proveTogether returns the contracts that it postponed.
func (r *prover) proveTogether(ctx context.Context, all []*attempt, putOff bool) (later []*attempt) {
	limit := time.Duration(0)
	if putOff {
		limit = min(max(maxSharedTime/time.Duration(len(all)), minStepTime), maxStepTime)
	}
	var live, done []*attempt
	for _, c := range all {
		if putOff && r.p.cannot(c.Query.Contract) != nil {
			later = append(later, c)
			continue
		}
		c.CompareNew()
		live = append(live, c)
	}
	for first := true; len(live) > 0; first = false {
		var wanting []*attempt
		for _, c := range live {
			switch {
			case first && c.Guessable() && len(c.Waiting) > 0 && r.p.cannot(toMulticall) == nil:
				wanting = append(wanting, c) // the node's answers may be all that is missing
			case c.err != nil:
			case !c.step(ctx, limit):
				done = append(done, c)
			case putOff && (c.Slow || len(c.Missing.Slots) > maxSharedSlots || r.p.cannot(c.Query.Contract) != nil):
				later = append(later, c)
			default:
				wanting = append(wanting, c)
			}
		}
		r.fetch(ctx, wanting)
		live = wanting
	}
	r.checkNode(ctx, done)
	return later
}

// request is a call with the function that handles its answer. A proof is verified and added to the pinned block's state.
type request struct {
	call     *transport.Call
	take     func(at *Pinned, c *attempt) error
	users    int  // number of contracts that need it
	optional bool // its failure is no error
	beside   bool // it is one of ReadOptions.Beside
}

// fetch requests the state that the contracts miss and verifies it. The same batch has the calls that compare the node with the
// proven answers.
func (r *prover) fetch(ctx context.Context, all []*attempt) {
	requests, shared := make([][]*request, len(all)), map[string]*request{}
	for i, c := range all {
		requests[i] = slices.Concat(r.multicalls(c), r.getters(c), r.requests(c, shared), c.besides())
	}
	r.refused, r.taken = nil, false
	r.do(ctx, "proving", all, requests)
	if r.refused != nil && !r.taken { // if one succeeded, the contract is to blame
		r.p.pause(toMulticall, r.refused)
	}
}

// do makes the requests of each contract and handles their answers.
func (r *prover) do(ctx context.Context, doing string, all []*attempt, requests [][]*request) {
	n := len(all)
	// The needs of each contract, those that several share, the optional ones of each contract, and ReadOptions.Beside.
	groups := make([]group, 2*n+2)
	groups[2*n+1] = group{optional: true, beside: true}
	for i, c := range all {
		groups[i].contract = c.Query.Contract
		groups[n+1+i] = group{contract: c.Query.Contract, optional: true}
		for _, q := range requests[i] {
			g := &groups[i]
			if q.beside {
				g = &groups[2*n+1]
			} else if q.optional {
				g = &groups[n+1+i]
			} else if q.users > 1 {
				g = &groups[n]
			}
			if q.users < 2 || !slices.Contains(g.calls, q.call) {
				g.calls = append(g.calls, q.call)
			}
		}
	}
	errs := r.p.doGroups(ctx, groups)
	for i, c := range all {
		err := cmp.Or(errs[i], errs[n+1+i])
		if slices.ContainsFunc(requests[i], func(q *request) bool { return q.users > 1 }) {
			err = cmp.Or(err, errs[n])
		}
		if c.err == nil && err != nil {
			c.err = atBlock(doing, r.at, err)
		}
		for _, q := range requests[i] {
			if c.err == nil {
				c.err = q.take(r.at, c)
			}
		}
	}
}

// requests returns the requests for the state that a contract misses. Requests for code, and for an account without slots, are
// shared.
func (r *prover) requests(c *attempt, shared map[string]*request) (out []*request) {
	once := func(what string, addr common.Address, make func() *request) {
		key := what + string(addr[:])
		if shared[key] == nil {
			shared[key] = make()
		}
		shared[key].users++
		out = append(out, shared[key])
	}
	ref := r.at.ref()
	slots, seen := map[common.Address][]common.Hash{}, map[proof.Slot]bool{}
	for _, s := range c.Missing.Slots {
		if !seen[s] {
			seen[s] = true
			slots[s.Account] = append(slots[s.Account], s.Key)
		}
	}
	for _, a := range unique(c.Missing.Accounts) {
		if len(slots[a]) == 0 {
			once("account", a, func() *request { return requestProof(a, nil, ref) })
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(slots), common.Address.Cmp) {
		for keys := range slices.Chunk(slots[a], keysAtOnce) {
			out = append(out, requestProof(a, keys, ref))
		}
	}
	for _, a := range unique(slices.Concat(c.Missing.Accounts, c.Missing.Codes)) {
		once("code", a, func() *request { return requestCode(a, ref) })
	}
	return out
}

func unique(in []common.Address) []common.Address {
	return slices.Compact(slices.SortedFunc(slices.Values(in), common.Address.Cmp))
}

// requestProof asks for the proof of an account and of some of its slots.
func requestProof(addr common.Address, keys []common.Hash, ref any) *request {
	if keys == nil {
		keys = []common.Hash{} // nil would be sent as null
	}
	call := &transport.Call{Method: "eth_getProof", Args: []any{addr, keys, ref}, Weight: proofWeight + len(keys)}
	return &request{call: call, take: func(at *Pinned, c *attempt) error {
		if err := providerError(at, call.Err); errors.Is(err, errUnknownBlock) {
			return err
		}
		if call.Err != nil {
			return fmt.Errorf("%w: eth_getProof: %w", ErrNoProof, call.Err)
		}
		account, slots, err := decodeProof(call.Result, len(keys))
		if err != nil {
			return fmt.Errorf("reading eth_getProof of %s: %w", addr, err)
		}
		if err := c.State.AddAccount(addr, account); err != nil {
			return err
		}
		if a, _ := c.State.Account(addr); a == nil {
			return nil
		}
		for i, key := range keys {
			if err := c.State.AddSlot(addr, key, slots[i]); err != nil {
				return err
			}
		}
		return nil
	}}
}

// requestCode asks for the code of an account. The account must be proven before the answer is handled.
func requestCode(addr common.Address, ref any) *request {
	call := getCode(addr, ref)
	return &request{call: call, take: func(at *Pinned, c *attempt) error {
		if err := providerError(at, call.Err); err != nil {
			return err
		}
		code, err := call.Bytes()
		if err != nil {
			return fmt.Errorf("reading the code of %s: %w", addr, err)
		}
		if c.State.HasNoCode(addr) {
			return nil
		}
		if err := c.State.AddCode(code); err != nil {
			return fmt.Errorf("the code of %s: %w", addr, err)
		}
		return nil
	}}
}

// decodeProof decodes an answer to eth_getProof for n keys. It ignores the values in the answer: they are read from the
// verified nodes.
func decodeProof(raw json.RawMessage, n int) (account [][]byte, slots [][][]byte, err error) {
	var a *struct {
		AccountProof []hexutil.Bytes
		StorageProof []struct{ Proof []hexutil.Bytes }
	}
	switch err := json.Unmarshal(raw, &a); {
	case err != nil:
		return nil, nil, fmt.Errorf("%w: it cannot be decoded", proof.ErrInvalid)
	case a == nil:
		return nil, nil, transport.ErrNull
	case len(a.StorageProof) != n:
		return nil, nil, fmt.Errorf("%w: got %d storage proofs for %d keys", proof.ErrInvalid, len(a.StorageProof), n)
	}
	for _, s := range a.StorageProof {
		slots = append(slots, nodes(s.Proof))
	}
	return nodes(a.AccountProof), slots, nil
}

func nodes(in []hexutil.Bytes) [][]byte {
	out := make([][]byte, len(in))
	for i, n := range in {
		out[i] = n
	}
	return out
}

// besides returns the calls of ReadOptions.Beside for this contract, once.
func (c *attempt) besides() (out []*request) {
	for _, b := range c.beside {
		if b.Contract != c.Query.Contract {
			continue
		}
		for _, call := range b.Calls() {
			out = append(out, &request{call: call, beside: true, take: func(*Pinned, *attempt) error { return nil }})
		}
	}
	c.beside = nil
	return out
}

// getters asks the node, once, for the fixed getters of a contract that is not proven yet.
func (r *prover) getters(c *attempt) []*request {
	if c.asked || c.Query.CodeOnly || !slices.Contains(c.Missing.Accounts, c.Query.Contract) {
		return nil
	}
	c.asked = true
	return requestGetters(c.Query.Contract, r.at.ref())
}

// requestGetters asks for the results of a contract's fixed getters. The answers are neither trusted nor required. If they
// explain all that the contract stores, its slots need not be proven one by one.
func requestGetters(contract common.Address, ref any) (out []*request) {
	for i, getter := range kms.FixedCalls {
		call := &transport.Call{
			Method: "eth_call", Args: []any{map[string]any{"to": contract, "input": hexutil.Bytes(getter.Data)}, ref}, Probe: true,
		}
		out = append(out, &request{call: call, optional: true, take: func(_ *Pinned, c *attempt) error {
			if said, err := call.Bytes(); err == nil && len(said) > 0 {
				c.Said(i, said)
			}
			return nil
		}})
	}
	return out
}

// providerError returns the provider's error, or nil if err is nil or a revert, which is the contract's answer.
func providerError(at *Pinned, err error) error {
	switch {
	case err == nil || transport.IsRevert(err):
		return nil
	case transport.IsUnknownBlock(err):
		return fmt.Errorf("%w: %w", errUnknownBlock, err)
	case transport.IsPruned(err):
		return pruned(at, err)
	default:
		return atBlock("reading", at, err)
	}
}

var errUnknownBlock = errors.New("block unknown")

func pruned(at *Pinned, err error) error {
	return fmt.Errorf("%w at block %d: use a provider that keeps older state, or a more recent block policy such as `block: latest-5`: %w",
		ErrNoState, at.Block.Number, err)
}

// isGone reports whether an error is about the block itself, not about one call.
func isGone(err error) bool { return errors.Is(err, errUnknownBlock) || errors.Is(err, ErrNoState) }

// atBlock adds the failed action and the block to an error.
func atBlock(doing string, at *Pinned, err error) error {
	return fmt.Errorf("%s at block %d: %w", doing, at.Block.Number, err)
}
