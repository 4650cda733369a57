package ethrpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// Verify says whether answers are to be proven against the block's state root.
type Verify uint8

// The modes of Verify.
const (
	VerifyAuto     Verify = iota // where a provider can, otherwise providers are believed
	VerifyRequired               // or there is no answer
	VerifyOff                    // providers are believed
)

// ErrNoProof marks a provider that cannot prove what it says. That is no lie; proof.ErrInvalid marks one.
var ErrNoProof = errors.New("not proven")

// GetterError is an eth_call that does not answer what the proven state gives.
type GetterError struct {
	Ask    Ask
	Said   Answer
	Proven Answer
}

func (e *GetterError) Error() string {
	return fmt.Sprintf("eth_call of %s(%s) at %s answers %s, but the proven state gives %s", e.Ask.Getter, e.Ask.ID, e.Ask.Contract, e.Said, e.Proven)
}

func (a Answer) String() string {
	switch {
	case a.Err != nil:
		return "no answer (" + a.Err.Error() + ")"
	case a.Allowed:
		return "true"
	default:
		return "false"
	}
}

// Contract is what was proven of a contract as a whole.
type Contract struct {
	StorageRoot common.Hash
	CodeHash    common.Hash
	Slots       int  // that are in use and explained: one of the calls reads them, or they were named
	Complete    bool // they are all that the contract stores
}

// Explain is a call of which only the slots matter that it reads: they are part of what the contract is known to store.
type Explain struct {
	Contract common.Address
	Data     []byte
}

// Well-known slots that no getter may read: the implementation's, and those of OpenZeppelin's initializer (ERC-1967, ERC-7201).
var wellKnown = []common.Hash{
	before("eip1967.proxy.implementation"),
	before("eip1967.proxy.admin"),
	before("eip1967.proxy.beacon"),
	namespace("openzeppelin.storage.Initializable"),
	namespace("openzeppelin.storage.Ownable"),
	namespace("openzeppelin.storage.Ownable2Step"),
}

func before(name string) common.Hash { return minus(crypto.Keccak256Hash([]byte(name))) }

func minus(h common.Hash) common.Hash {
	return common.BigToHash(new(big.Int).Sub(h.Big(), common.Big1))
}

func namespace(id string) common.Hash {
	h := crypto.Keccak256Hash(before(id).Bytes())
	h[31] = 0
	return h
}

const (
	maxRounds    = 16  // of asking for what a call still misses
	keysAtOnce   = 256 // of one eth_getProof; geth allows 1,024
	proofsAtOnce = 4   // eth_getProof calls in one HTTP request, for the size of the answer
)

// memory is what was proven before, and what to ask for at once next time.
type memory struct {
	world    *proof.World
	answers  map[Ask]Answer
	asked    Questions
	accounts []common.Address
	keys     map[common.Address]map[common.Hash]bool // that the calls touched
}

// early are the accounts whose proofs may show at once that nothing changed.
func (m *memory) early() []common.Address {
	if m == nil {
		return nil
	}
	return m.accounts
}

func (m *memory) answer(a Ask) (Answer, bool) {
	if m == nil {
		return Answer{}, false
	}
	answer, known := m.answers[a]
	return answer, known
}

// stands tells whether every account that the answers rest on is proven to be as it was.
func (m *memory) stands(w *proof.World) bool {
	if m == nil {
		return false
	}
	for _, addr := range m.accounts {
		was, _ := m.world.Account(addr)
		is, known := w.Account(addr)
		if !known || (was == nil) != (is == nil) || is != nil && (is.Root != was.Root || !bytes.Equal(is.CodeHash, was.CodeHash)) {
			return false
		}
	}
	return true
}

// job is one local call.
type job struct {
	contract common.Address
	data     []byte
	ask      *Ask // nil: an Explain
}

// proving is one attempt to prove everything at one pin.
type proving struct {
	p     *provider
	at    pin
	world *proof.World
	jobs  []*job
	done  map[Ask]Answer
	keys  map[common.Address]map[common.Hash]bool // touched

	volatile bool // some code looked at the block itself: its answers are good for this one only
}

// prove answers the questions by running the contracts' own code over proven state. Where nothing changed since old,
// nothing is asked. The error is ErrNoProof where the provider cannot, proof.ErrInvalid or a *GetterError where it lies.
func (p *provider) prove(ctx context.Context, chainID uint64, at pin, q Questions, old *memory, s *State) (*memory, error) {
	header, err := proof.EncodeHeader(at.raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoProof, err)
	}
	h, err := proof.Header(header, at.block.Hash)
	if err != nil {
		// A field of a fork that is not known here changes the hash as well, so this is no lie yet.
		return nil, fmt.Errorf("%w: %w", ErrNoProof, err)
	}
	r := &proving{p: p, at: at, world: proof.New(h, chainID), done: map[Ask]Answer{}, keys: map[common.Address]map[common.Hash]bool{}}
	for i, addr := range at.early {
		// Another node may have answered for another block: then the account is asked for again, by hash.
		if a, err := readProof(at.proofs[i], 0); err == nil {
			_ = r.world.AddAccount(addr, a.account)
		}
	}
	unchanged := old.stands(r.world) && old.asked.within(q)
	if old != nil {
		r.world.Adopt(old.world)
	}
	contracts := q.contracts()
	for _, a := range q.Asks {
		if answer, known := old.answer(a); known && unchanged {
			r.done[a] = answer
		} else if a.Getter != "" {
			r.jobs = append(r.jobs, &job{contract: a.Contract, data: a.data(), ask: &a})
		}
	}
	for _, e := range q.Explain {
		if unchanged && r.world.Complete(e.Contract) {
			continue // its slots are known
		}
		r.jobs = append(r.jobs, &job{contract: e.Contract, data: e.Data})
	}
	if err := r.run(ctx, contracts, q, old); err != nil {
		return nil, err
	}
	return r.finish(q, s, old, unchanged), nil
}

// run calls locally, fetches what is missing, and calls again, until nothing is missing.
func (r *proving) run(ctx context.Context, contracts []common.Address, q Questions, old *memory) error {
	var compare map[Ask]*call
	for round := 0; ; round++ {
		var m proof.Missing
		var left []*job
		for _, j := range r.jobs {
			missing, err := r.call(j)
			if err != nil {
				return err
			}
			if !missing.Empty() {
				left = append(left, j)
				m.Accounts, m.Slots, m.Codes = append(m.Accounts, missing.Accounts...), append(m.Slots, missing.Slots...), append(m.Codes, missing.Codes...)
			}
		}
		for _, c := range contracts {
			if _, known := r.world.Account(c); !known {
				m.Accounts = append(m.Accounts, c)
			}
		}
		if m.Empty() {
			break
		}
		if round == maxRounds {
			return fmt.Errorf("%w: after %d rounds the contract's code still asks for more state", ErrNoProof, round)
		}
		if round == 0 {
			compare = compareCalls(r.at, left)
			for _, c := range contracts {
				for _, key := range append(slices.Clone(wellKnown), q.Slots[c]...) {
					m.Slots = append(m.Slots, proof.Slot{Account: c, Key: key})
				}
				if old != nil {
					for key := range old.keys[c] {
						m.Slots = append(m.Slots, proof.Slot{Account: c, Key: key})
					}
				}
			}
		}
		r.jobs = left
		if err := r.fetch(ctx, m, compare, round == 0); err != nil {
			return err
		}
	}
	for _, ask := range q.Asks { // in their order, so that the same lie is told in the same words
		c := compare[ask]
		if c == nil {
			continue
		}
		if err := fault(r.at, c.err); err != nil {
			return err
		}
		said, proven := c.answer(), r.done[ask]
		if (said.Err != nil) != (proven.Err != nil) || said.Allowed != proven.Allowed {
			return &GetterError{ask, said, proven}
		}
	}
	return nil
}

// compareCalls are the eth_calls whose answers must be what is proven.
func compareCalls(at pin, jobs []*job) map[Ask]*call {
	out := map[Ask]*call{}
	for _, j := range jobs {
		if j.ask != nil {
			out[*j.ask] = ethCall(at, *j.ask)
		}
	}
	return out
}

// call runs one job and notes what it read.
func (r *proving) call(j *job) (proof.Missing, error) {
	if a, known := r.world.Account(j.contract); known && (a == nil || common.BytesToHash(a.CodeHash) == emptyCode) {
		if j.ask != nil {
			r.done[*j.ask] = Answer{Err: errNoCode, Proven: true}
		}
		return proof.Missing{}, nil
	}
	res, err := r.world.Call(j.contract, j.data)
	if err != nil {
		return proof.Missing{}, fmt.Errorf("%w: %w", ErrNoProof, err)
	}
	if !res.Missing.Empty() {
		return res.Missing, nil
	}
	for _, s := range res.Touched {
		if r.keys[s.Account] == nil {
			r.keys[s.Account] = map[common.Hash]bool{}
		}
		r.keys[s.Account][s.Key] = true
	}
	r.volatile = r.volatile || res.Volatile
	if j.ask != nil {
		a := Answer{Proven: true}
		if res.Reverted {
			a.Err = errReverted
		} else {
			a.Allowed, a.Err = boolBytes(res.Output)
		}
		r.done[*j.ask] = a
	}
	return proof.Missing{}, nil
}

var (
	errReverted = errors.New("the contract reverts")
	errNoCode   = errors.New("there is no code")
	emptyCode   = crypto.Keccak256Hash()
)

// fetch asks for everything that is missing, with the calls to compare in the same requests, and verifies it.
func (r *proving) fetch(ctx context.Context, m proof.Missing, compare map[Ask]*call, first bool) error {
	slots, seen := map[common.Address][]common.Hash{}, map[proof.Slot]bool{}
	for _, s := range m.Slots {
		if !seen[s] {
			seen[s] = true
			slots[s.Account] = append(slots[s.Account], s.Key)
		}
	}
	var proofs []*wanted
	codes := map[common.Address]*call{}
	want := func(addr common.Address) {
		keys := slots[addr]
		delete(slots, addr)
		for {
			n := min(len(keys), keysAtOnce)
			proofs = append(proofs, wantProof(addr, keys[:n], r.at.ref()))
			if keys = keys[n:]; len(keys) == 0 {
				return
			}
		}
	}
	for _, a := range append(slices.Clone(m.Accounts), m.Codes...) {
		if codes[a] == nil {
			codes[a] = &call{method: "eth_getCode", args: []any{a, r.at.ref()}}
		}
	}
	for _, a := range unique(m.Accounts) {
		want(a)
	}
	for _, a := range sortedKeys(slots) {
		want(a)
	}

	var small []*call
	for _, c := range codes {
		small = append(small, c)
	}
	if first {
		for _, c := range compare {
			small = append(small, c)
		}
	}
	if err := r.p.doProofs(ctx, proofs, small); err != nil {
		return fmt.Errorf("proving at block %d: %w", r.at.block.Number, err)
	}
	return r.take(proofs, codes)
}

// take verifies what came.
func (r *proving) take(proofs []*wanted, codes map[common.Address]*call) error {
	for _, w := range proofs {
		if w.err != nil {
			if err := fault(r.at, w.err); errors.Is(err, errUnknownBlock) {
				return err
			}
			return fmt.Errorf("%w: eth_getProof: %w", ErrNoProof, w.err)
		}
		a, err := readProof(w.result, len(w.keys))
		if err != nil {
			return fmt.Errorf("reading eth_getProof of %s: %w", w.addr, err)
		}
		if err := r.world.AddAccount(w.addr, a.account); err != nil {
			return err
		}
		if acct, _ := r.world.Account(w.addr); acct == nil {
			continue
		}
		for i, key := range w.keys {
			if err := r.world.AddSlot(w.addr, key, a.slots[i]); err != nil {
				return err
			}
		}
	}
	for addr, c := range codes {
		if err := fault(r.at, c.err); err != nil {
			return err
		}
		code, err := bytesOf(c.result)
		if err != nil {
			return fmt.Errorf("reading the code of %s: %w", addr, err)
		}
		acct, known := r.world.Account(addr)
		if !known || acct == nil || common.BytesToHash(acct.CodeHash) == emptyCode {
			continue
		}
		if err := r.world.AddCode(code); err != nil {
			return fmt.Errorf("the code of %s: %w", addr, err)
		}
	}
	return nil
}

// finish writes what is proven into the state and keeps it for the next time.
func (r *proving) finish(q Questions, s *State, old *memory, unchanged bool) *memory {
	next := &memory{world: r.world, answers: r.done, accounts: r.world.Accounts(), keys: r.keys}
	if r.volatile {
		next.answers = nil
	}
	if unchanged {
		for addr, keys := range old.keys {
			if next.keys[addr] == nil {
				next.keys[addr] = map[common.Hash]bool{}
			}
			maps.Copy(next.keys[addr], keys)
		}
	}
	s.Answers, s.Code, s.Contracts = r.done, map[common.Address]bool{}, map[common.Address]Contract{}
	for _, c := range q.contracts() {
		a, _ := r.world.Account(c)
		s.Code[c] = a != nil && common.BytesToHash(a.CodeHash) != emptyCode
		if a == nil {
			continue
		}
		explained := maps.Clone(next.keys[c])
		if explained == nil {
			explained = map[common.Hash]bool{}
		}
		for _, key := range append(slices.Clone(wellKnown), q.Slots[c]...) {
			explained[key] = true
		}
		all, known := r.world.Leaves(c, explained)
		s.Contracts[c] = Contract{a.Root, common.BytesToHash(a.CodeHash), known, r.world.Complete(c) && known == all}
	}
	return next
}
