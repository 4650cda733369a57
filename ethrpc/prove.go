//go:build ignore

package ethrpc

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

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

// ErrNoProof marks a provider that cannot prove what it says. That is no lie; proof.ErrInvalid marks one.
var ErrNoProof = errors.New("not proven")

// GetterError is an eth_call that does not answer what the proven state gives.
type GetterError struct {
	Ask    Ask
	Said   Answer
	Proven Answer
}

func (e *GetterError) Error() string {
	return fmt.Sprintf("eth_call of %s(%s) at %s answers %s, but the proven state gives %s", e.Ask.Getter, e.Ask.ID, e.Ask.Contract, e.Said, e.Proven)
}

func (a Answer) String() string {
	switch {
	case a.Err != nil:
		return "no answer (" + a.Err.Error() + ")"
	case a.Allowed:
		return "true"
	default:
		return "false"
	}
}

// Contract is what was proven of a contract as a whole.
type Contract struct {
	StorageRoot common.Hash
	CodeHash    common.Hash
	Slots       int  // that are in use and explained: one of the calls reads them, or they were named
	Complete    bool // they are all that the contract stores
}

// Explain is a call of which only the slots matter that it reads: they are part of what the contract is known to store.
type Explain struct {
	Contract common.Address
	Data     []byte
}

// Well-known slots that no getter may read: the implementation's, and those of OpenZeppelin's initializer (ERC-1967, ERC-7201).
var wellKnown = []common.Hash{
	before("eip1967.proxy.implementation"),
	before("eip1967.proxy.admin"),
	before("eip1967.proxy.beacon"),
	namespace("openzeppelin.storage.Initializable"),
	namespace("openzeppelin.storage.Ownable"),
	namespace("openzeppelin.storage.Ownable2Step"),
}

func before(name string) common.Hash { return minus(crypto.Keccak256Hash([]byte(name))) }

func minus(h common.Hash) common.Hash {
	return common.BigToHash(new(big.Int).Sub(h.Big(), common.Big1))
}

func namespace(id string) common.Hash {
	h := crypto.Keccak256Hash(before(id).Bytes())
	h[31] = 0
	return h
}

const (
	maxRounds   = 16  // of asking for what a call still misses
	thrifty     = 8   // rounds that ask for what changed, before all that is missing is asked for
	atOnce      = 32  // slots of a thrifty round
	keysAtOnce  = 256 // of one eth_getProof; geth allows 1,024
	proofWeight = 8   // of the account in it
)

// memory is what was proven before. Two Reads share what it tells a State, so nothing changes it.
type memory struct {
	world     *proof.World
	asked     Questions
	answers   map[Ask]Answer
	code      map[common.Address]bool
	control   map[common.Address]Control
	contracts map[common.Address]Contract
	revision  uint64

	touched  map[input][]proof.Slot // by job, what it read
	outputs  map[input][]byte       // by job that is no Ask, what it returned; nil: it reverts
	accounts []common.Address       // that the answers rest on
	volatile bool                   // some code looked at the block itself: its answers are good for this one only
	sketch   bool                   // answers were left out
}

// stands tells whether every account that the answers rest on is proven to run the code that it ran, and where storage
// is true, to store what it stored.
func (m *memory) stands(w *proof.World, storage bool) bool {
	if m == nil || m.volatile || storage && m.sketch {
		return false
	}
	for _, addr := range m.accounts {
		was, _ := m.world.Account(addr)
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

// fill tells a State what is proven.
func (m *memory) fill(s *State) {
	s.Answers, s.Code, s.Control, s.Contracts, s.Sketch, s.world = m.answers, m.code, m.control, m.contracts, m.sketch, m.world
	s.Revision = m.revision
}
