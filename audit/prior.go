package audit

import (
	"time"

	"github.com/ethereum/go-ethereum/common"
)

// Prior is what earlier audits remember about one chain. The zero value remembers nothing.
type Prior struct {
	Blocks    []AuditedBlock  `json:"blocks,omitempty"` // the highest block of each tag
	Contracts []Known         `json:"contracts,omitempty"`
	Open      []OpenFinding   `json:"open,omitempty"` // oldest first
	Pending   []PendingChange `json:"pending,omitempty"`
	Finalized *BeaconRoot     `json:"finalized,omitempty"` // the newest verified beacon block (L1's, if L1 confirms the chain's blocks)
	L1        []L1Block       `json:"l1,omitempty"`        // earliest audited first: blocks that L1 has not anchored yet, and the newest that it has
}

// VerifiedFrom returns the root from which a light client with this checkpoint resumes, or the zero hash to start at the
// checkpoint. A root that was verified from another checkpoint does not count.
func (p *Prior) VerifiedFrom(checkpoint common.Hash) common.Hash {
	if !p.Finalized.from(checkpoint) {
		return common.Hash{}
	}
	return p.Finalized.Root
}

// AuditedBlock is the highest block that was audited with a tag.
type AuditedBlock struct {
	Tag    string    `json:"tag"`
	Number uint64    `json:"number"`
	At     time.Time `json:"at,omitzero"` // when it was audited; zero if not known
}

// Follows reports whether the block is not older than the block with the given number that an audit read at the given time. A
// provider can invent a number, so a block counts as newer, whatever its number, if the anchor or L1 vouches for it and it was
// made after that audit.
func (b *Block) Follows(number uint64, at time.Time) bool {
	return b.Number >= number || !at.IsZero() && b.vouchedAfter(at)
}

// vouchedAfter reports whether the anchor or L1 vouches for the block, and it was made after at.
func (b *Block) vouchedAfter(at time.Time) bool {
	return TrustProviders.weakerThan(b.Trust) && b.Time.After(at)
}

// Known is a contract that an earlier audit read. It is audited until the operator forgets it.
type Known struct {
	Address  common.Address `json:"address"`
	Since    time.Time      `json:"since"`
	Devices  []common.Hash  `json:"devices,omitempty"` // every id that any source ever named, sorted
	OSImages []common.Hash  `json:"os_images,omitempty"`
	MRs      []common.Hash  `json:"aggregated_mrs,omitempty"`
	Baseline *Baseline      `json:"baseline,omitempty"`
}

// IDs returns the ids of a list.
func (k *Known) IDs(l List) *[]common.Hash {
	return map[List]*[]common.Hash{Device: &k.Devices, OSImage: &k.OSImages, AggregatedMR: &k.MRs}[l]
}

// Baseline is the control over a contract that counts as correct.
type Baseline struct {
	Control  Control   `json:"control"`
	Since    time.Time `json:"since"`
	Accepted bool      `json:"accepted"` // by the operator; false if it was recorded when first seen
}

// OpenFinding is a finding that has not been resolved. Times are UTC.
type OpenFinding struct {
	Contract  string    `json:"contract"` // EIP-55
	Finding   Finding   `json:"finding"`
	Block     uint64    `json:"block,omitempty"`     // the newest at which it was confirmed; 0 if no block was read
	Assurance Assurance `json:"assurance,omitempty"` // the strongest of the readings that confirmed it
	Trust     Trust     `json:"trust,omitempty"`     // the strongest of the blocks at which it was confirmed
	Logged    time.Time `json:"logged"`              // time of the last finding_opened or finding_open
}

// PendingChange is a difference at the pinned block that is gone at the head.
type PendingChange struct {
	Contract common.Address `json:"contract"`
	List     List           `json:"list,omitempty"` // empty if it is about the contract's code
	ID       common.Hash    `json:"id"`
	Since    time.Time      `json:"since"`
}

// lastConfirmed returns when an audit last saw the finding, or zero if not known.
func (o *OpenFinding) lastConfirmed() time.Time {
	if o.Finding.LastConfirmedAt == nil {
		return time.Time{}
	}
	return *o.Finding.LastConfirmedAt
}

// Contract returns what earlier audits know about a contract, or nil.
func (p *Prior) Contract(a common.Address) *Known {
	return find(p.Contracts, func(k *Known) bool { return k.Address == a })
}

// findingKey identifies a finding within a chain.
type findingKey struct {
	contract string
	kind     Kind
	list     List
	id       string
}

func (o *OpenFinding) key() findingKey {
	return findingKey{o.Contract, o.Finding.Kind, o.Finding.List, o.Finding.ID}
}
