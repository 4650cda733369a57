// Package getters answers a Query about one contract by running its own getters over proven state, and accounts for everything
// that the contract stores. It does no I/O: a Run reports what is missing, and the caller fetches that and calls Step again.
package getters

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
)

// Reading is what was read from one contract.
type Reading struct {
	Contract          common.Address
	HasCode           bool
	Devices, OSImages map[common.Hash]kms.Answer // one for each id of the Query, unless Partial left it out
	AggregatedMRs     map[common.Hash]kms.Answer // likewise
	Control           kms.Control                // zero if not asked for, or without code
	Refused           error                      // a getter writes or asks for more than the state holds; it explains nothing
	Storage           *Storage                   // nil if nothing is proven or the account does not exist
	Unaccounted       []common.Address           // other accounts that the allowlists' getters read, and that store more than is explained; sorted
	Partial           bool                       // answers, or slots that older implementations explain, were left out
	Sequenced         bool                       // the contract counts, or counted, the apps of each caller (May and June 2025)
	Registered        int                        // apps that the Query's Callers registered by that count; 0 if Storage is Complete
	Counted           int                        // the Query's apps that were registered while the contract counted; 0 if Storage is Complete
}

// Storage is what was proven about a contract's storage as a whole.
type Storage struct {
	Root, CodeHash common.Hash
	Slots          int  // slots in use that are explained: a getter reads them, or the Query names them
	Complete       bool // the contract stores nothing else
}

// NewReading returns a Reading with empty maps for the answers to a Query.
func NewReading(q *kms.Query) Reading {
	r := Reading{Contract: q.Contract}
	if !q.CodeOnly {
		r.Devices, r.OSImages = make(map[common.Hash]kms.Answer, len(q.Devices)), make(map[common.Hash]kms.Answer, len(q.OSImages))
		r.AggregatedMRs = make(map[common.Hash]kms.Answer, len(q.AggregatedMRs))
	}
	return r
}

// answers returns the answers of an allowlist's getter.
func (r *Reading) answers(getter string) map[common.Hash]kms.Answer {
	switch getter {
	case kms.AllowedDevice:
		return r.Devices
	case kms.AllowedOSImage:
		return r.OSImages
	}
	return r.AggregatedMRs
}

func (r *Reading) answer(c kms.Call) kms.Answer { return r.answers(c.Getter)[c.ID] }

// SetAnswer records the answer of an allowlist's getter.
func (r *Reading) SetAnswer(c kms.Call, a kms.Answer) { r.answers(c.Getter)[c.ID] = a }

// Differences describes up to three answers that differ between two Readings, or returns "".
func (r *Reading) Differences(o *Reading) string {
	var differ []string
	for _, getter := range []string{kms.AllowedDevice, kms.AllowedOSImage, kms.AllowedAggregatedMR} {
		theirs := o.answers(getter)
		for id, a := range r.answers(getter) {
			if b := theirs[id]; a.Allowed != b.Allowed || (a.Err == nil) != (b.Err == nil) {
				differ = append(differ, fmt.Sprintf("%s(%s) is %s vs. %s", getter, id, a, b))
			}
		}
	}
	slices.Sort(differ)
	if !r.Control.Equal(&o.Control) {
		differ = append(differ, fmt.Sprintf("%s has %s vs. %s", r.Contract, &r.Control, &o.Control))
	}
	if r.HasCode != o.HasCode {
		differ = append(differ, fmt.Sprintf("%s has code: %t vs. %t", r.Contract, r.HasCode, o.HasCode))
	}
	return strings.Join(differ[:min(len(differ), 3)], "; ")
}
