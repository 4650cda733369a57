package proof

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/tracing"
	"github.com/ethereum/go-ethereum/core/vm"
	"github.com/ethereum/go-ethereum/params"
	"github.com/holiman/uint256"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// gas bounds a call's time and memory; reading a slot costs 2,100 of it.
const gas = 30_000_000

// ErrWrites marks code that writes, also where that would come to nothing: where it must not, it may answer otherwise.
var ErrWrites = fmt.Errorf("it writes when it is called: %w", vm.ErrWriteProtection)

// ErrBeyondState marks code that asks for what neither the block's header nor its state prove.
var ErrBeyondState = errors.New("it asks for more than the block's header and state prove")

// Result is what a call came to. It counts only when nothing is missing.
type Result struct {
	Output   []byte // what was returned, or the reason of the revert
	Reverted bool
	Touched  []Slot           // all that was read, sorted: a proxy's storage also where its implementation reads it
	Accounts []common.Address // all that the code asked about, and those whose code ran, sorted
	Codes    []common.Address // those whose code ran, or was read, each once, in the order of their first time
	Volatile bool             // the code looked at the block itself (its time, say) or at a balance: the same state may answer otherwise later
	Gas      uint64           // that it used, about 150 a microsecond; 0 where something ended it on the way, as a write does
	Missing  Missing
}

// Call is a call of any contract, and Answer what it came to where all that it reads is proven. Err says why the contract
// gives no Output: it reverts, writes, or has no code.
type (
	Call struct {
		To   common.Address
		Data []byte
	}
	Answer struct {
		Output []byte
		Err    error
	}
)

// Missing is what has to be proven before a call can be believed. An account that is missing will want its code next.
type Missing struct {
	Accounts []common.Address
	Slots    []Slot
	Codes    []common.Address // the accounts whose code it is
}

// Add adds what is missing too.
func (m *Missing) Add(o Missing) {
	m.Accounts, m.Slots, m.Codes = append(m.Accounts, o.Accounts...), append(m.Slots, o.Slots...), append(m.Codes, o.Codes...)
}

// Empty reports whether nothing is missing.
func (m Missing) Empty() bool { return len(m.Accounts)+len(m.Slots)+len(m.Codes) == 0 }

// Assumption says what a slot that is not proven holds. It always says the same of a slot.
type Assumption func(Slot) common.Hash

// CallAssuming runs the code of an account as eth_call does, from the zero address, and as it were if every slot that is
// missing held what is assumed of it; nil: nothing. It is an error when the code neither returns nor reverts, when it writes
// (ErrWrites) or asks for what a header does not prove, and when ctx ends before it does. With an error the Result has what
// the code read until then.
func (w *VerifiedState) CallAssuming(ctx context.Context, to common.Address, data []byte, assume Assumption) (Result, error) {
	if w.evm == nil {
		w.evm = newMachine(w, nil)
	}
	m := w.evm
	output, err := m.call(ctx, to, data, assume)
	if m.mayBeBlockDependent {
		m = newMachine(w, &tracing.Hooks{
			OnOpcode: func(_ uint64, op byte, _, _ uint64, _ tracing.OpContext, _ []byte, _ int, _ error) {
				m.volatile = m.volatile || volatile[op]
			},
		})
		output, err = m.call(ctx, to, data, assume)
	}
	res := Result{
		Output:   output,
		Reverted: errors.Is(err, vm.ErrExecutionReverted),
		Touched:  slices.SortedFunc(maps.Keys(m.touched), Slot.Compare),
		Accounts: slices.SortedFunc(maps.Keys(m.asked), common.Address.Cmp),
		Codes:    m.codes,
		Volatile: m.volatile,
		Gas:      m.gas,
		Missing:  m.missing,
	}
	switch {
	case ctx.Err() != nil: // it may have been stopped anywhere
		err = context.Cause(ctx)
	case m.err != nil && res.Missing.Empty() && !errors.Is(err, ErrWrites):
		err = m.err
	case res.Reverted || !res.Missing.Empty():
		err = nil
	}
	if err != nil {
		return res, fmt.Errorf("running the code of %s: %w", to, err)
	}
	return res, nil
}

// machine is a virtual machine over a VerifiedState, for one call after the other.
type machine struct {
	*vm.EVM
	state
}

func newMachine(w *VerifiedState, tracer *tracing.Hooks) *machine {
	m := &machine{state: state{accessList: map[access]bool{}, run: run{verified: w, touched: map[Slot]bool{}, asked: map[common.Address]bool{}}}}
	m.EVM = vm.NewEVM(w.block(&m.run), &m.state, rules(w.chainID), vm.Config{Tracer: tracer})
	m.SetTxContext(vm.TxContext{GasPrice: new(uint256.Int)})
	return m
}

func (m *machine) call(ctx context.Context, to common.Address, data []byte, assume Assumption) (output []byte, err error) {
	m.RevertToSnapshot(0)
	clear(m.touched)
	clear(m.asked)
	m.run = run{verified: m.verified, assume: assume, touched: m.touched, asked: m.asked}
	defer func() {
		if p := recover(); p != nil {
			m.verified.evm = nil // it stopped in the middle
			if output, err = nil, ErrWrites; p != err {
				err = fmt.Errorf("%w: panic: %s", ErrBeyondState, sanitize.Plain(fmt.Sprint(p)))
			}
		}
	}()
	stop := context.AfterFunc(ctx, m.Cancel)
	defer func() {
		if !stop() {
			m.verified.evm = nil // it stays stopped
		}
	}()
	output, left, err := m.EVM.Call(common.Address{}, to, data, vm.NewGasBudget(gas, 0), new(uint256.Int))
	m.gas = gas - left.ExecutionGas
	return output, err
}

// block is the block as its header proves it. That leaves out the blob base fee, whose formula differs from chain to
// chain: code that asks for it panics, which is an error of the call.
func (w *VerifiedState) block(r *run) vm.BlockContext {
	h := w.header
	return vm.BlockContext{
		CanTransfer: func(_ vm.StateDB, _ common.Address, amount *uint256.Int) bool { return amount.IsZero() || writes() },
		Transfer:    func(vm.StateDB, common.Address, common.Address, *uint256.Int, *params.Rules) {}, // only of nothing
		GetHash: func(n uint64) common.Hash {
			if n+1 == h.Number.Uint64() {
				return h.ParentHash
			}
			r.err = cmp.Or(r.err, fmt.Errorf("%w: the hash of block %d", ErrBeyondState, n))
			return common.Hash{}
		},
		Coinbase:    h.Coinbase,
		GasLimit:    h.GasLimit,
		BlockNumber: h.Number,
		Time:        h.Time,
		Difficulty:  h.Difficulty,
		BaseFee:     cmp.Or(h.BaseFee, new(big.Int)),
		Random:      &h.MixDigest,
	}
}

// rules are those of today's forks of Ethereum and of the OP stack: code that runs under older ones runs under them.
func rules(chainID uint64) *params.ChainConfig {
	c := *params.MergedTestChainConfig
	c.ChainID = new(big.Int).SetUint64(chainID)
	return &c
}
