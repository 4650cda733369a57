package proof

import (
	"context"

	"github.com/ethereum/go-ethereum/common"
)

// Call is CallAssuming with zero for unproven slots.
func (w *VerifiedState) Call(ctx context.Context, to common.Address, data []byte) (Result, error) {
	return w.CallAssuming(ctx, to, data, nil)
}

// Rebuild returns the root of a trie of an account's known leaves, and their number.
func (w *VerifiedState) Rebuild(addr common.Address) (root common.Hash, leaves int) {
	s := w.storage(addr)
	if s == nil {
		return common.Hash{}, 0
	}
	for _, leaf := range s.entries {
		if leaf != nil {
			leaves++
		}
	}
	return rebuild(s.entries, nil), leaves
}

// KeptStorages counts the storages of an account that this state retains: its own and older ones.
func (w *VerifiedState) KeptStorages(addr common.Address) (n int) {
	for s := w.storage(addr); s != nil; s = s.old {
		n++
	}
	return n
}
