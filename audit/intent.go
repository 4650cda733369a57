package audit

import (
	"cmp"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
)

// Intent is what the operator configured for one chain.
type Intent struct {
	Chain       string           `json:"chain"` // the name that the API uses
	ChainID     uint64           `json:"chain_id"`
	Tags        []string         `json:"tags"`                // block policies, in order of preference
	Contracts   []ContractIntent `json:"contracts,omitempty"` // empty to audit every contract that the API lists
	Exceptions  []Exception      `json:"exceptions,omitempty"`
	NoClaims    bool             `json:"no_claims,omitempty"`    // no API covers the chain: the policy takes the claim's place
	Discover    bool             `json:"discover,omitempty"`     // leave the chain out of the report if the API names no KMS on it
	CrossChecks bool             `json:"cross_checks,omitempty"` // compare with the API's list of KMS
	Events      bool             `json:"events,omitempty"`       // search events for ids that the API does not list
	Required    bool             `json:"required,omitempty"`     // the verdict is unknown unless everything is proven
	Baselines   bool             `json:"baselines,omitempty"`    // compare who controls a contract with the baseline
	Agreement   int              `json:"agreement,omitempty"`    // how many providers must give the same answer
	Anchored    bool             `json:"anchored,omitempty"`     // a light client verifies blocks
	AnchorMust  bool             `json:"anchor_must,omitempty"`  // the verdict is unknown at a block that the anchor does not vouch for
	L1          *L1Intent        `json:"l1,omitempty"`           // L1 that confirms the chain's blocks later; optional
	Checkpoint  common.Hash      `json:"checkpoint,omitzero"`    // where the light client starts; zero without an anchor
	PendingMax  time.Duration    `json:"pending_max"`            // how long a difference that the head no longer has may be pending; 0 allows none
}

// ContractIntent is what the operator configured for one contract.
type ContractIntent struct {
	Address   common.Address  `json:"address"`
	Policy    Policy          `json:"policy"`
	Explained []ExplainedSlot `json:"explained_slots,omitempty"`
}

// Policy is what the operator wants of a contract. A nil field is not checked. An empty list that is not nil allows nothing.
type Policy struct {
	Devices        []common.Hash   `json:"devices"`
	OSImages       []common.Hash   `json:"os_images"`
	AggregatedMRs  []common.Hash   `json:"aggregated_mrs"`
	Owner          *common.Address `json:"owner,omitempty"`
	Implementation *common.Address `json:"implementation,omitempty"`
	CodeHash       *common.Hash    `json:"code_hash,omitempty"`   // of the implementation's code if the contract is a proxy, else of its own
	CodeHashes     []common.Hash   `json:"code_hashes,omitempty"` // of all code that runs

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
	List     List           `json:"list,omitempty"` // empty if the kind is about the contract as a whole
	ID       string         `json:"id,omitempty"`   // as in a report; empty without List, and for NoHash
	Kind     Kind           `json:"kind"`           // an Acceptable one
	Reason   string         `json:"reason"`
	Expires  time.Time      `json:"expires"`
}

// Trusts lists the trusts that the anchor can give to a block, weakest first. Without an anchor it is nil.
func (i *Intent) Trusts() []Trust {
	switch {
	case i.Anchored:
		return []Trust{TrustConsensus}
	case i.L1 != nil:
		return []Trust{TrustL1Proposed, TrustL1Anchored}
	}
	return nil
}

// Contract returns the configuration of a contract, or the zero value.
func (i *Intent) Contract(a common.Address) ContractIntent {
	return *cmp.Or(find(i.Contracts, func(c *ContractIntent) bool { return c.Address == a }), &ContractIntent{})
}

// List returns the ids of a list that the policy allows, or nil if it does not cover the list.
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

// State returns what the policy says about an id: empty if it does not cover the list.
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
