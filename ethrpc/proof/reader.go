package proof

import (
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
)

// reader answers the virtual machine out of a World, as a state.Reader, and notes what it could not answer.
//
// After a missing slot the run goes on with zero, for it may read many more (a long string, say) whose names are
// good. But accounts and code that it then asks for hang on that zero, and are not noted; and after a missing account
// or code nothing is.
type reader struct {
	world   *World
	touched map[Slot]struct{}
	missing Missing
	blind   bool // nothing is noted any more
	err     error

	volatile bool
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

func (r *reader) Account(addr common.Address) (*types.StateAccount, error) {
	a, known := r.world.Account(addr)
	if !known {
		r.note(&r.missing.Accounts, addr)
	}
	return a, nil
}

func (r *reader) Storage(addr common.Address, key common.Hash) (common.Hash, error) {
	s := Slot{addr, key}
	v, known := r.world.Value(s)
	if _, again := r.touched[s]; !again && !known && !r.blind {
		r.missing.Slots = append(r.missing.Slots, s)
	}
	r.touched[s] = struct{}{}
	return v, nil
}

func (r *reader) Code(addr common.Address, hash common.Hash) []byte {
	code, known := r.world.codes[hash]
	if !known {
		r.note(&r.missing.Codes, addr)
	}
	return code
}

func (r *reader) CodeSize(addr common.Address, hash common.Hash) int { return len(r.Code(addr, hash)) }

func (r *reader) Has(_ common.Address, hash common.Hash) bool {
	_, known := r.world.codes[hash]
	return known
}

// database is all that a state needs of its database when it is only read.
type database struct{ state.Database }

func (database) Type() state.DatabaseType { return state.TypeMPT }
