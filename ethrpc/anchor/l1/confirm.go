package l1

import (
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// Outcome is the result of Confirm.
type Outcome uint8

// The zero Outcome is NotCovered.
const (
	NotCovered   Outcome = iota // the headers do not lead from the Point's block to the audited block
	Confirmed                   // L1 confirms the audited block
	Contradicted                // L1 has another hash for the audited block
	Unvouched                   // the headers are well-formed, but do not begin with the Point's block
	Unknown                     // like Unvouched, but the block may be from before Isthmus, when a header did not give the output root
)

// Confirm follows parent hashes from the Point's block down to an audited one, and returns the time of the block that they lead
// to. headers are the RLP of all these blocks' headers, the Point's first; their source need not be trusted. The error says why
// the block is not confirmed.
func (p Point) Confirm(number uint64, hash common.Hash, headers [][]byte) (Outcome, time.Time, error) {
	if number > p.Block || uint64(len(headers)) != p.Block-number+1 {
		return NotCovered, time.Time{}, fmt.Errorf("%d headers do not lead from block %d to block %d", len(headers), p.Block, number)
	}
	next := crypto.Keccak256Hash(headers[0])
	var reached common.Hash
	var made time.Time
	var vouched, known bool // known: the header gives the output root
	for i, b := range headers {
		reached = next
		h, err := proof.Header(b, reached)
		at := p.Block - uint64(i)
		switch {
		case err != nil:
			return NotCovered, time.Time{}, fmt.Errorf("following the headers to block %d: %w", at, err)
		case !h.Number.IsUint64() || h.Number.Uint64() != at:
			return NotCovered, time.Time{}, fmt.Errorf("the header of block %d has the number %s", at, h.Number)
		case i == 0 && h.WithdrawalsHash != nil:
			vouched = outputRoot(h, reached) == p.Root
			known = vouched || *h.WithdrawalsHash != types.EmptyWithdrawalsHash
		}
		next, made = h.ParentHash, time.Unix(int64(h.Time), 0).UTC()
	}
	switch {
	case vouched && reached == hash:
		return Confirmed, made, nil
	case !known && p.Game == (common.Address{}):
		return Unknown, made, fmt.Errorf("block %d is not the one whose output root L1 holds (%s: %s): its header lacks the withdrawals root, as if it were older than Isthmus", p.Block, p.Trust, p.Root)
	case vouched:
		return Contradicted, made, fmt.Errorf("block %d is %s according to L1's output root of block %d (%s), not %s", number, reached, p.Block, p.Trust, hash)
	default:
		return Unvouched, made, fmt.Errorf("block %d is not the one whose output root L1 holds (%s: %s)", p.Block, p.Trust, p.Root)
	}
}

// outputRoot returns the version 0 output root. Since Isthmus the header has all that it commits to.
func outputRoot(h *types.Header, hash common.Hash) common.Hash {
	return crypto.Keccak256Hash(make([]byte, 32), h.Root[:], h.WithdrawalsHash[:], hash[:])
}
