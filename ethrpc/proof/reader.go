package proof

import (
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
)

// reader answers a call out of a VerifiedState, and notes what it could not answer.
//
// After a missing slot the run goes on with a word in its place, for it may read many more (a long string, say) whose
// names are good. But accounts and code that it then asks for hang on that word, and are not noted; and after a missing
// account or code nothing is.
type reader struct {
	verified   *VerifiedState
	word       common.Hash // in missing slots
	touched    map[Slot]bool
	asked      map[common.Address]bool // about its existence, code or balance
	missing    Missing
	incomplete bool // nothing is noted any more
	err        error
	gas        uint64

	mayBeBlockDependent bool // the code may be volatile
	volatile            bool // it is
}

func (r *reader) note(list *[]common.Address, addr common.Address) {
	if !r.incomplete && len(r.missing.Slots) == 0 {
		*list = append(*list, addr)
	}
	r.incomplete = true
}

func (r *reader) account(addr common.Address) *types.StateAccount {
	a, known := r.verified.account(addr)
	r.asked[addr] = true
	if !known {
		r.note(&r.missing.Accounts, addr)
	}
	return a
}

func (r *reader) storage(s Slot) common.Hash {
	v, known := r.verified.Value(s)
	if !known {
		v = r.word
	}
	if !r.touched[s] && !known && !r.incomplete {
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
	code, known := r.verified.codes[common.BytesToHash(a.CodeHash)]
	if !known {
		r.note(&r.missing.Codes, addr)
	}
	r.mayBeBlockDependent = r.mayBeBlockDependent || code.volatile
	return code.bytes
}
