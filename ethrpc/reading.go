package ethrpc

import (
	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// ReadOptions change how a Read works.
type ReadOptions struct {
	// AllowPartial leaves out the answers of a contract that stores more than its Query explains, rather than prove
	// each: more is to be asked. The Reading is marked as Partial.
	AllowPartial bool
	// NoCache is for a question beside those that are asked time and again: what it proves is not kept.
	NoCache bool
	// First is the provider to ask first; empty: the one that pinned.
	First string
}

// State is what a Read found at one block.
type State struct {
	Readings []Reading       // one for each Query, in their order
	Failed   []ProviderError // providers that failed for the block as a whole
	Agreed   int             // providers that say the same of the block's hash

	verified *proof.VerifiedState
	accounts map[common.Address]bool // that the proven Readings rest on
}

// Reading is of one contract and stands alone: what is wrong with another contract does not change it.
type Reading struct {
	Contract          common.Address
	Provider          string // whose answers these are
	Err               error  // nothing was read; HasCode is not known
	HasCode           bool
	Devices, OSImages map[common.Hash]Answer // one for each id of the Query; none where Partial left it out
	Control           Control                // zero where not asked for, or without code
	Proven            bool                   // all answers, against the state root
	Unproven          error                  // why they are not; nil with VerifyOff
	Agreed            int                    // providers that say the same of these answers; proven: of the block's hash
	Storage           *Storage               // nil where nothing is proven, or the account does not exist
	Partial           bool                   // answers were left out
	Failed            []ProviderError        // providers that failed, or lied, for this contract alone
}

// Storage is what was proven of a contract's storage as a whole.
type Storage struct {
	Root, CodeHash common.Hash
	Slots          int  // in use and explained: a getter reads them, or they were named
	Complete       bool // they are all that the contract stores
}

// newReading has room for the answers to a Query.
func newReading(q *Query) Reading {
	r := Reading{Contract: q.Contract}
	if !q.CodeOnly {
		r.Devices, r.OSImages = make(map[common.Hash]Answer, len(q.Devices)), make(map[common.Hash]Answer, len(q.OSImages))
	}
	return r
}

// answers are those of a list's getter.
func (r *Reading) answers(getter string) map[common.Hash]Answer {
	if getter == kms.AllowedDevice {
		return r.Devices
	}
	return r.OSImages
}

func (r *Reading) answer(c kms.Call) Answer       { return r.answers(c.Getter)[c.ID] }
func (r *Reading) setAnswer(c kms.Call, a Answer) { r.answers(c.Getter)[c.ID] = a }
