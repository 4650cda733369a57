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

// state is what a virtual machine may ask of a VerifiedState that nothing writes to. Calls are not static, in which code can tell
// that its writes are refused: the first one ends them all. So an answer is the same, static or not. What is not here is
// asked for only after one; were it asked for, it panics as well.
type state struct {
	vm.StateDB
	run
	accessList map[access]bool
	order      []access // in which it came to be warm
}

// run notes what one call asked of a VerifiedState, and what could not be answered.
//
// After a missing slot the run goes on with what is assumed in its place, for it may read many more (a long string, say) whose
// names are good. But accounts and code that it then asks for hang on that assumption, and are not noted; and after a missing
// account or code nothing is.
type run struct {
	verified   *VerifiedState
	assume     Assumption // of missing slots; nil: they are empty
	touched    map[Slot]bool
	asked      map[common.Address]bool // about its existence, code or balance
	codes      []common.Address        // that were loaded
	missing    Missing
	incomplete bool // nothing is noted any more
	err        error
	gas        uint64

	mayBeBlockDependent bool // the code may be volatile
	volatile            bool // it is
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

// GetCodeSize is of code that need not run.
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

// writes ends the call.
func writes() bool { panic(ErrWrites) }

// What comes first of all that an instruction does that writes, or where it learns what writing costs.

func (*state) GetStateAndCommittedState(common.Address, common.Hash) (_, _ common.Hash) {
	writes()
	return
}
func (*state) SetTransientState(_ common.Address, _, _ common.Hash) { writes() }
func (*state) AddLog(*types.Log)                                    { writes() }
func (*state) IsNewContract(common.Address) bool                    { return writes() }

func (*state) GetNonce(common.Address) uint64 { // for the address of what is created
	writes()
	return 0
}

// CreateAccount is how a call, with nothing, of a precompile begins that is no account.
func (*state) CreateAccount(common.Address) {}

// AddBalance is how a static call touches an account: with nothing.
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

// volatile are the instructions whose answer may change while code and storage stay.
var volatile = [256]bool{
	vm.BLOCKHASH: true, vm.COINBASE: true, vm.TIMESTAMP: true, vm.NUMBER: true, vm.DIFFICULTY: true,
	vm.GASLIMIT: true, vm.BASEFEE: true, vm.BLOBBASEFEE: true, vm.SLOTNUM: true,
	vm.BALANCE: true, vm.SELFBALANCE: true,
}

// ends are the instructions after which only a jump goes on.
var ends = [256]bool{vm.STOP: true, vm.JUMP: true, vm.RETURN: true, vm.REVERT: true, vm.INVALID: true, vm.SELFDESTRUCT: true}

// mayBeVolatile reports whether code has a volatile instruction where a run can come. Where not, runs need no watching,
// which makes each several times slower. Instructions begin where the machine's own analysis of jumps says: at the start,
// and after each other but for what PUSH takes along.
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
	volatile bool // perhaps
}

func newCode(b []byte) code { return code{b, mayBeVolatile(b)} }
