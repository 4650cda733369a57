package l1

import (
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// Outcome is what became of an audited block.
type Outcome uint8

// The zero Outcome decides nothing.
const (
	NotCovered   Outcome = iota // the headers do not lead from what L1 holds to the block
	Confirmed                   // the block is the one that L1 vouches for
	Contradicted                // it is not
)

// Confirm follows parent hashes from the Point's block down to an audited one. headers are the RLP of the headers from the
// Point's block down to the one after the audited block, or of the Point's block alone where they are the same; nobody has to be
// believed for them. The error says why the block is not confirmed.
func (p Point) Confirm(number uint64, hash common.Hash, headers [][]byte) (Outcome, error) {
	if number > p.Block || uint64(len(headers)) != max(p.Block-number, 1) {
		return NotCovered, fmt.Errorf("%d headers do not lead from block %d to block %d", len(headers), p.Block, number)
	}
	want := crypto.Keccak256Hash(headers[0])
	reached := want
	var vouched, known bool // known: what L1 would hold of this block
	for i, b := range headers {
		h, err := proof.Header(b, want)
		at := p.Block - uint64(i)
		switch {
		case err != nil:
			return NotCovered, fmt.Errorf("following the headers to block %d: %w", at, err)
		case !h.Number.IsUint64() || h.Number.Uint64() != at:
			return NotCovered, fmt.Errorf("the header of block %d says that it is block %s", at, h.Number)
		case i == 0 && h.WithdrawalsHash != nil:
			vouched = outputRoot(h, want) == p.Root
			known = vouched || *h.WithdrawalsHash != types.EmptyWithdrawalsHash
		}
		if want = h.ParentHash; number < p.Block {
			reached = want
		}
	}
	switch same := reached == hash; {
	case same && vouched:
		return Confirmed, nil
	case !known:
		return NotCovered, fmt.Errorf("the header of block %d lacks the withdrawals root that its output root takes: the chain is older than Isthmus", p.Block)
	case same:
		return Contradicted, fmt.Errorf("block %d follows from block %d (%s), but is not the one whose output root L1 holds (%s: %s)", p.Block, number, hash, p.Trust, p.Root)
	case vouched:
		return Contradicted, fmt.Errorf("block %d is %s by what L1 holds of block %d (%s), not %s", number, reached, p.Block, p.Trust, hash)
	default:
		return NotCovered, fmt.Errorf("the header of block %d is not the one whose output root L1 holds (%s: %s)", p.Block, p.Trust, p.Root)
	}
}

// outputRoot is the hash of what a version 0 output root commits to. Since Isthmus the header has all of it.
func outputRoot(h *types.Header, hash common.Hash) common.Hash {
	return crypto.Keccak256Hash(make([]byte, 32), h.Root[:], h.WithdrawalsHash[:], hash[:])
}
