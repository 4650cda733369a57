// Package getters answers a Query about one contract by running its own getters over proven state, and accounts for
// everything that the contract stores. It asks nobody: a Run says what it misses, and whoever fetches that calls Step again.
package getters

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
)

// Reading is what is known of one contract.
type Reading struct {
	Contract          common.Address
	HasCode           bool
	Devices, OSImages map[common.Hash]kms.Answer // one for each id of the Query; none where Partial left it out
	AggregatedMRs     map[common.Hash]kms.Answer // the same
	Control           kms.Control                // zero where not asked for, or without code
	Refused           error                      // a getter that writes, or asks for more than the state holds: it accounts for nothing
	Storage           *Storage                   // nil where nothing is proven, or the account does not exist
	Unaccounted       []common.Address           // further accounts whose storage the lists' getters read, and which store more than is accounted for; sorted
	Partial           bool                       // answers were left out, or what older implementations explain
	Sequenced         bool                       // whoever registers apps is, or was, counted, which accounts for storage (May and June 2025)
	Registered        int                        // how many apps the Query's Callers registered by that count; 0 where Storage is Complete
	Counted           int                        // how many of the Query's apps were registered while that was counted; likewise
}

// Storage is what was proven of a contract's storage as a whole.
type Storage struct {
	Root, CodeHash common.Hash
	Slots          int  // in use and explained: a getter reads them, or they were named
	Complete       bool // they are all that the contract stores
}

// NewReading has room for the answers to a Query.
func NewReading(q *kms.Query) Reading {
	r := Reading{Contract: q.Contract}
	if !q.CodeOnly {
		r.Devices, r.OSImages = make(map[common.Hash]kms.Answer, len(q.Devices)), make(map[common.Hash]kms.Answer, len(q.OSImages))
		r.AggregatedMRs = make(map[common.Hash]kms.Answer, len(q.AggregatedMRs))
	}
	return r
}

// answers are those of a list's getter.
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

// SetAnswer notes what a getter of a list answers.
func (r *Reading) SetAnswer(c kms.Call, a kms.Answer) { r.answers(c.Getter)[c.ID] = a }

// Differences lists what another reading answers differently, or is empty.
func (r *Reading) Differences(o *Reading) string {
	var differ []string
	for _, getter := range []string{kms.AllowedDevice, kms.AllowedOSImage, kms.AllowedAggregatedMR} {
		theirs := o.answers(getter)
		for id, a := range r.answers(getter) {
			if b := theirs[id]; a.Allowed != b.Allowed || (a.Err == nil) != (b.Err == nil) {
				differ = append(differ, fmt.Sprintf("%s(%s) is %s, or %s", getter, id, a, b))
			}
		}
	}
	slices.Sort(differ)
	if !r.Control.Equal(&o.Control) {
		differ = append(differ, fmt.Sprintf("%s is %s, or %s", r.Contract, &r.Control, &o.Control))
	}
	if r.HasCode != o.HasCode {
		differ = append(differ, fmt.Sprintf("%s has code: %t, or %t", r.Contract, r.HasCode, o.HasCode))
	}
	return strings.Join(differ[:min(len(differ), 3)], "; ")
}
