package proof

import (
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
)

// reader answers a call out of a World, and notes what it could not answer.
//
// After a missing slot the run goes on with a word in its place, for it may read many more (a long string, say) whose
// names are good. But accounts and code that it then asks for hang on that word, and are not noted; and after a missing
// account or code nothing is.
type reader struct {
	world   *World
	word    common.Hash // in missing slots
	touched map[Slot]bool
	asked   map[common.Address]bool // about its existence, code or balance
	missing Missing
	blind   bool // nothing is noted any more
	err     error

	suspect  bool // the code may be volatile
	volatile bool // it is
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) note(list *[]common.Address, addr common.Address) {
	if !r.blind && len(r.missing.Slots) == 0 {
		*list = append(*list, addr)
	}
	r.blind = true
}

func (r *reader) account(addr common.Address) *types.StateAccount {
	a, known := r.world.account(addr)
	r.asked[addr] = true
	if !known {
		r.note(&r.missing.Accounts, addr)
	}
	return a
}

func (r *reader) storage(s Slot) common.Hash {
	v, known := r.world.Value(s)
	if !known {
		v = r.word
	}
	if !r.touched[s] && !known && !r.blind {
		r.missing.Slots = append(r.missing.Slots, s)
	}
	r.touched[s] = true
	return v
}

func (r *reader) code(addr common.Address) []byte {
	a := r.account(addr)
	if a == nil || common.BytesToHash(a.CodeHash) == types.EmptyCodeHash {
		return nil
	}
	code, known := r.world.codes[common.BytesToHash(a.CodeHash)]
	if !known {
		r.note(&r.missing.Codes, addr)
	}
	r.suspect = r.suspect || code.volatile
	return code.bytes
}
