package proof

import (
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/stateless"
	"github.com/ethereum/go-ethereum/core/tracing"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/core/vm"
	"github.com/holiman/uint256"
)

// state is what a virtual machine may ask of a state that nothing writes to. Calls are not static, in which code can tell
// that its writes are refused: the first one ends them all. So an answer is the same, static or not. What is not here is
// asked for only after one; were it asked for, it panics as well.
type state struct {
	vm.StateDB
	reader
	accessList map[access]bool
	order      []access // in which it came to be warm
}

// access is an entry of the access list (EIP-2929): an account, or a slot of it.
type access struct {
	addr common.Address
	key  common.Hash
	slot bool
}

func (s *state) GetState(addr common.Address, key common.Hash) common.Hash {
	return s.storage(Slot{addr, key})
}

func (*state) Witness() *stateless.Witness { return nil }

func (*state) GetTransientState(common.Address, common.Hash) common.Hash { return common.Hash{} }

func (s *state) GetCode(addr common.Address) []byte  { return s.code(addr) }
func (s *state) GetCodeSize(addr common.Address) int { return len(s.code(addr)) }
func (s *state) Exist(addr common.Address) bool      { return s.account(addr) != nil }

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

func (s *state) Empty(addr common.Address) bool {
	a := s.account(addr)
	return a == nil || a.Nonce == 0 && a.Balance.IsZero() && common.BytesToHash(a.CodeHash) == types.EmptyCodeHash
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
