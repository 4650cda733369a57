package audit

import (
	"time"

	"github.com/ethereum/go-ethereum/common"
)

// Policy is what the operator wants of a contract. What is nil is not checked; a list that is empty and not nil wants
// nothing to be allowed.
type Policy struct {
	Devices, OSImages     []common.Hash
	Owner, Implementation *common.Address
	CodeHash              *common.Hash // of the code that runs: the implementation's, where the contract is a proxy
}

// Accept is a difference that the operator lives with until a day.
type Accept struct {
	Chain    string
	Contract common.Address
	List     List   // empty for kinds about the contract as a whole
	ID       string // as a report spells it; empty where List is, and for NoHash
	Kind     Kind   // one that is Acceptable
	Reason   string
	Expires  time.Time
}

// Baselines remembers who controlled contracts when that was first seen, or last accepted by the operator.
type Baselines interface {
	Baseline(contract common.Address) (Baseline, bool)
	// Begin keeps what is seen for the first time.
	Begin(contract common.Address, b Baseline) error
}

// Baseline is the control over a contract that is taken for right.
type Baseline struct {
	Control  Control   `json:"control"`
	Since    time.Time `json:"since"`
	Accepted bool      `json:"accepted"` // by the operator; false: first seen
}
