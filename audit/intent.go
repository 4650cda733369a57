package audit

import (
	"cmp"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
)

// Intent is what the operator configured of one chain.
type Intent struct {
	Chain       string           `json:"chain"` // as the API knows it
	ChainID     uint64           `json:"chain_id"`
	Tags        []string         `json:"tags"`                // block policies, in order of preference
	Contracts   []ContractIntent `json:"contracts,omitempty"` // empty: all that the API lists
	Exceptions  []Exception      `json:"exceptions,omitempty"`
	NoClaims    bool             `json:"no_claims,omitempty"`    // no API covers the chain: the policy takes the claim's place
	Discover    bool             `json:"discover,omitempty"`     // a chain on which the API names no KMS is left out
	CrossChecks bool             `json:"cross_checks,omitempty"` // compare with the API's list of KMS
	Events      bool             `json:"events,omitempty"`       // look for ids that the API does not list
	Required    bool             `json:"required,omitempty"`     // what is not proven is unknown
	Baselines   bool             `json:"baselines,omitempty"`    // compare who controls a contract with what was seen before
	Agreement   int              `json:"agreement,omitempty"`    // how many providers must say the same
	Anchored    bool             `json:"anchored,omitempty"`     // somebody other than the providers is asked who vouches for a block
	AnchorMust  bool             `json:"anchor_must,omitempty"`  // what is read at a block that the anchor does not vouch for is unknown
	L1          *L1Intent        `json:"l1,omitempty"`           // that confirms blocks later; nil: none
	Checkpoint  common.Hash      `json:"checkpoint,omitzero"`    // where the light client starts; zero: no anchor is configured
	PendingMax  time.Duration    `json:"pending_max"`            // how long the pinned block may lag behind a head that agrees; 0: not at all
}

// ContractIntent is what the operator configured of one contract.
type ContractIntent struct {
	Address   common.Address  `json:"address"`
	Policy    Policy          `json:"policy"`
	Explained []ExplainedSlot `json:"explained_slots,omitempty"`
}

// Policy is what the operator wants of a contract. What is nil is not checked; a list that is empty and not nil wants
// nothing to be allowed.
type Policy struct {
	Devices        []common.Hash   `json:"devices"`
	OSImages       []common.Hash   `json:"os_images"`
	AggregatedMRs  []common.Hash   `json:"aggregated_mrs"`
	Owner          *common.Address `json:"owner,omitempty"`
	Implementation *common.Address `json:"implementation,omitempty"`
	CodeHash       *common.Hash    `json:"code_hash,omitempty"`   // of the code that runs: the implementation's, where the contract is a proxy
	CodeHashes     []common.Hash   `json:"code_hashes,omitempty"` // of all code that runs; empty: not checked

	KMSPubkeys        []string        `json:"kms_pubkeys,omitempty"` // k256 and CA, in lower-case hex without prefix
	GatewayAppID      string          `json:"gateway_app_id,omitempty"`
	AppImplementation *common.Address `json:"app_implementation,omitempty"`
}

// ExplainedSlot is a storage slot whose use the operator explains.
type ExplainedSlot struct {
	Slot   common.Hash `json:"slot"`
	Reason string      `json:"reason"`
}

// Exception is a difference that the operator accepts until a date.
type Exception struct {
	Index    int            `json:"index"` // in the configuration
	Contract common.Address `json:"contract"`
	List     List           `json:"list,omitempty"` // empty for kinds about the contract as a whole
	ID       string         `json:"id,omitempty"`   // as a report spells it; empty where List is, and for NoHash
	Kind     Kind           `json:"kind"`           // one that is Acceptable
	Reason   string         `json:"reason"`
	Expires  time.Time      `json:"expires"`
}

// Trusts lists what the anchor may give blocks, the weakest first; nil: there is no anchor.
func (i *Intent) Trusts() []Trust {
	switch {
	case i.Anchored:
		return []Trust{TrustConsensus}
	case i.L1 != nil:
		return []Trust{TrustL1Proposed, TrustL1Anchored}
	}
	return nil
}

// Contract returns what is configured of a contract.
func (i *Intent) Contract(a common.Address) ContractIntent {
	return *cmp.Or(find(i.Contracts, func(c *ContractIntent) bool { return c.Address == a }), &ContractIntent{})
}

// List returns what the policy wants allowed of a list; nil: the policy does not cover the list.
func (p Policy) List(l List) []common.Hash {
	switch l {
	case Device:
		return p.Devices
	case OSImage:
		return p.OSImages
	case AggregatedMR:
		return p.AggregatedMRs
	}
	return nil
}

// State returns what the policy says of an id.
func (p Policy) State(l List, id common.Hash) PolicyState {
	switch all := p.List(l); {
	case all == nil:
		return ""
	case slices.Contains(all, id):
		return PolicyAllowed
	default:
		return PolicyDenied
	}
}
