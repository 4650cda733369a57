//go:build ignore

package ethrpc

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// job is one local call.
type job struct {
	input
	ask *Ask // nil: an Explain

	compared bool  // or about to be
	said     *byte // by the node, in a bundle
}

// input names a call by the contract and what it is called with.
type input struct {
	contract common.Address
	data     string
}

// proving is one attempt to prove everything at one pin.
type proving struct {
	p         *provider
	at        pin
	world     *proof.World
	old       *memory
	contracts []common.Address

	jobs    []*job
	done    map[Ask]Answer
	touched map[input][]proof.Slot
	outputs map[input][]byte
	keys    map[common.Address]map[common.Hash]bool // touched
	compare []*job                                  // what the node is asked too
	waiting []*job                                  // what it was not asked yet

	volatile bool
	hints    proof.Missing           // what may be missing next
	hinted   map[common.Address]bool // the contracts of which hints were asked for
	guessing guessing
	sketchy  bool // what guesses do not explain is left out
	sketch   bool // some was
}

// prove answers the questions by running the contracts' own code over proven state. Where nothing changed since old,
// nothing is asked or run; where little did, little is. The error is ErrNoProof where the provider cannot,
// proof.ErrInvalid or a *GetterError where it lies.
func (p *provider) prove(ctx context.Context, chainID uint64, at pin, q Questions, old *memory, sketch bool) (*memory, error) {
	header, err := proof.EncodeHeader(at.raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoProof, err)
	}
	h, err := proof.Header(header, at.block.Hash)
	if err != nil {
		// A field of a fork that is not known here changes the hash as well, so this is no lie yet.
		return nil, fmt.Errorf("%w: %v", ErrNoProof, err)
	}
	w := proof.New(h, chainID)
	r := newProving(w, q)
	r.p, r.at, r.old, r.sketchy = p, at, old, sketch
	r.takeEarly(at.early)
	if old != nil {
		w.Adopt(old.world)
	}
	if old.stands(w, true) && old.asked.within(q) && q.within(old.asked) {
		next := *old
		next.world, next.asked = w, q
		return &next, nil
	}
	if err := r.run(ctx, q); err != nil {
		return nil, err
	}
	return r.finish(q), nil
}

func newProving(w *proof.World, q Questions) *proving {
	r := &proving{
		world: w, contracts: q.contracts(), done: make(map[Ask]Answer, len(q.Asks)), guessing: guessing{}, hinted: map[common.Address]bool{},
		touched: make(map[input][]proof.Slot, len(q.Asks)), outputs: map[input][]byte{}, keys: map[common.Address]map[common.Hash]bool{},
	}
	// One piece of memory for all of them, as there may be many.
	jobs, data := make([]job, len(q.Asks)), make([]byte, 0, len(q.Asks)*inputLen)
	for _, a := range q.Asks {
		data = append(data, a.data()...)
	}
	for i, all := 0, string(data); i < len(jobs); i++ {
		if a := &q.Asks[i]; a.Getter != "" {
			jobs[i] = job{input: input{a.Contract, all[i*inputLen : (i+1)*inputLen]}, ask: a}
			r.jobs = append(r.jobs, &jobs[i])
		}
	}
	seen := map[input]bool{}
	explain := func(all []Explain) {
		for _, e := range all {
			if j := (&job{input: input{e.Contract, string(e.Data)}}); !seen[j.input] {
				seen[j.input] = true
				r.jobs = append(r.jobs, j)
			}
		}
	}
	if q.Control {
		for _, c := range q.contracts() {
			explain(controlCalls(c))
		}
	}
	explain(q.Explain)
	return r
}

// run calls locally, fetches what is missing, and calls again, until nothing is missing. Along with what it fetches it
// has the node make those calls that are new, or whose answer may have changed.
func (r *proving) run(ctx context.Context, q Questions) error {
	standing := r.old.stands(r.world, false)
	for _, j := range r.jobs {
		if r.before(j, standing) == nil {
			r.compareWith(j)
		}
	}
	if len(r.waiting) > 0 && slices.ContainsFunc(r.contracts, r.guessable) {
		if err := r.say(ctx); err != nil {
			return err
		}
	}
	for round := 0; ; round++ {
		m, left, err := r.round(ctx)
		if err != nil {
			return err
		}
		m = r.withHints(r.whole(q, m))
		limit := atOnce
		if round >= thrifty {
			limit = 0
		}
		if m.Slots = r.world.Next(m.Slots, limit); m.Empty() {
			if left = r.fill(); len(left) == 0 {
				break
			}
		}
		if round == maxRounds {
			return fmt.Errorf("%w: after %d rounds the contract's code still asks for more state", ErrNoProof, round)
		}
		r.jobs = left
		if err := r.fetch(ctx, m); err != nil {
			return err
		}
	}
	return r.hold(ctx)
}

// guessable tells whether guesses about the contract can be tried at once: nothing is likely to be missing but its slots.
func (r *proving) guessable(c common.Address) bool {
	if !r.world.Fresh(c) {
		return false
	}
	impl := r.implementation(c)
	if impl == nil {
		return true
	}
	_, known := r.world.Account(*impl)
	return known
}

// round runs the jobs, and returns what is missing and the jobs that miss it.
func (r *proving) round(ctx context.Context) (m proof.Missing, left []*job, err error) {
	standing := r.old.stands(r.world, false)
	blocked := map[common.Address]bool{} // for want of some code, which the other calls are likely to want too
	for _, j := range r.jobs {
		if blocked[j.contract] {
			left = append(left, j)
			continue
		}
		missing, err := r.call(ctx, j, standing)
		if err != nil {
			return m, nil, err
		}
		blocked[j.contract] = len(missing.Accounts)+len(missing.Codes) > 0
		if !missing.Empty() {
			left = append(left, j)
			m.Accounts, m.Slots, m.Codes = append(m.Accounts, missing.Accounts...), append(m.Slots, missing.Slots...), append(m.Codes, missing.Codes...)
		}
	}
	return m, left, nil
}

// whole adds what is to be known of each contract whatever its code reads.
func (r *proving) whole(q Questions, m proof.Missing) proof.Missing {
	for _, c := range r.contracts {
		a, known := r.world.Account(c)
		if !known {
			m.Accounts = append(m.Accounts, c)
		}
		if known && a == nil {
			continue
		}
		for _, key := range append(slices.Clone(wellKnown), q.Slots[c]...) {
			m.Slots = append(m.Slots, slotOf(c, key))
		}
		if impl := r.implementation(c); q.Control && impl != nil {
			if _, known := r.world.Account(*impl); !known {
				m.Accounts = append(m.Accounts, *impl)
			}
		}
	}
	return m
}

// call runs one job and notes what it read. standing: the code is what it was, so that a job which reads what it read
// answers what it answered.
func (r *proving) call(ctx context.Context, j *job, standing bool) (proof.Missing, error) {
	if r.world.Bare(j.contract) {
		if j.ask != nil {
			r.done[*j.ask] = Answer{Err: errNoCode, Proven: true}
		}
		return proof.Missing{}, nil
	}
	if touched := r.before(j, standing); touched != nil {
		missing, same := r.reads(touched)
		if !missing.Empty() {
			return missing, nil
		}
		if same {
			r.note(j, touched)
			if j.ask != nil {
				r.done[*j.ask] = r.old.answers[*j.ask]
			} else {
				r.outputs[j.input] = r.old.outputs[j.input]
			}
			return proof.Missing{}, nil
		}
		r.compareWith(j)
	}
	word, guessed := r.guess(j)
	res, err := r.world.Suppose(ctx, j.contract, []byte(j.data), word)
	switch {
	case ctx.Err() != nil:
		return proof.Missing{}, err
	case errors.Is(err, proof.ErrWrites) && j.ask != nil:
		r.done[*j.ask] = Answer{Err: proof.ErrWrites, Proven: true} // with two answers to choose from there is none
		return proof.Missing{}, nil
	case err != nil:
		return proof.Missing{}, fmt.Errorf("%w: %w", ErrNoProof, err)
	}
	if guessed && r.guessing.take(j, res, word) {
		return proof.Missing{}, nil
	}
	if !res.Missing.Empty() {
		return res.Missing, nil
	}
	r.settle(j, res)
	return proof.Missing{}, nil
}

// settle notes what a job came to.
func (r *proving) settle(j *job, res proof.Result) {
	r.note(j, res.Touched)
	r.volatile = r.volatile || res.Volatile
	if j.ask != nil {
		a := Answer{Proven: true}
		if res.Reverted {
			a.Err = errReverted
		} else {
			a.Allowed, a.Err = boolBytes(res.Output)
		}
		r.done[*j.ask] = a
	} else if !res.Reverted {
		r.outputs[j.input] = res.Output
	}
}

// implementation is what the contract's proven slot names; nil: nothing yet, or at all.
func (r *proving) implementation(c common.Address) *common.Address {
	word, known := r.world.Value(slotOf(c, implementationSlot))
	if !known || word == (common.Hash{}) {
		return nil
	}
	impl, _ := addressWord(word[:])
	return impl
}

func slotOf(c common.Address, key common.Hash) proof.Slot { return proof.Slot{Account: c, Key: key} }

// before is what the job read the last time; nil: it is new, or its code is.
func (r *proving) before(j *job, standing bool) []proof.Slot {
	if !standing {
		return nil
	}
	return r.old.touched[j.input]
}

// reads holds slots against what they held before.
func (r *proving) reads(slots []proof.Slot) (missing proof.Missing, same bool) {
	same = true
	for _, s := range slots {
		is, known := r.world.Value(s)
		was, _ := r.old.world.Value(s)
		if !known {
			missing.Slots = append(missing.Slots, s)
		}
		same = same && is == was
	}
	return missing, same
}

func (r *proving) note(j *job, touched []proof.Slot) {
	r.touched[j.input] = touched
	for _, s := range touched {
		if r.keys[s.Account] == nil {
			r.keys[s.Account] = map[common.Hash]bool{}
		}
		r.keys[s.Account][s.Key] = true
	}
}

var (
	errReverted = errors.New("the contract reverts")
	errNoCode   = errors.New("there is no code")
	emptyCode   = crypto.Keccak256Hash()
)

// finish makes a memory of what is proven.
func (r *proving) finish(q Questions) *memory {
	m := &memory{
		world: r.world, asked: q, answers: r.done, code: map[common.Address]bool{}, contracts: map[common.Address]Contract{},
		control: map[common.Address]Control{}, touched: r.touched, outputs: r.outputs, accounts: r.world.Accounts(), volatile: r.volatile, sketch: r.sketch,
	}
	for _, c := range q.contracts() {
		a, _ := r.world.Account(c)
		m.code[c] = a != nil && common.BytesToHash(a.CodeHash) != emptyCode
		if a == nil {
			continue
		}
		if q.Control && m.code[c] {
			m.control[c] = r.control(c, common.BytesToHash(a.CodeHash))
		}
		explained := r.keys[c]
		if explained == nil {
			explained = map[common.Hash]bool{}
		}
		for _, key := range append(slices.Clone(wellKnown), q.Slots[c]...) {
			explained[key] = true
		}
		all, known := r.world.Leaves(c, explained)
		m.contracts[c] = Contract{a.Root, common.BytesToHash(a.CodeHash), known, r.world.Complete(c) && known == all}
	}
	return m
}
