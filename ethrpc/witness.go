package ethrpc

import (
	"context"
	"errors"

	"github.com/ethereum/go-ethereum/common"
)

// Witness is what proves Readings, whoever gives it: only the hash of the block has to be believed.
type Witness struct {
	Header []byte   // RLP
	Nodes  [][]byte // of the state trie and of storage tries, in any order; more than are needed do no harm
	Codes  [][]byte
}

// Witness returns what proves the readings, also where an earlier Read brought it; nil: nothing is proven. It is valid
// until the client's next Read.
func (s *State) Witness() *Witness { return nil }

// Prove answers the queries at a block from a Witness alone. The error is of the header, or of ctx. A Reading has an Err
// where the witness does not prove it, unless allowPartial and only answers are lacking: then they are left out. Readings
// have no Provider.
func Prove(ctx context.Context, chainID uint64, hash common.Hash, w Witness, queries []Query, allowPartial bool) (*State, Block, error) {
	return nil, Block{}, errors.New("soon")
}
