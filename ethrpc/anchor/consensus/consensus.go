// Package consensus is a light client of Ethereum's proof of stake. It starts from the root of a block that the operator trusts,
// follows the sync committees, each of which signs the next one, and verifies the last finalized block.
//
//	Bootstrap(checkpoint) → Update, one each period (a day) → Finality, whenever the latest block is wanted
//
// The rules are those of github.com/ethereum/consensus-specs, specs/altair/light-client/sync-protocol.md with its changes up
// to fulu, without optimistic headers and forced updates, which are not final. The package does no I/O: documents and the
// time are passed in. It trusts two thirds of the 512 validators of a sync committee.
package consensus

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

const (
	// MaxCheckpointAge is the maximum age of the last known block. Validators that have exited since could sign another history
	// at no cost (weak subjectivity).
	MaxCheckpointAge = 14 * 24 * time.Hour

	// MaxClockSkew is how far the local clock may be behind the signers' clocks.
	MaxClockSkew = 2 * time.Second
)

var (
	// ErrTooOld reports a checkpoint, or a Store, that is older than MaxCheckpointAge.
	ErrTooOld = errors.New("set a new checkpoint: the root of a block that was finalized today, from a source that you trust, such as your own node or two explorers")

	// ErrUnknownFork reports a fork that this release does not know, from the network's schedule or from a document.
	ErrUnknownFork = errors.New("this release does not support that fork: upgrade kms-auditor")

	// ErrOlder reports a document that is older than the Store. It passed the checks that were made.
	ErrOlder = errors.New("it is older than the known state")
)

// Header is a beacon block with its execution block.
type Header struct {
	Slot        uint64
	Root        common.Hash // of the beacon block
	BlockNumber uint64      // this and the following fields are of the execution block
	BlockHash   common.Hash
	ParentHash  common.Hash
	StateRoot   common.Hash
	Timestamp   uint64 // Unix seconds
}

// Store is the state of a light client (LightClientStore). It can be copied by value. It is not safe for concurrent use.
type Store struct {
	network   *Network
	finalized Header
	attested  Header // newest signed header; zero before the first update
	current   *committee
	next      *committee // nil if not known yet
}

// Bootstrap returns a Store that starts at a checkpoint: the root of a finalized beacon block that the caller trusts. The document
// is the answer of /eth/v1/beacon/light_client/bootstrap/{checkpoint}.
func Bootstrap(network Network, checkpoint common.Hash, document []byte, now time.Time) (*Store, error) {
	network.Forks = slices.Clone(network.Forks)
	s := &Store{network: &network}
	if err := s.bootstrap(checkpoint, document, now); err != nil {
		return nil, fmt.Errorf("verifying the bootstrap of checkpoint %s: %w", checkpoint, err)
	}
	return s, nil
}

func (s *Store) bootstrap(checkpoint common.Hash, document []byte, now time.Time) error {
	if err := s.network.check(); err != nil {
		return err
	}
	var b bootstrap
	version, err := decode(document, &b)
	if err != nil {
		return err
	}
	slot := uint64(b.Header.Beacon.Slot)
	if root := b.Header.Beacon.root(); root != checkpoint {
		return fmt.Errorf("it is of another block, %s", root)
	}
	if err := s.checkSlot("the block", slot, now); err != nil {
		return err
	}
	if err := s.checkAge(slot, now); err != nil {
		return err
	}
	at, err := s.checkVersion(version, slot)
	if err != nil {
		return err
	}
	if s.finalized, err = s.network.checkHeader(&b.Header); err != nil {
		return err
	}
	if err := s.network.checkCommittee("current", &b.CurrentSyncCommittee, b.CurrentSyncCommitteeBranch, at.currentCommittee, b.Header.Beacon.StateRoot); err != nil {
		return err
	}
	s.current, err = newCommittee(&b.CurrentSyncCommittee)
	return err
}

// Finalized returns the last known finalized block.
func (s *Store) Finalized() Header { return s.finalized }

// Attested returns the newest block that a sync committee signed. It is not final and may be reorganised. Before the first update
// it is the zero Header.
func (s *Store) Attested() Header { return s.attested }

// Period returns the sync-committee period of the last known finalized block.
func (s *Store) Period() uint64 { return s.network.period(s.finalized.Slot) }

// NextPeriod returns the period whose update to fetch (start_period), or false if none is needed. Until that update is applied, a
// finality update signed in a later period cannot be verified. At the beginning of a period its update may not exist yet. Update
// then returns ErrOlder or changes nothing; try again later.
func (s *Store) NextPeriod(now time.Time) (uint64, bool) {
	known := s.Period()
	slot, _ := s.network.slotAt(now)
	switch {
	case s.next == nil:
		return known, true
	case s.network.period(slot) > known+1:
		return known + 1, true
	}
	return 0, false
}

// Update applies the update of one period, an element of the answer of /eth/v1/beacon/light_client/updates (SplitUpdates). On
// error the Store is unchanged.
func (s *Store) Update(document []byte, now time.Time) error {
	var u update
	version, err := decode(document, &u)
	if err == nil {
		err = s.apply(version, &u.finalityUpdate, &u.nextCommittee, now)
	}
	if err != nil {
		return fmt.Errorf("verifying a light client update: %w", err)
	}
	return nil
}

// Finality applies the answer of /eth/v1/beacon/light_client/finality_update. An update with the known block is not an error. On
// error the Store is unchanged.
func (s *Store) Finality(document []byte, now time.Time) error {
	var u finalityUpdate
	version, err := decode(document, &u)
	if err == nil {
		err = s.apply(version, &u, nil, now)
	}
	if err != nil {
		return fmt.Errorf("verifying a finality update: %w", err)
	}
	return nil
}

func (s *Store) apply(version string, u *finalityUpdate, next *nextCommittee, now time.Time) error {
	if err := s.checkAge(s.finalized.Slot, now); err != nil {
		return err
	}
	attested, err := s.checkAttested(version, u, next, now)
	if err != nil {
		return err
	}
	finalized, err := s.checkFinalized(u)
	if err != nil {
		return err
	}
	if err := s.checkSignature(u); err != nil {
		return err
	}
	if err := s.advance(finalized, next); err != nil {
		return err
	}
	if attested.Slot > s.attested.Slot {
		s.attested = attested
	}
	return nil
}

// checkAttested checks the attested header and, unless next is nil, the next sync committee in its state. It checks neither the
// finalized header nor the signature.
func (s *Store) checkAttested(version string, u *finalityUpdate, next *nextCommittee, now time.Time) (out Header, err error) {
	n, signed, attested := s.network, uint64(u.SignatureSlot), uint64(u.AttestedHeader.Beacon.Slot)
	if err := s.checkSlot("the signature", signed, now); err != nil {
		return out, err
	}
	if attested >= signed {
		return out, fmt.Errorf("the attested block of slot %d is not older than its signature of slot %d", attested, signed)
	}
	if _, err := s.signers(signed); err != nil {
		return out, err
	}
	at, err := s.checkVersion(version, attested)
	if err != nil {
		return out, err
	}
	if out, err = n.checkHeader(&u.AttestedHeader); err != nil || next == nil {
		return out, err
	}
	if err := n.checkCommittee("next", &next.NextSyncCommittee, next.NextSyncCommitteeBranch, at.nextCommittee, u.AttestedHeader.Beacon.StateRoot); err != nil {
		return out, err
	}
	if s.next != nil && n.period(attested) == s.Period() && next.NextSyncCommittee.root() != s.next.root {
		return out, fmt.Errorf("the next sync committee of period %d differs from the one that was proven before", s.Period())
	}
	return out, nil
}

// checkFinalized checks that the finalized header is the one in the state of the attested block.
func (s *Store) checkFinalized(u *finalityUpdate) (Header, error) {
	attested := &u.AttestedHeader.Beacon
	if u.FinalizedHeader.Beacon.Slot > attested.Slot {
		return Header{}, fmt.Errorf("the finalized block of slot %d is newer than the attested one of slot %d", u.FinalizedHeader.Beacon.Slot, attested.Slot)
	}
	_, at, err := s.network.forkAt(uint64(attested.Slot))
	if err != nil {
		return Header{}, err
	}
	if !proves(u.FinalityBranch, u.FinalizedHeader.Beacon.root(), at.finalizedRoot, attested.StateRoot) {
		return Header{}, errors.New("the finalized header is not proven by the attested state")
	}
	return s.network.checkHeader(&u.FinalizedHeader)
}

// checkSignature checks that the committee of the signature's period signed the attested header. The signing domain is that of the
// fork at the slot before the signature's.
func (s *Store) checkSignature(u *finalityUpdate) error {
	signers, err := s.signers(uint64(u.SignatureSlot))
	if err != nil {
		return err
	}
	fork, _, err := s.network.forkAt(max(uint64(u.SignatureSlot), 1) - 1)
	if err != nil {
		return err
	}
	root := signingRoot(u.AttestedHeader.Beacon.root(), fork.Version, s.network.GenesisValidatorsRoot)
	return signers.verify(u.SyncAggregate.Bits, &u.SyncAggregate.Signature, root)
}

// advance applies a verified update.
func (s *Store) advance(finalized Header, next *nextCommittee) error {
	known, period := s.Period(), s.network.period(finalized.Slot)
	supplies := next != nil && (period == known && s.next == nil || period > known)
	switch {
	case finalized.Slot == s.finalized.Slot && finalized.Root != s.finalized.Root:
		return fmt.Errorf("it finalizes %s at slot %d, but %s is final there", finalized.Root, finalized.Slot, s.finalized.Root)
	case finalized.Slot < s.finalized.Slot && !supplies:
		return fmt.Errorf("it finalizes slot %d, but slot %d is already final: %w", finalized.Slot, s.finalized.Slot, ErrOlder)
	}
	var supplied *committee
	if supplies {
		var err error
		if supplied, err = newCommittee(&next.NextSyncCommittee); err != nil {
			return err
		}
	}
	switch {
	case period > known: // by one, because the next committee signed
		s.current, s.next = s.next, supplied
	case supplies:
		s.next = supplied
	}
	if finalized.Slot > s.finalized.Slot {
		s.finalized = finalized
	}
	return nil
}

// signers returns the committee that signs at a slot.
func (s *Store) signers(slot uint64) (*committee, error) {
	switch period, known := s.network.period(slot), s.Period(); {
	case period == known:
		return s.current, nil
	case period == known+1 && s.next != nil:
		return s.next, nil
	case period < known:
		return nil, fmt.Errorf("it was signed in period %d, before the known period %d: %w", period, known, ErrOlder)
	default:
		return nil, fmt.Errorf("it was signed in period %d, but the committees are known only up to period %d: an update is missing", period, s.lastKnown())
	}
}

// lastKnown returns the last period whose committee is known.
func (s *Store) lastKnown() uint64 {
	if s.next != nil {
		return s.Period() + 1
	}
	return s.Period()
}

// checkVersion checks a document's version against the fork of a slot, and returns the fork's generalized indices.
func (s *Store) checkVersion(version string, slot uint64) (indices, error) {
	fork, at, err := s.network.forkAt(slot)
	if err == nil && version != fork.Name {
		err = fmt.Errorf("its version is %s, but slot %d is of fork %s", sanitize.Quote(version), slot, fork.Name)
	}
	return at, err
}

// checkSlot returns an error if a slot is in the future.
func (s *Store) checkSlot(what string, slot uint64, now time.Time) error {
	if last, begun := s.network.slotAt(now.Add(MaxClockSkew)); !begun || slot > last {
		return fmt.Errorf("%s of slot %d is in the future, the local clock is at slot %d: check the clock", what, slot, last)
	}
	return nil
}

// checkAge returns ErrTooOld if a block, which must not be in the future, is older than MaxCheckpointAge.
func (s *Store) checkAge(slot uint64, now time.Time) error {
	began := time.Unix(int64(s.network.timeOf(slot)), 0)
	if now.Sub(began) > MaxCheckpointAge {
		return fmt.Errorf("the last known block, of slot %d, is of %s, more than %d days ago: %w", slot, began.UTC().Format(time.DateOnly), MaxCheckpointAge/(24*time.Hour), ErrTooOld)
	}
	return nil
}
