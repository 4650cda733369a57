package proof

import (
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/stateless"
	"github.com/ethereum/go-ethereum/core/tracing"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/core/vm"
	"github.com/holiman/uint256"
)

// state implements the part of vm.StateDB that a call without writes uses. Calls are not static, since code can detect a static
// call. Instead the first write aborts the call, so an answer is the same in both kinds of call. The other methods of vm.StateDB
// are used only after a write; they panic.
type state struct {
	vm.StateDB
	run
	accessList map[access]bool
	order      []access // in the order of their addition
}

// run records what one call read from a VerifiedState, and what is missing.
//
// After a missing slot the run continues with the assumed word, because it may read many more slots with the right keys, as for a
// long string. Accounts and code that it then asks for depend on the assumption and are not recorded. After a missing account or
// code nothing is recorded.
type run struct {
	verified   *VerifiedState
	assume     Assumption // for missing slots; nil means zero
	touched    map[Slot]bool
	asked      map[common.Address]bool // accounts asked for existence, code or balance
	codes      []common.Address        // accounts whose code was loaded
	missing    Missing
	incomplete bool // an account or code is missing
	err        error
	gas        uint64

	mayBeBlockDependent bool // the loaded code has a volatile instruction
	volatile            bool // a volatile instruction ran
}

// access is an entry of the access list (EIP-2929): an account, or a slot of it.
type access struct {
	addr common.Address
	key  common.Hash
	slot bool
}

func (r *run) note(list *[]common.Address, addr common.Address) {
	if !r.incomplete && len(r.missing.Slots) == 0 {
		*list = append(*list, addr)
	}
	r.incomplete = true
}

func (r *run) account(addr common.Address) *types.StateAccount {
	a, known := r.verified.Account(addr)
	r.asked[addr] = true
	if !known {
		r.note(&r.missing.Accounts, addr)
	}
	return a
}

func (s *state) GetState(addr common.Address, key common.Hash) common.Hash {
	slot := Slot{addr, key}
	if r := s.verified.replaced; r != nil && r.slot == slot {
		s.touched[slot] = true
		return r.word
	}
	v, known := s.verified.Value(slot)
	if !known && s.assume != nil {
		v = s.assume(slot)
	}
	if !s.touched[slot] && !known && !s.incomplete {
		s.missing.Slots = append(s.missing.Slots, slot)
	}
	s.touched[slot] = true
	return v
}

func (s *state) GetCode(addr common.Address) []byte {
	a := s.account(addr)
	if hasNoCode(a) {
		return nil
	}
	code, known := s.verified.codes[common.BytesToHash(a.CodeHash)]
	if !known {
		s.note(&s.missing.Codes, addr)
	}
	if !slices.Contains(s.codes, addr) {
		s.codes = append(s.codes, addr)
	}
	s.mayBeBlockDependent = s.mayBeBlockDependent || code.volatile
	return code.bytes
}

// GetCodeSize does not count as loading the code.
func (s *state) GetCodeSize(addr common.Address) int {
	loaded := len(s.codes)
	size := len(s.GetCode(addr))
	s.codes = s.codes[:loaded]
	return size
}

func (s *state) Exist(addr common.Address) bool { return s.account(addr) != nil }

func (s *state) GetCodeHash(addr common.Address) common.Hash {
	if a := s.account(addr); a != nil {
		return common.BytesToHash(a.CodeHash)
	}
	return common.Hash{}
}

func (s *state) GetBalance(addr common.Address) *uint256.Int {
	if a := s.account(addr); a != nil {
		return a.Balance.Clone()
	}
	return new(uint256.Int)
}

func (s *state) Empty(addr common.Address) bool {
	a := s.account(addr)
	return a == nil || a.Nonce == 0 && a.Balance.IsZero() && hasNoCode(a)
}

func (*state) Witness() *stateless.Witness { return nil }

func (*state) GetTransientState(common.Address, common.Hash) common.Hash { return common.Hash{} }

// writes aborts the call.
func writes() bool { panic(ErrWrites) }

// The first method that each writing instruction calls, to write or to compute its gas.

func (*state) GetStateAndCommittedState(common.Address, common.Hash) (_, _ common.Hash) {
	writes()
	return
}
func (*state) SetTransientState(_ common.Address, _, _ common.Hash) { writes() }
func (*state) AddLog(*types.Log)                                    { writes() }
func (*state) IsNewContract(common.Address) bool                    { return writes() }

func (*state) GetNonce(common.Address) uint64 { // for CREATE
	writes()
	return 0
}

// CreateAccount is called when a precompile without an account is called with no value.
func (*state) CreateAccount(common.Address) {}

// AddBalance is called when a static call touches an account; the amount is zero.
func (*state) AddBalance(common.Address, *uint256.Int, tracing.BalanceChangeReason) uint256.Int {
	return uint256.Int{}
}

func (s *state) AddressInAccessList(addr common.Address) bool {
	return s.accessList[access{addr: addr}]
}

func (s *state) SlotInAccessList(addr common.Address, key common.Hash) (addressOk, slotOk bool) {
	return s.AddressInAccessList(addr), s.accessList[access{addr, key, true}]
}

func (s *state) AddAddressToAccessList(addr common.Address) { s.addToAccessList(access{addr: addr}) }

func (s *state) AddSlotToAccessList(addr common.Address, key common.Hash) {
	s.AddAddressToAccessList(addr)
	s.addToAccessList(access{addr, key, true})
}

func (s *state) addToAccessList(a access) {
	if !s.accessList[a] {
		s.accessList[a] = true
		s.order = append(s.order, a)
	}
}

func (s *state) Snapshot() int { return len(s.order) }

func (s *state) RevertToSnapshot(to int) {
	for _, a := range s.order[to:] {
		delete(s.accessList, a)
	}
	s.order = s.order[:to]
}

// volatile marks the instructions whose result may change while code and storage do not.
var volatile = [256]bool{
	vm.BLOCKHASH: true, vm.COINBASE: true, vm.TIMESTAMP: true, vm.NUMBER: true, vm.DIFFICULTY: true,
	vm.GASLIMIT: true, vm.BASEFEE: true, vm.BLOBBASEFEE: true, vm.SLOTNUM: true,
	vm.BALANCE: true, vm.SELFBALANCE: true,
}

// ends marks the instructions after which code is reachable only by a jump.
var ends = [256]bool{vm.STOP: true, vm.JUMP: true, vm.RETURN: true, vm.REVERT: true, vm.INVALID: true, vm.SELFDESTRUCT: true}

// mayBeVolatile reports whether code has a reachable volatile instruction. If not, its runs need no tracing, which would make them
// several times slower. Instructions follow each other as in the EVM's jump analysis: PUSH data is skipped.
func mayBeVolatile(code []byte) bool {
	reached := true
	for i := 0; i < len(code); i++ {
		op := vm.OpCode(code[i])
		reached = reached || op == vm.JUMPDEST
		switch {
		case reached && volatile[op]:
			return true
		case op.IsPush() && op != vm.PUSH0:
			i += int(op - vm.PUSH0)
		case ends[op]:
			reached = false
		}
	}
	return false
}

// code is an account's code.
type code struct {
	bytes    []byte
	volatile bool // mayBeVolatile
}

func newCode(b []byte) code { return code{b, mayBeVolatile(b)} }
