package audit

import (
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit/control"
)

// Schema names the shape of Report's JSON; docs/report.schema.json documents it.
const Schema = "kms-auditor/report/v1"

// Report is the whole result of one audit. Times are UTC; lists are never nil.
type Report struct {
	Schema     string    `json:"schema"`
	AuditID    string    `json:"audit_id"`
	Version    string    `json:"version"`
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	Verdict    Verdict   `json:"verdict"`
	Chains     []Chain   `json:"chains"`
}

// Chain is what the audit found on one chain.
type Chain struct {
	Chain      string        `json:"chain"`
	ChainID    uint64        `json:"chain_id"` // as configured
	Verdict    Verdict       `json:"verdict"`
	Policy     string        `json:"policy"`                        // the block policy used, or the preferred one if no block was pinned
	Block      *Block        `json:"block"`                         // nil if no block was pinned
	Anchored   *Anchored     `json:"anchored_through,omitempty"`    // the newest block that the anchor vouches for, or nil
	L1Anchored *Anchored     `json:"l1_anchored_through,omitempty"` // the newest audited block that L1 anchored, or nil
	Claim      *Claim        `json:"claim"`                         // nil if no claim was fetched
	Claims     ClaimState    `json:"claims,omitempty"`              // ClaimNone if no API covers the chain
	Errors     []SourceError `json:"errors"`
	Targets    []Target      `json:"targets"`
	Duration   time.Duration `json:"-"` // of the chain's audit; not part of the evidence
	Trusts     []Trust       `json:"-"` // Intent.Trusts
}

// Block is the block at which every answer of a chain was read.
type Block struct {
	Number uint64    `json:"number"`
	Hash   string    `json:"hash"`
	Time   time.Time `json:"time"`
	Trust  Trust     `json:"trust,omitempty"` // who vouches for the hash; empty without an anchor
}

// Anchored is a block that the anchor or L1 vouches for.
type Anchored struct {
	Number uint64    `json:"number"`
	Hash   string    `json:"hash"`
	Time   time.Time `json:"time"`
	Trust  Trust     `json:"trust"`
}

// Claim identifies an answer of the API. SHA256 is the digest of the body as received, in hex.
type Claim struct {
	FetchedAt  time.Time `json:"fetched_at"`
	SHA256     string    `json:"sha256"`
	APIVersion string    `json:"api_version"`
	RequestID  string    `json:"request_id"`
}

// Stage is the part of an audit in which a source failed.
type Stage string

const (
	StageAPI      Stage = "api"
	StageRPC      Stage = "rpc"
	StageDecode   Stage = "decode"
	StageInternal Stage = "internal"
)

// SourceError is one failure of a source. Source is "api" or a provider's name. Message contains no secret.
type SourceError struct {
	Stage   Stage  `json:"stage"`
	Source  string `json:"source"`
	Message string `json:"message"`
}

// Target is the judgement on one contract.
type Target struct {
	Contract     string          `json:"contract"` // EIP-55
	Verdict      Verdict         `json:"verdict"`
	Reasons      []string        `json:"reasons"`             // what could not be checked, and why
	Assurance    Assurance       `json:"assurance,omitempty"` // the weakest of its entries; empty if nothing was read
	Completeness Completeness    `json:"completeness"`
	Incomplete   string          `json:"incomplete,omitempty"` // why completeness is not proven although every event that can name an id was read
	Counts       Counts          `json:"counts"`
	Storage      *Storage        `json:"storage,omitempty"`         // nil if not proven
	Control      *Control        `json:"control,omitempty"`         // who controls the contract; nil if not read
	Baseline     *Baseline       `json:"baseline,omitempty"`        // what Control is compared with; nil if no baseline is recorded
	Accepted     []Acceptance    `json:"accepted,omitempty"`        // the findings that the operator accepts
	Explained    []ExplainedSlot `json:"explained_slots,omitempty"` // storage slots that the operator explains
	Entries      []Entry         `json:"entries"`
	Findings     []Finding       `json:"findings"`
}

// Storage is what is proven about a contract's whole storage.
type Storage struct {
	Root     string `json:"root"`      // of its storage trie
	CodeHash string `json:"code_hash"` // of the proxy
	Slots    int    `json:"slots"`     // in use and explained by a getter, an event, a well-known slot or the operator
}

// Control is who controls a contract and which code runs there.
type Control = control.Control

// Acceptance is a finding that the operator accepts until a date.
type Acceptance struct {
	Kind    Kind      `json:"kind"`
	List    List      `json:"list,omitempty"`
	ID      string    `json:"id,omitempty"`
	Message string    `json:"message"`
	Reason  string    `json:"reason"`
	Expires time.Time `json:"expires"`
}

// Compared reports whether a claim was compared with the chain at the pinned block or, without claims, a policy.
func (t *Target) Compared() bool {
	return t.Verdict == Consistent || find(t.Entries, (*Entry).compared) != nil
}

// compared reports whether both sides of the entry are known and were compared. A pending entry does not count: its claim is
// about a block that is not pinned yet.
func (e *Entry) compared() bool {
	switch e.Verdict {
	case Match, Mismatch, Accepted:
		return e.OnChain != ChainUnknown && (e.Claim == ClaimAllowed || e.Claim == ClaimDenied ||
			e.Claim == ClaimNone && e.Policy != "" && (e.List == Device || e.List == OSImage)) // no API makes claims about measurements
	}
	return false
}

// Counts counts entries by verdict.
type Counts struct {
	Match        int `json:"match"`
	Mismatch     int `json:"mismatch"`
	Unverifiable int `json:"unverifiable"`
	Pending      int `json:"pending"`
	Accepted     int `json:"accepted"`
	Unclaimed    int `json:"unclaimed"`
}

// Entry is one id of one list of one target.
type Entry struct {
	List      List         `json:"list"`
	ID        string       `json:"id"`      // 0x and 64 lower-case digits; quoted and cut if malformed; empty without a hash
	Name      string       `json:"name"`    // a device's node or an image's name; empty if the API gives none
	Version   string       `json:"version"` // an image's version; empty for devices
	Claim     ClaimState   `json:"claim"`
	OnChain   ChainState   `json:"on_chain"`
	Policy    PolicyState  `json:"policy,omitempty"` // what the operator wants; empty if no policy covers the list
	Verdict   EntryVerdict `json:"verdict"`
	Kind      Kind         `json:"kind,omitempty"`
	Severity  Severity     `json:"severity,omitempty"`
	Assurance Assurance    `json:"assurance,omitempty"` // empty if not read
	Reason    string       `json:"reason,omitempty"`    // why it is unverifiable or pending: one of the Reason constants
	FirstSeen *time.Time   `json:"first_seen,omitempty"`
	Changed   *Changed     `json:"changed,omitempty"`  // the last event of the id, or nil
	Accepted  *Accepting   `json:"accepted,omitempty"` // why and until when the operator accepts what is wrong
}

// Accepting is why and until when a difference is accepted.
type Accepting struct {
	Reason  string    `json:"reason"`
	Expires time.Time `json:"expires"`
}

// Changed is the last addition or removal of an id.
type Changed struct {
	Block uint64      `json:"block"`
	Time  *time.Time  `json:"time,omitempty"` // of the block; nil if not known
	Tx    common.Hash `json:"tx"`
	Actor string      `json:"actor,omitempty"` // EIP-55; empty if not known
}

// Reasons of an entry.
const (
	ReasonUnconfirmed = "unconfirmed"  // the second look, or the look at the head, did not confirm a difference
	ReasonNotRead     = "not_read"     // the contract's answer could not be read
	ReasonNoClaim     = "no_claim"     // the API was not read
	ReasonWentBack    = "went_back"    // the pinned block is older than one that was audited before
	ReasonHeadAgrees  = "head_agrees"  // at the newest block the contract already agrees with the API
	ReasonNotAudited  = "not_audited"  // the target's claim is about another chain
	ReasonClaimAbsent = "claim_absent" // the API gives no answer (null)
	ReasonMalformed   = "malformed_id" // not a bytes32
	ReasonNoHash      = "no_hash"      // the API lists the image without a hash
)

// FindingState says whether the last audit saw a finding or could not check it.
type FindingState string

const (
	Confirmed FindingState = "confirmed"
	Still     FindingState = "open"
)

// Finding is one thing wrong.
type Finding struct {
	Kind            Kind         `json:"kind"`
	Severity        Severity     `json:"severity"`
	List            List         `json:"list,omitempty"`
	ID              string       `json:"id,omitempty"`
	Message         string       `json:"message"`
	Runbook         string       `json:"runbook"`
	FirstSeen       *time.Time   `json:"first_seen,omitempty"`
	LastConfirmedAt *time.Time   `json:"last_confirmed_at,omitempty"`
	State           FindingState `json:"state"`
}
