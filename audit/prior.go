package audit

import (
	"time"

	"github.com/ethereum/go-ethereum/common"
)

// Prior is what is remembered of one chain. The zero value remembers nothing.
type Prior struct {
	Blocks    []AuditedBlock  `json:"blocks,omitempty"` // the highest of each tag
	Contracts []Known         `json:"contracts,omitempty"`
	Open      []OpenFinding   `json:"open,omitempty"` // the oldest first
	Pending   []PendingChange `json:"pending,omitempty"`
	Finalized *BeaconRoot     `json:"finalized,omitempty"` // the newest that was verified; of L1, where that holds the chain's blocks
	L1        []L1Block       `json:"l1,omitempty"`        // the earliest audited first: what L1 has not anchored yet, and the newest that it has
}

// VerifiedFrom returns the root from which a light client goes on that a checkpoint is configured for; the zero hash: the
// checkpoint itself. What was verified from another one, which the operator replaced, does not count.
func (p *Prior) VerifiedFrom(checkpoint common.Hash) common.Hash {
	if !p.Finalized.from(checkpoint) {
		return common.Hash{}
	}
	return p.Finalized.Root
}

// AuditedBlock is the highest block that was audited by a tag.
type AuditedBlock struct {
	Tag    string    `json:"tag"`
	Number uint64    `json:"number"`
	At     time.Time `json:"at,omitzero"` // when; zero: not known
}

// Follows reports whether the block is not older than one of a number that an audit read at a time. A number alone can be
// invented. A block that somebody beside the providers vouches for, and that was made after the audit, is newer all the same.
func (b *Block) Follows(number uint64, at time.Time) bool {
	return b.Number >= number || !at.IsZero() && b.vouchedAfter(at)
}

// vouchedAfter reports whether somebody beside the providers vouches for the block, and it was made after a time.
func (b *Block) vouchedAfter(at time.Time) bool {
	return TrustProviders.weakerThan(b.Trust) && b.Time.After(at)
}

// Known is a contract that an earlier audit read. It is audited until the operator forgets it.
type Known struct {
	Address  common.Address `json:"address"`
	Since    time.Time      `json:"since"`
	Devices  []common.Hash  `json:"devices,omitempty"` // that anybody ever named, sorted
	OSImages []common.Hash  `json:"os_images,omitempty"`
	MRs      []common.Hash  `json:"aggregated_mrs,omitempty"`
	Baseline *Baseline      `json:"baseline,omitempty"`
}

// IDs returns the ids of a list.
func (k *Known) IDs(l List) *[]common.Hash {
	return map[List]*[]common.Hash{Device: &k.Devices, OSImage: &k.OSImages, AggregatedMR: &k.MRs}[l]
}

// Baseline is the control over a contract that counts as right.
type Baseline struct {
	Control  Control   `json:"control"`
	Since    time.Time `json:"since"`
	Accepted bool      `json:"accepted"` // by the operator; false: first seen
}

// OpenFinding is a finding that no audit has found right since it was opened. Times are UTC.
type OpenFinding struct {
	Contract  string    `json:"contract"` // EIP-55
	Finding   Finding   `json:"finding"`
	Block     uint64    `json:"block,omitempty"`     // the newest at which it was confirmed; 0: no block was read
	Assurance Assurance `json:"assurance,omitempty"` // the best of the readings that confirmed it
	Trust     Trust     `json:"trust,omitempty"`     // the best of the blocks at which it was confirmed
	Logged    time.Time `json:"logged"`              // the last finding_opened or finding_open
}

// PendingChange is a difference at the pinned block that the head does not have.
type PendingChange struct {
	Contract common.Address `json:"contract"`
	List     List           `json:"list,omitempty"` // empty: the contract's code
	ID       common.Hash    `json:"id"`
	Since    time.Time      `json:"since"`
}

// lastConfirmed is when an audit last saw the finding; zero: not known.
func (o *OpenFinding) lastConfirmed() time.Time {
	if o.Finding.LastConfirmedAt == nil {
		return time.Time{}
	}
	return *o.Finding.LastConfirmedAt
}

// Contract returns what earlier audits know of a contract, or nil.
func (p *Prior) Contract(a common.Address) *Known {
	return find(p.Contracts, func(k *Known) bool { return k.Address == a })
}

// findingKey names a finding.
type findingKey struct {
	contract string
	kind     Kind
	list     List
	id       string
}

func (o *OpenFinding) key() findingKey {
	return findingKey{o.Contract, o.Finding.Kind, o.Finding.List, o.Finding.ID}
}
