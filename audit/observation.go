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
	Second      *Observation `json:"second,omitempty"`      // after the confirm delay; nil if nothing new was wrong, or if Interrupted
	Head        *Observation `json:"head,omitempty"`        // the newest block, for what differs at the pinned one; nil: not asked
	Interrupted string       `json:"interrupted,omitempty"` // why there is no second look
}

// All lists the looks that there are.
func (l *Looks) All() []*Observation {
	return slices.DeleteFunc([]*Observation{&l.First, l.Second, l.Head}, func(o *Observation) bool { return o == nil })
}

// Observation is what one look at one chain saw. It is a plain value.
type Observation struct {
	At            time.Time   `json:"at"`                  // when the look began, UTC
	Tag           string      `json:"tag,omitempty"`       // the block policy used; empty: no block was pinned
	Block         *Block      `json:"block,omitempty"`     // the pinned block; nil: none could be pinned
	Head          *Block      `json:"head,omitempty"`      // the provider's newest block; unverified
	Anchored      *Anchored   `json:"anchored,omitempty"`  // the newest block that the anchor vouches for; nil: none is known
	Finalized     *BeaconRoot `json:"finalized,omitempty"` // the newest beacon block that is verified to be final
	L1            *L1Look     `json:"l1,omitempty"`        // what L1 holds of audited blocks; nil: it was not read
	Provider      string      `json:"provider,omitempty"`
	Claim         *APIClaim   `json:"-"`                        // nil: the API was not read, or not asked
	ChainUnknown  bool        `json:"chain_unknown,omitempty"`  // the API does not know the chain
	Listing       []ListedKMS `json:"-"`                        // the API's list of KMS, of this chain
	ListingFailed bool        `json:"listing_failed,omitempty"` // it was asked for and could not be read
	Readings      []Reading   `json:"readings,omitempty"`       // at most one of a contract
	Failures      []Failure   `json:"failures,omitempty"`
}

// BeaconRoot is a finalized block of the beacon chain.
type BeaconRoot struct {
	Slot       uint64      `json:"slot"`
	Root       common.Hash `json:"root"`
	Checkpoint common.Hash `json:"checkpoint,omitzero"` // that was configured when it was verified; zero: not known
}

// from reports whether the block was verified from a checkpoint, or may have been.
func (b *BeaconRoot) from(checkpoint common.Hash) bool {
	return b != nil && (b.Checkpoint == (common.Hash{}) || b.Checkpoint == checkpoint)
}

// Failure is what a source failed at, or was caught at.
type Failure struct {
	SourceError
	Contract *common.Address `json:"contract,omitempty"` // nil: the chain as a whole
	Kind     Kind            `json:"kind,omitempty"`     // the finding that it is; empty: a failure, and no finding
	Finding  string          `json:"finding,omitempty"`  // the finding's message
}

// APIClaim is what the API says of a chain.
type APIClaim struct {
	Claim
	ChainID   uint64
	Contracts []ClaimedContract
}

// ClaimedContract is one row of the API's contracts. A contract may have several.
type ClaimedContract struct {
	Address              common.Address
	ChainID              uint64
	K256Pubkey, CAPubkey string // hex as the API spells it; empty: none
	Entries              []ClaimedEntry
}

// ClaimedEntry is one row of a list, as NewClaimedEntry makes it.
type ClaimedEntry struct {
	List              List
	ID, Name, Version string     // as a report has them
	State             ClaimState // allowed, denied or unknown

	id   common.Hash
	kind Kind // what is wrong with the id, if anything
}

// NewClaimedEntry takes a row as the API has it. The id may be malformed; an image's is empty where the API has no hash.
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

// Compare orders rows by list, name, version, id and state. Rows that are in order already are judged faster.
func (a *ClaimedEntry) Compare(b *ClaimedEntry) int {
	return cmp.Or(cmp.Compare(a.List, b.List), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version),
		cmp.Compare(a.ID, b.ID), cmp.Compare(a.State, b.State))
}

// ListedKMS is one KMS of the API's list. Texts are empty where the API has none.
type ListedKMS struct {
	ID                                 string
	Contract                           common.Address
	K256Pubkey, CAPubkey, GatewayAppID string
}

// Reading is what one contract said at the observation's block. It stands alone.
type Reading struct {
	Contract  common.Address `json:"contract"`
	Provider  string         `json:"provider,omitempty"`
	Err       string         `json:"error,omitempty"` // nothing was read, and why
	HasCode   bool           `json:"has_code"`
	Assurance Assurance      `json:"assurance,omitempty"` // of all that was read
	Answers   []Answer       `json:"answers,omitempty"`   // at most one of an id
	Control   Controls       `json:"control"`
	Storage   *Storage       `json:"storage,omitempty"` // nil: not proven
	Complete  bool           `json:"complete"`          // Storage.Slots are all that the contract stores
	Refused   string         `json:"refused,omitempty"` // a getter that writes, or asks for more than the state holds: it accounts for nothing
	Events    *EventScan     `json:"events,omitempty"`  // nil: events were not needed, or not asked for
	Changes   []ListChange   `json:"changes,omitempty"` // the last event of an id; display only

	Unaccounted []common.Address `json:"unaccounted,omitempty"` // store more than is accounted for, and the lists' getters read there too
}

// Answer is what a contract said of one id of a list.
type Answer struct {
	List    List        `json:"list"`
	ID      common.Hash `json:"id"`
	Allowed bool        `json:"allowed"`
	Err     string      `json:"error,omitempty"` // the contract gave no answer, and why
}

// Controls is what a look read of a Control, field by field.
type Controls = control.Reading

// Field is one field of Controls.
type Field = control.Field

// EventScan is how far the search for ids that the API does not list came.
type EventScan struct {
	Read bool   `json:"read"`            // events were read up to the pinned block, and what they named was asked for
	Err  string `json:"error,omitempty"` // why not

	// PublicErr is why the events that anybody can cause were not all read. They name no id of a list.
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

// rightChain reports whether there is a claim, and it is about the configured chain.
func (o *Observation) rightChain(chainID uint64) bool {
	return o.Claim != nil && o.Claim.ChainID == chainID
}

// read reports whether the contract's answers are there.
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

// listID names an entry of a contract.
type listID struct {
	list List
	id   common.Hash
}
