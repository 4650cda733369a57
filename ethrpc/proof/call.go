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

// gas bounds a call's time and memory. Reading a slot costs 2,100 gas.
const gas = 30_000_000

// ErrWrites reports code that writes, even without effect: such code may answer differently in a static call.
var ErrWrites = fmt.Errorf("it writes when it is called: %w", vm.ErrWriteProtection)

// ErrBeyondState reports code that asks for something that neither the block's header nor its state proves.
var ErrBeyondState = errors.New("it asks for more than the block's header and state prove")

// Result is the result of a call. It is valid only if nothing is missing.
type Result struct {
	Output   []byte // the return data, or the reason of the revert
	Reverted bool
	Touched  []Slot           // slots that were read, sorted; an implementation reads its proxy's slots
	Accounts []common.Address // accounts whose code ran, or that the code asked about, sorted
	Codes    []common.Address // accounts whose code ran or was read, without duplicates, in order of first use
	Volatile bool             // the code read block data (such as its time) or a balance, so the answer may change though code and storage do not
	Gas      uint64           // used; about 150 gas a microsecond; 0 if the call was aborted, as by a write
	Missing  Missing
}

// Call is a call of any contract.
type Call struct {
	To   common.Address
	Data []byte
}

// Answer is the proven result of a Call. Err is set if the contract reverts, writes or has no code.
type Answer struct {
	Output []byte
	Err    error
}

// Missing is what must be proven for a call to be valid. A missing account is likely to need its code next.
type Missing struct {
	Accounts []common.Address
	Slots    []Slot
	Codes    []common.Address // the accounts whose code it is
}

// Add adds o to m.
func (m *Missing) Add(o Missing) {
	m.Accounts, m.Slots, m.Codes = append(m.Accounts, o.Accounts...), append(m.Slots, o.Slots...), append(m.Codes, o.Codes...)
}

// Empty reports whether nothing is missing.
func (m Missing) Empty() bool { return len(m.Accounts)+len(m.Slots)+len(m.Codes) == 0 }

// Assumption returns the assumed word in an unproven slot. It must be deterministic.
type Assumption func(Slot) common.Hash

// CallAssuming runs the code of an account as eth_call does, from the zero address. It assumes a word for every unproven slot, or
// zero if assume is nil. It fails if the code neither returns nor reverts, if it writes (ErrWrites), if it asks for something
// that is not in the state (ErrBeyondState), or if ctx ends. With an error, the Result has what the code read until then.
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
	case ctx.Err() != nil: // err depends on where the call was stopped
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

// machine is an EVM over a VerifiedState. It makes one call at a time.
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
			m.verified.evm = nil // the panic left it in an undefined state
			if output, err = nil, ErrWrites; p != err {
				err = fmt.Errorf("%w: panic: %s", ErrBeyondState, sanitize.Plain(fmt.Sprint(p)))
			}
		}
	}()
	stop := context.AfterFunc(ctx, m.Cancel)
	defer func() {
		if !stop() {
			m.verified.evm = nil // a cancelled EVM cannot be reused
		}
	}()
	output, left, err := m.EVM.Call(common.Address{}, to, data, vm.NewGasBudget(gas, 0), new(uint256.Int))
	m.gas = gas - left.ExecutionGas
	return output, err
}

// block returns the block context that the header proves. It lacks the blob base fee, whose formula depends on the chain: code
// that asks for it panics, and the call fails.
func (w *VerifiedState) block(r *run) vm.BlockContext {
	h := w.header
	return vm.BlockContext{
		CanTransfer: func(_ vm.StateDB, _ common.Address, amount *uint256.Int) bool { return amount.IsZero() || writes() },
		Transfer:    func(vm.StateDB, common.Address, common.Address, *uint256.Int, *params.Rules) {}, // the amount is zero
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

// rules returns the rules of the current forks of Ethereum and the OP stack. Code that ran under older forks runs under them too.
func rules(chainID uint64) *params.ChainConfig {
	c := *params.MergedTestChainConfig
	c.ChainID = new(big.Int).SetUint64(chainID)
	return &c
}
