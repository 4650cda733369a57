package proof

import (
	"context"

	"github.com/ethereum/go-ethereum/common"
)

// replacement is what one slot holds during a call, whatever is proven of it.
type replacement struct {
	slot Slot
	word common.Hash
}

// CallReplacing is CallAssuming as if slot held word, whatever is proven of it, and every slot that is missing zero. So a
// proxy can be asked what another implementation makes of its storage.
func (w *VerifiedState) CallReplacing(ctx context.Context, to common.Address, data []byte, slot Slot, word common.Hash) (Result, error) {
	w.replaced = &replacement{slot, word}
	defer func() { w.replaced = nil }()
	return w.CallAssuming(ctx, to, data, nil)
}

// HasLeaf reports whether a slot is proven to be in the storage trie of its account. Some nodes keep leaves that hold zero.
func (w *VerifiedState) HasLeaf(slot Slot) bool {
	s := w.storage(slot.Account)
	return s != nil && s.entries[slot.Key] != nil
}
