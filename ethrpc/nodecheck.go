package ethrpc

import (
	"context"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/vm"
	"github.com/ethereum/go-ethereum/core/vm/program"

	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// compare has the node asked what the jobs ask that are wanted, once.
func (c *proving) compare(wanted func(j *job) bool) {
	for _, j := range c.all {
		if len(j.Data) == inputLen && j.Old == "" && !j.compared && wanted(j) {
			j.compared = true
			c.waiting = append(c.waiting, j)
		}
	}
}

// compareNew has the node asked what was not asked of the same code before.
func (c *proving) compareNew() {
	standing := c.old.unchangedIn(c.verified, false)
	c.compare(func(j *job) bool {
		if !standing || j.Getter == "" {
			return !standing || c.old.reading.Partial
		}
		_, known := c.old.reading.answers(j.Getter)[j.ID]
		return !known
	})
}

// guessable reports whether guesses about the contract can be tried at once: nothing is likely to be missing but its slots.
func (c *proving) guessable() bool {
	if !c.verified.Fresh(c.query.Contract) {
		return false
	}
	impl, ok := c.implementation()
	_, known := c.verified.Account(impl)
	return known || !ok
}

// multicalls makes multicalls of the jobs that wait; none where the provider takes none.
func (r *prover) multicalls(c *proving) (out []*request) {
	if r.p.cannot(toMulticall) == nil {
		for jobs := range slices.Chunk(c.waiting, maxCalls) {
			out = append(out, r.requestMulticall(c.query.Contract, jobs))
		}
		c.waiting = nil
	}
	return out
}

// checkNode compares what the node says with what is proven. Where a multicall says something else, or nothing, the node is
// asked once more in a call of its own: a contract may answer another contract otherwise.
func (r *prover) checkNode(ctx context.Context, all []*proving) {
	all = slices.DeleteFunc(slices.Clone(all), func(c *proving) bool { return c.err != nil || c.fault != nil })
	for _, c := range all {
		if c.old != nil { // what is answered otherwise than before is asked too
			c.compare(func(j *job) bool { return j.Getter != "" && c.reading.answer(j.Call) != c.old.reading.answer(j.Call) })
		}
	}
	if slices.ContainsFunc(all, func(c *proving) bool { return len(c.waiting) > 0 }) {
		r.fetch(ctx, all)
	}
	requests := make([][]*request, len(all))
	for i, c := range all {
		for _, j := range c.all {
			if !j.compared || j.Getter == "" {
				continue
			}
			proven, ok := c.reading.answers(j.Getter)[j.ID]
			if ok && j.err == nil && (j.node == nil || proven.Err != nil || *j.node != proven) {
				requests[i] = append(requests[i], requestAnswer(r.at, c.query.Contract, j, proven))
			}
		}
	}
	r.do(ctx, "calling getters", all, requests)
}

// requestAnswer asks the node for an answer that is proven.
func requestAnswer(at *Pinned, contract common.Address, j *job, proven Answer) *request {
	call := ethCall(at, contract, j.Data)
	return &request{call: call, take: func(at *Pinned, _ *proving) error {
		if err := providerError(at, call.Err); err != nil {
			return err
		}
		answer := answerOf(call)
		if (answer.Err != nil) != (proven.Err != nil) || answer.Allowed != proven.Allowed {
			return &GetterError{contract, j.Getter, j.ID, answer, proven}
		}
		return nil
	}}
}

const (
	inputLen        = 4 + common.HashLength   // of a call in a multicall
	maxCalls        = 1000                    // calls of a multicall; creation code may have 49,152 bytes (EIP-3860)
	multicallWeight = transport.MaxWeight / 8 // of as many; the request is as large as an answer with proofs
	callTrue        = 1                       // what a multicall answers for a call; 0 is false,
	callReverted    = 2                       // a revert,
	callOther       = 3                       // or what is no bool
)

// requestMulticall makes many calls of one contract, each of a selector and a word, in one eth_call: it creates a contract whose
// constructor makes them and returns a byte for each, as its code. Nothing of it is ever on the chain. What cannot be had in
// one is asked call by call, in the end.
func (r *prover) requestMulticall(contract common.Address, jobs []*job) *request {
	var inputs []string
	for _, j := range jobs {
		inputs = append(inputs, j.Data)
	}
	call := multicall(r.at, contract, inputs)
	return &request{call: call, optional: true, take: func(at *Pinned, c *proving) error {
		if err := providerError(at, call.Err); isGone(err) {
			return err
		}
		out, err := decodeMulticall(call, len(jobs))
		if err != nil {
			r.refused, c.waiting = err, append(c.waiting, jobs...)
			return nil
		}
		r.taken = true
		for i, j := range jobs {
			j.node = &Answer{Allowed: out[i] == callTrue}
			if out[i] > callTrue {
				j.node.Err = errReverted
			}
		}
		return nil
	}}
}

// multicall makes calls of a contract in one, each with an input of inputLen bytes.
func multicall(at *Pinned, contract common.Address, inputs []string) *transport.Call {
	code := multicallCode(contract, len(inputs))
	for _, input := range inputs {
		code = append(code, input...)
	}
	return &transport.Call{
		Method: "eth_call", Args: []any{map[string]any{"input": hexutil.Bytes(code)}, at.ref()}, Weight: max(1, multicallWeight*len(inputs)/maxCalls),
	}
}

// decodeMulticall returns what n calls in one answered, a byte each.
func decodeMulticall(c *transport.Call, n int) ([]byte, error) {
	out, err := c.Bytes()
	if err == nil && len(out) != n {
		err = fmt.Errorf("%d calls in one were answered with %d bytes", n, len(out))
	}
	return out, err
}

// multicallCode is followed by the inputs of the calls, one or more.
func multicallCode(contract common.Address, calls int) []byte {
	const (
		input, output, results = 0, 0x40, 0x80 // in memory
	)
	// The stack: the contract, where the next result goes, where the next input is.
	p := program.New().Push(contract).Push(results).Push(inputLen*calls).Op(vm.CODESIZE, vm.SUB)
	p, loop := p.Jumpdest()
	p.Push(inputLen).Op(vm.DUP2).Push(input).Op(vm.CODECOPY)
	// A call that burns what it is given, as one that writes does, has a sixteenth: the others need some too.
	p.Push(common.HashLength).Push(output).Push(inputLen).Push(input).Op(vm.DUP7, vm.GAS).Push(4).Op(vm.SHR, vm.STATICCALL)
	// done · (good · word + 3 · !good) + 2 · !done, where a good answer is one word, 0 or 1
	p.Push(output).Op(vm.MLOAD).Push(2).Op(vm.DUP2, vm.LT).Push(common.HashLength).Op(vm.RETURNDATASIZE, vm.EQ, vm.AND)
	p.Op(vm.DUP1, vm.ISZERO).Push(callOther).Op(vm.MUL, vm.SWAP2, vm.MUL, vm.ADD)
	p.Op(vm.DUP2, vm.MUL, vm.SWAP1, vm.ISZERO).Push(callReverted).Op(vm.MUL, vm.ADD)
	p.Op(vm.DUP3, vm.MSTORE8)
	p.Push(inputLen).Op(vm.ADD, vm.SWAP1).Push(1).Op(vm.ADD, vm.SWAP1)
	p.Op(vm.CODESIZE, vm.DUP2, vm.LT).Push(loop).Op(vm.JUMPI)
	return p.Push(results).Op(vm.DUP1, vm.DUP4, vm.SUB, vm.SWAP1, vm.RETURN).Bytes()
}

// ethCall is a call of a contract at a pinned block.
func ethCall(at *Pinned, contract common.Address, data string) *transport.Call {
	return &transport.Call{Method: "eth_call", Args: []any{map[string]any{"to": contract, "input": hexutil.Bytes(data)}, at.ref()}}
}

func getCode(addr common.Address, ref any) *transport.Call {
	return &transport.Call{Method: "eth_getCode", Args: []any{addr, ref}}
}

// answerOf reads what a getter of a list said.
func answerOf(c *transport.Call) Answer {
	b, err := c.Bytes()
	if err != nil {
		return Answer{Err: err}
	}
	return kms.DecodeBool(b)
}
