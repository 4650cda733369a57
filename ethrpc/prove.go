package ethrpc

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// Verify says whether answers are to be proven against the block's state root.
type Verify uint8

// The modes of Verify.
const (
	VerifyAuto     Verify = iota // where a provider can, otherwise providers are believed
	VerifyRequired               // or there is no answer
	VerifyOff                    // providers are believed
)

// ErrNoProof marks what cannot be proven. That is no lie; proof.ErrInvalid marks one.
var ErrNoProof = errors.New("not proven")

// GetterError is an eth_call that does not answer what the proven state gives.
type GetterError struct {
	Contract common.Address
	Getter   string // its Solidity signature
	ID       common.Hash
	Said     Answer
	Proven   Answer
}

func (e *GetterError) Error() string {
	return fmt.Sprintf("eth_call of %s(%s) at %s answers %s, but the proven state gives %s", e.Getter, e.ID, e.Contract, e.Said, e.Proven)
}

// proofCache is what earlier Reads proved. Nothing changes it: a Read makes a new one.
type proofCache map[common.Address]*provenContract

// provenContract is what was proven of one contract. Readings share its maps, so nothing changes them.
type provenContract struct {
	query    Query
	reading  Reading
	verified *proof.VerifiedState
	block    common.Hash

	touched  map[proof.Slot]bool
	accounts []common.Address // that the answers rest on
	volatile bool             // some code looked at the block itself: its answers are good for this one only
}

// unchangedIn reports whether every account that the answers rest on is proven to run the code that it ran, and where
// storage is true, to store what it stored.
func (m *provenContract) unchangedIn(w *proof.VerifiedState, storage bool) bool {
	if m == nil || m.volatile || storage && m.reading.Partial {
		return false
	}
	for _, addr := range m.accounts {
		was, _ := m.verified.Account(addr)
		is, known := w.Account(addr)
		if !known || (was == nil) != (is == nil) {
			return false
		}
		if is != nil && (storage && is.Root != was.Root || !bytes.Equal(is.CodeHash, was.CodeHash)) {
			return false
		}
	}
	return true
}

// next is the cache after a Read: what it proved, and what was proven before of the contracts that it could not prove or,
// at the same block, did not ask about.
func (c proofCache) next(proven proofCache, block common.Hash, asked []*entry) proofCache {
	keep := map[common.Address]bool{}
	for _, e := range asked {
		keep[e.query.Contract] = true
	}
	for addr, m := range c {
		if proven[addr] == nil && (keep[addr] || m.block == block) {
			proven[addr] = m
		}
	}
	return proven
}
