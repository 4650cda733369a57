package proof

import (
	"context"

	"github.com/ethereum/go-ethereum/common"
)

// replacement overrides the word in one slot during a call.
type replacement struct {
	slot Slot
	word common.Hash
}

// CallReplacing is like CallAssuming with zero for unproven slots, but overrides the word in one slot. So a proxy can run another
// implementation over its storage.
func (w *VerifiedState) CallReplacing(ctx context.Context, to common.Address, data []byte, slot Slot, word common.Hash) (Result, error) {
	w.replaced = &replacement{slot, word}
	defer func() { w.replaced = nil }()
	return w.CallAssuming(ctx, to, data, nil)
}

// HasLeaf reports whether a slot is proven to have a leaf in the storage trie. Some nodes keep leaves that hold zero.
func (w *VerifiedState) HasLeaf(slot Slot) bool {
	s := w.storage(slot.Account)
	return s != nil && s.entries[slot.Key] != nil
}
