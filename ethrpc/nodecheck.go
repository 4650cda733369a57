package ethrpc

import (
	"context"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/vm"
	"github.com/ethereum/go-ethereum/core/vm/program"

	"github.com/kms-auditor/kms-auditor/ethrpc/getters"
	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// multicalls returns multicalls for the waiting jobs, or nothing if the provider cannot make any.
func (r *prover) multicalls(c *attempt) (out []*request) {
	if r.p.cannot(toMulticall) == nil {
		for jobs := range slices.Chunk(c.Waiting, maxCalls) {
			out = append(out, r.requestMulticall(c.Query.Contract, jobs))
		}
		c.Waiting = nil
	}
	return out
}

// checkNode compares the node's answers with the proven ones. If a multicall's answer differs or is missing, the node is asked
// again in a plain eth_call: a contract may answer differently when another contract calls it.
func (r *prover) checkNode(ctx context.Context, all []*attempt) {
	all = slices.DeleteFunc(slices.Clone(all), func(c *attempt) bool { return c.err != nil || c.Fault != nil })
	for _, c := range all {
		c.CompareChanged()
	}
	if slices.ContainsFunc(all, func(c *attempt) bool { return len(c.Waiting) > 0 }) {
		r.fetch(ctx, all)
	}
	requests := make([][]*request, len(all))
	for i, c := range all {
		for j, proven := range c.Doubts() {
			requests[i] = append(requests[i], requestAnswer(r.at, c.Query.Contract, j, proven))
		}
	}
	r.do(ctx, "calling getters", all, requests)
}

// requestAnswer asks the node for an answer that is proven already.
func requestAnswer(at *Pinned, contract common.Address, j *getters.Job, proven Answer) *request {
	call := ethCall(at, contract, j.Data)
	return &request{call: call, take: func(at *Pinned, _ *attempt) error {
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
	maxCalls        = 1000                    // in a multicall; creation code may have 49,152 bytes (EIP-3860)
	multicallWeight = transport.MaxWeight / 8 // of maxCalls calls; the request is as large as an answer with proofs

	// A multicall returns one byte for each call; 0 is false.
	callTrue     = 1
	callReverted = 2
	callOther    = 3 // not a bool
)

// requestMulticall makes many calls of one contract, each of a selector and a word, in one eth_call. The eth_call simulates the
// creation of a contract; its constructor makes the calls and returns a byte for each. If the provider refuses the multicall,
// checkNode makes the calls one by one.
func (r *prover) requestMulticall(contract common.Address, jobs []*getters.Job) *request {
	var inputs []string
	for _, j := range jobs {
		inputs = append(inputs, j.Data)
	}
	call := multicall(r.at, contract, inputs)
	return &request{call: call, optional: true, take: func(at *Pinned, c *attempt) error {
		if err := providerError(at, call.Err); isGone(err) {
			return err
		}
		out, err := decodeMulticall(call, len(jobs))
		if err != nil {
			r.refused, c.Waiting = err, append(c.Waiting, jobs...)
			return nil
		}
		r.taken = true
		for i, j := range jobs {
			j.Node = &Answer{Allowed: out[i] == callTrue}
			if out[i] > callTrue {
				j.Node.Err = getters.ErrReverted
			}
		}
		return nil
	}}
}

// multicall returns one eth_call that calls a contract with each input, of getters.InputLen bytes.
func multicall(at *Pinned, contract common.Address, inputs []string) *transport.Call {
	code := multicallCode(contract, len(inputs))
	for _, input := range inputs {
		code = append(code, input...)
	}
	return &transport.Call{
		Method: "eth_call", Args: []any{map[string]any{"input": hexutil.Bytes(code)}, at.ref()}, Weight: max(1, multicallWeight*len(inputs)/maxCalls),
	}
}

// decodeMulticall returns the result bytes of a multicall of n calls.
func decodeMulticall(c *transport.Call, n int) ([]byte, error) {
	out, err := c.Bytes()
	if err == nil && len(out) != n {
		err = fmt.Errorf("a multicall of %d calls returned %d bytes", n, len(out))
	}
	return out, err
}

// multicallCode returns creation code for one or more calls. The inputs of the calls must be appended to it.
func multicallCode(contract common.Address, calls int) []byte {
	const (
		input, output, results = 0, 0x40, 0x80 // in memory
	)
	// The stack: the contract, where the next result goes, where the next input is.
	p := program.New().Push(contract).Push(results).Push(getters.InputLen*calls).Op(vm.CODESIZE, vm.SUB)
	p, loop := p.Jumpdest()
	p.Push(getters.InputLen).Op(vm.DUP2).Push(input).Op(vm.CODECOPY)
	// Each call gets a sixteenth of the gas: a call that burns all of it, as one that writes does, leaves enough for the others.
	p.Push(common.HashLength).Push(output).Push(getters.InputLen).Push(input).Op(vm.DUP7, vm.GAS).Push(4).Op(vm.SHR, vm.STATICCALL)
	// done · (good · word + 3 · !good) + 2 · !done, where a good answer is one word, 0 or 1
	p.Push(output).Op(vm.MLOAD).Push(2).Op(vm.DUP2, vm.LT).Push(common.HashLength).Op(vm.RETURNDATASIZE, vm.EQ, vm.AND)
	p.Op(vm.DUP1, vm.ISZERO).Push(callOther).Op(vm.MUL, vm.SWAP2, vm.MUL, vm.ADD)
	p.Op(vm.DUP2, vm.MUL, vm.SWAP1, vm.ISZERO).Push(callReverted).Op(vm.MUL, vm.ADD)
	p.Op(vm.DUP3, vm.MSTORE8)
	p.Push(getters.InputLen).Op(vm.ADD, vm.SWAP1).Push(1).Op(vm.ADD, vm.SWAP1)
	p.Op(vm.CODESIZE, vm.DUP2, vm.LT).Push(loop).Op(vm.JUMPI)
	return p.Push(results).Op(vm.DUP1, vm.DUP4, vm.SUB, vm.SWAP1, vm.RETURN).Bytes()
}

// ethCall calls a contract at a pinned block.
func ethCall(at *Pinned, contract common.Address, data string) *transport.Call {
	return &transport.Call{Method: "eth_call", Args: []any{map[string]any{"to": contract, "input": hexutil.Bytes(data)}, at.ref()}}
}

func getCode(addr common.Address, ref any) *transport.Call {
	return &transport.Call{Method: "eth_getCode", Args: []any{addr, ref}}
}

// answerOf decodes the answer of a list's getter.
func answerOf(c *transport.Call) Answer {
	b, err := c.Bytes()
	if err != nil {
		return Answer{Err: err}
	}
	return kms.DecodeBool(b)
}
