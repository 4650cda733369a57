package ethrpc

import (
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/vm"
	"github.com/ethereum/go-ethereum/core/vm/program"

	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

const (
	inputLen        = 4 + common.HashLength   // of a call in a multicall
	maxCalls        = 1000                    // calls of a multicall; creation code may have 49,152 bytes (EIP-3860)
	multicallWeight = transport.MaxWeight / 8 // of as many; the request is as large as an answer with proofs
	callTrue        = 1                       // what a multicall answers for a call; 0 is false,
	callReverted    = 2                       // a revert,
	callOther       = 3                       // or what is no bool
)

// multicall is many calls of one contract, each of a selector and a word, in one eth_call: it creates a contract whose
// constructor makes them and returns a byte for each, as its code. Nothing of it is ever on the chain.
type multicall struct {
	*transport.Call
	jobs []*job
}

func newMulticall(at *Pinned, contract common.Address, jobs []*job) *multicall {
	code := append(slices.Clone(multicallCode), contract[:]...)
	for _, j := range jobs {
		code = append(code, j.Data...)
	}
	return &multicall{&transport.Call{
		Method: "eth_call", Args: []any{map[string]any{"input": hexutil.Bytes(code)}, at.ref()},
		Weight: max(1, multicallWeight*len(jobs)/maxCalls),
	}, jobs}
}

// answers returns what the calls answered, a byte each.
func (m *multicall) answers() ([]byte, error) {
	out, err := m.Bytes()
	if err == nil && len(out) != len(m.jobs) {
		err = fmt.Errorf("%d calls in one were answered with %d bytes", len(m.jobs), len(out))
	}
	return out, err
}

// multicallCode is followed by the contract's address and the inputs of the calls.
var multicallCode = func() []byte {
	const (
		input, output, results = 0, 0x40, 0x80 // in memory
	)
	build := func(inputs int) []byte {
		p := program.New()
		// The stack: the contract, where the next result goes, where the next input is.
		p.Push(common.AddressLength).Push(inputs - common.AddressLength).Push(common.HashLength - common.AddressLength).Op(vm.CODECOPY)
		p.Push(0).Op(vm.MLOAD).Push(results).Push(inputs)
		p, loop := p.Jumpdest()
		p.Op(vm.CODESIZE, vm.DUP2, vm.LT, vm.ISZERO)
		end := p.Size() + 1
		p.Push(1 << 8).Op(vm.JUMPI) // two bytes wide, set below
		p.Push(inputLen).Op(vm.DUP2).Push(input).Op(vm.CODECOPY)
		p.Push(common.HashLength).Push(output).Push(inputLen).Push(input).Op(vm.DUP7, vm.GAS, vm.STATICCALL)
		// done · (good · word + 3 · !good) + 2 · !done, where a good answer is one word, 0 or 1
		p.Push(output).Op(vm.MLOAD).Push(2).Op(vm.DUP2, vm.LT).Push(common.HashLength).Op(vm.RETURNDATASIZE, vm.EQ, vm.AND)
		p.Op(vm.DUP1, vm.ISZERO).Push(callOther).Op(vm.MUL, vm.SWAP2, vm.MUL, vm.ADD)
		p.Op(vm.DUP2, vm.MUL, vm.SWAP1, vm.ISZERO).Push(callReverted).Op(vm.MUL, vm.ADD)
		p.Op(vm.DUP3, vm.MSTORE8)
		p.Push(inputLen).Op(vm.ADD, vm.SWAP1).Push(1).Op(vm.ADD, vm.SWAP1)
		p.Jump(loop)
		p, last := p.Jumpdest()
		p.Push(results).Op(vm.DUP1, vm.DUP4, vm.SUB, vm.SWAP1, vm.RETURN)
		code := p.Bytes()
		code[end], code[end+1] = byte(last>>8), byte(last)
		return code
	}
	size := len(build(0xFF)) // as one byte, like the real one
	return build(size + common.AddressLength)
}()
