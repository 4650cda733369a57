package audit

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit/control"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// Looks are the observations of one chain that an audit judges together.
type Looks struct {
	First       Observation  `json:"first"`
	Second      *Observation `json:"second,omitempty"`      // after the confirm delay; nil if nothing new was wrong or the audit was interrupted
	Head        *Observation `json:"head,omitempty"`        // at the newest block, for what differs at the pinned one; nil if not needed
	Interrupted string       `json:"interrupted,omitempty"` // why there is no second look
}

// All lists the looks that were made.
func (l *Looks) All() []*Observation {
	return slices.DeleteFunc([]*Observation{&l.First, l.Second, l.Head}, func(o *Observation) bool { return o == nil })
}

// Observation is what one look at one chain saw.
type Observation struct {
	At            time.Time   `json:"at"`                  // when the look began, UTC
	Tag           string      `json:"tag,omitempty"`       // the block policy used; empty if no block was pinned
	Block         *Block      `json:"block,omitempty"`     // the pinned block; nil if none could be pinned
	Head          *Block      `json:"head,omitempty"`      // the provider's newest block; unverified
	Anchored      *Anchored   `json:"anchored,omitempty"`  // the newest block that the anchor vouches for, or nil
	Finalized     *BeaconRoot `json:"finalized,omitempty"` // the newest beacon block that is verified to be final, or nil
	L1            *L1Look     `json:"l1,omitempty"`        // what L1 says about audited blocks; nil if not read
	Provider      string      `json:"provider,omitempty"`
	Claim         *APIClaim   `json:"-"`                        // nil if the API was not read
	ChainUnknown  bool        `json:"chain_unknown,omitempty"`  // the API does not know the chain
	Listing       []ListedKMS `json:"-"`                        // the chain's part of the API's list of KMS
	ListingFailed bool        `json:"listing_failed,omitempty"` // the list was requested and could not be read
	Readings      []Reading   `json:"readings,omitempty"`       // at most one per contract
	Failures      []Failure   `json:"failures,omitempty"`
}

// BeaconRoot is a finalized block of the beacon chain.
type BeaconRoot struct {
	Slot       uint64      `json:"slot"`
	Root       common.Hash `json:"root"`
	Checkpoint common.Hash `json:"checkpoint,omitzero"` // configured when it was verified; zero if not known
}

// from reports whether the block was, or may have been, verified from a checkpoint.
func (b *BeaconRoot) from(checkpoint common.Hash) bool {
	return b != nil && (b.Checkpoint == (common.Hash{}) || b.Checkpoint == checkpoint)
}

// Failure is a failure of a source, or a lie that a source was caught in.
type Failure struct {
	SourceError
	Contract *common.Address `json:"contract,omitempty"` // nil if it concerns the whole chain
	Kind     Kind            `json:"kind,omitempty"`     // of the finding that it makes; empty if it makes none
	Finding  string          `json:"finding,omitempty"`  // the finding's message
}

// APIClaim is what the API says about a chain.
type APIClaim struct {
	Claim
	ChainID   uint64
	Contracts []ClaimedContract
}

// ClaimedContract is one row of the API's contracts. A contract may have several rows.
type ClaimedContract struct {
	Address              common.Address
	ChainID              uint64
	K256Pubkey, CAPubkey string // hex as the API spells it; empty if not given
	Entries              []ClaimedEntry
}

// ClaimedEntry is one row of a list. NewClaimedEntry makes one.
type ClaimedEntry struct {
	List              List
	ID, Name, Version string     // as in a report
	State             ClaimState // allowed, denied or unknown

	id   common.Hash
	kind Kind // what is wrong with the id, if anything
}

// NewClaimedEntry converts a row of the API. The id may be malformed. An image's id is empty if the API gives no hash.
func NewClaimedEntry(list List, id, name, version string, state ClaimState) ClaimedEntry {
	e := ClaimedEntry{List: list, Name: sanitize.Plain(name), Version: sanitize.Plain(version), State: state}
	var err error
	switch e.id, err = sanitize.ParseID(id); {
	case err == nil:
		e.ID = e.id.Hex()
	case list == OSImage && id == "":
		e.kind = NoHash
	default:
		e.ID, e.kind = sanitize.Quote(id), MalformedID
	}
	return e
}

// Compare orders rows by list, name, version, id and state. Sorted rows are judged faster.
func (a *ClaimedEntry) Compare(b *ClaimedEntry) int {
	return cmp.Or(cmp.Compare(a.List, b.List), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version),
		cmp.Compare(a.ID, b.ID), cmp.Compare(a.State, b.State))
}

// ListedKMS is one KMS of the API's list. Texts that the API does not give are empty.
type ListedKMS struct {
	ID                                 string
	Contract                           common.Address
	K256Pubkey, CAPubkey, GatewayAppID string
}

// Reading is what one contract said at the observation's block.
type Reading struct {
	Contract  common.Address `json:"contract"`
	Provider  string         `json:"provider,omitempty"`
	Err       string         `json:"error,omitempty"` // why nothing was read
	HasCode   bool           `json:"has_code"`
	Assurance Assurance      `json:"assurance,omitempty"` // of everything that was read
	Answers   []Answer       `json:"answers,omitempty"`   // at most one per id
	Control   Controls       `json:"control"`
	Storage   *Storage       `json:"storage,omitempty"` // nil if not proven
	Complete  bool           `json:"complete"`          // the contract stores nothing beyond Storage.Slots
	Refused   string         `json:"refused,omitempty"` // why a getter accounts for no storage: it writes, or reads too much
	Events    *EventScan     `json:"events,omitempty"`  // nil if events were not needed or not searched
	Changes   []ListChange   `json:"changes,omitempty"` // the last event of an id; display only

	Unaccounted []common.Address `json:"unaccounted,omitempty"` // other accounts that the lists' getters read and that have unaccounted storage
}

// Answer is what a contract said about one id of a list.
type Answer struct {
	List    List        `json:"list"`
	ID      common.Hash `json:"id"`
	Allowed bool        `json:"allowed"`
	Err     string      `json:"error,omitempty"` // why the contract gave no answer
}

// Controls is what a look read about who controls a contract, field by field.
type Controls = control.Reading

// Field is one field of Controls.
type Field = control.Field

// EventScan is the result of searching events for ids that the API does not list.
type EventScan struct {
	Read bool   `json:"read"`            // events were read up to the pinned block, and the contract was asked about the ids in them
	Err  string `json:"error,omitempty"` // why not

	// PublicErr is why the events that anybody can emit were not all read. They contain no id of a list.
	PublicErr string `json:"public_error,omitempty"`
}

// ListChange is the last event of an id.
type ListChange struct {
	List List        `json:"list"`
	ID   common.Hash `json:"id"`
	Changed
}

// Reading returns the reading of a contract, or nil.
func (o *Observation) Reading(contract common.Address) *Reading {
	if o == nil {
		return nil
	}
	return find(o.Readings, func(r *Reading) bool { return r.Contract == contract })
}

// find returns the first of a list that matches, or nil.
func find[T any](all []T, matches func(*T) bool) *T {
	for i := range all {
		if matches(&all[i]) {
			return &all[i]
		}
	}
	return nil
}

// rightChain reports whether there is a claim about the configured chain.
func (o *Observation) rightChain(chainID uint64) bool {
	return o.Claim != nil && o.Claim.ChainID == chainID
}

// read reports whether the contract was read.
func (r *Reading) read() bool { return r != nil && r.Err == "" }

// asked yields the ids of a list that the contract was asked about.
func (r *Reading) asked(l List) iter.Seq[common.Hash] {
	return func(yield func(common.Hash) bool) {
		for i := range r.Answers {
			if a := &r.Answers[i]; a.List == l && !yield(a.ID) {
				return
			}
		}
	}
}

// sample returns the first answer about a list and the first failure to answer. Either may be nil.
func (r *Reading) sample(l List) (answered, unread *Answer) {
	return find(r.Answers, func(a *Answer) bool { return a.List == l && a.Err == "" }),
		find(r.Answers, func(a *Answer) bool { return a.List == l && a.Err != "" })
}

// listID is the key of an entry within a contract.
type listID struct {
	list List
	id   common.Hash
}
