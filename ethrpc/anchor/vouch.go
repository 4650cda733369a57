package anchor

import (
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

const (
	// MaxWalk is the maximum number of headers between two blocks.
	MaxWalk = 128
	// unsettled is how many blocks, from the newest signed one down, may still be reorganised.
	unsettled = 3
)

// Walk names the headers that link a block to a Head: those from block From down to the block above To. If From is zero, no
// headers are needed.
type Walk struct {
	From common.Hash
	Top  uint64 // number of block From
	To   uint64
}

// WalkTo returns the Walk that relates a block to the Head. An error says why no walk can do that.
func (h *Head) WalkTo(number uint64, hash common.Hash) (Walk, error) {
	final, signed := h.Finalized, h.signed()
	w := Walk{}
	switch {
	case number == final.BlockNumber || number == signed.BlockNumber:
		return w, nil
	case number < final.BlockNumber:
		w = Walk{final.BlockHash, final.BlockNumber, number}
	case number < signed.BlockNumber:
		w = Walk{signed.BlockHash, signed.BlockNumber, number}
	default: // nothing newer is signed, so only whether the block follows the finalized one can be checked
		w = Walk{hash, number, final.BlockNumber}
	}
	if w.Top-w.To > MaxWalk {
		return Walk{}, fmt.Errorf("block %d is %d blocks away from the block that the sync committee signed, more than %d", number, w.Top-w.To, MaxWalk)
	}
	return w, nil
}

// ErrNewer reports a block that is newer than the newest signed one. Its headers lead down to the finalized block.
var ErrNewer = errors.New("the newest that the sync committee signed")

// Contradiction reports a block for which the chain that the sync committee signed has another hash.
type Contradiction struct {
	Number       uint64
	Hash, Signed common.Hash
}

func (c *Contradiction) Error() string {
	return fmt.Sprintf("block %d is %s according to the provider, but %s according to the sync committee", c.Number, c.Hash, c.Signed)
}

// Vouches returns nil if the sync committee signed the block or a descendant of it. headers are those of WalkTo, as RLP. The error
// is a *Contradiction if the block is not on the chain that the committee signed. Any other error says why nothing is known about
// the block.
func (h *Head) Vouches(number uint64, hash common.Hash, headers [][]byte) error {
	w, err := h.WalkTo(number, hash)
	if err != nil {
		return err
	}
	if w.From == (common.Hash{}) {
		of := h.Finalized
		if number != of.BlockNumber {
			of = h.signed()
		}
		return h.compare(number, hash, of.BlockHash)
	}
	reached, err := descend(w, headers)
	if err != nil {
		return err
	}
	if w.To == number {
		return h.compare(number, hash, reached)
	}
	if final := h.Finalized; reached != final.BlockHash {
		return &Contradiction{final.BlockNumber, reached, final.BlockHash}
	}
	return fmt.Errorf("block %d is newer than block %d, %w", number, h.signed().BlockNumber, ErrNewer)
}

// signed returns the newest block that the sync committee signed.
func (h *Head) signed() consensus.Header {
	if h.Attested.BlockNumber > h.Finalized.BlockNumber {
		return h.Attested
	}
	return h.Finalized
}

// compare compares a block's hash with the signed one.
func (h *Head) compare(number uint64, hash, signed common.Hash) error {
	switch {
	case hash == signed:
		return nil
	case number > h.Finalized.BlockNumber && number+unsettled > h.signed().BlockNumber:
		return fmt.Errorf("block %d is %s according to the provider, but the sync committee signed %s, which is not final yet", number, hash, signed)
	}
	return &Contradiction{number, hash, signed}
}

// descend follows parent hashes from block w.From, and returns the hash of block w.To.
func descend(w Walk, headers [][]byte) (common.Hash, error) {
	if uint64(len(headers)) != w.Top-w.To {
		return common.Hash{}, fmt.Errorf("got %d headers from block %d down to block %d, want %d", len(headers), w.Top, w.To, w.Top-w.To)
	}
	hash := w.From
	for i, b := range headers {
		h, err := proof.Header(b, hash)
		if err != nil {
			return common.Hash{}, fmt.Errorf("following the chain from block %d: %w", w.Top, err)
		}
		if want := w.Top - uint64(i); !h.Number.IsUint64() || h.Number.Uint64() != want {
			return common.Hash{}, fmt.Errorf("following the chain from block %d: block %s is not block %d", w.Top, hash, want)
		}
		hash = h.ParentHash
	}
	return hash, nil
}
