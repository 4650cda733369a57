package audit

import (
	"encoding"
	"fmt"
)

// Verdict is the judgement on a target, a chain or a report. The zero value is Unknown,
// so that forgetting to decide never reads as consistent.
type Verdict uint8

// The verdicts, from Unknown (nothing drifted, but something could not be checked) on.
const (
	Unknown Verdict = iota
	Consistent
	Drift
)

// Verdicts lists every Verdict, the best first.
var Verdicts = []Verdict{Consistent, Unknown, Drift}

func (v Verdict) String() string {
	switch v {
	case Consistent:
		return "consistent"
	case Drift:
		return "drift"
	default:
		return "unknown"
	}
}

// MarshalText spells the verdict as String does.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (v *Verdict) UnmarshalText(b []byte) error {
	for _, w := range Verdicts {
		if w.String() == string(b) {
			*v = w
			return nil
		}
	}
	return fmt.Errorf("%q is no verdict", b)
}

var _ encoding.TextUnmarshaler = (*Verdict)(nil)

// Worst returns the worse of two verdicts: drift, then unknown, then consistent.
func Worst(a, b Verdict) Verdict {
	switch {
	case a == Drift || b == Drift:
		return Drift
	case a == Consistent && b == Consistent:
		return Consistent
	default:
		return Unknown
	}
}

// worstOf is the worst of a list, and Unknown for an empty one: nothing was compared.
func worstOf[T any](list []T, verdict func(*T) Verdict) Verdict {
	if len(list) == 0 {
		return Unknown
	}
	w := Consistent
	for i := range list {
		w = Worst(w, verdict(&list[i]))
	}
	return w
}

// List is one of the contract's allowlists.
type List string

// The lists.
const (
	Device  List = "device"
	OSImage List = "os_image"
)

// Lists has every List, in the order of a report.
var Lists = []List{Device, OSImage}

// EntryVerdict is the judgement on one entry.
type EntryVerdict string

// The entry verdicts.
const (
	Match        EntryVerdict = "match"
	Mismatch     EntryVerdict = "mismatch"
	Unverifiable EntryVerdict = "unverifiable"
	Pending      EntryVerdict = "pending"
	Accepted     EntryVerdict = "accepted"
	Unclaimed    EntryVerdict = "unclaimed" // nobody claims or wants anything of the id
)

// EntryVerdicts lists every EntryVerdict.
var EntryVerdicts = []EntryVerdict{Match, Mismatch, Unverifiable, Pending, Accepted, Unclaimed}

// Of returns the number of entries with verdict v.
func (c Counts) Of(v EntryVerdict) int {
	switch v {
	case Match:
		return c.Match
	case Mismatch:
		return c.Mismatch
	case Pending:
		return c.Pending
	case Accepted:
		return c.Accepted
	case Unclaimed:
		return c.Unclaimed
	default:
		return c.Unverifiable
	}
}

// ClaimState is what the API says of an id.
type ClaimState string

// The claim states. ClaimUnlisted is an id that the API does not list.
const (
	ClaimAllowed  ClaimState = "allowed"
	ClaimDenied   ClaimState = "denied"
	ClaimUnknown  ClaimState = "unknown"
	ClaimUnlisted ClaimState = "unlisted"
)

// ChainState is what the contract says of an id at the pinned block.
type ChainState string

// The chain states. ChainUnknown: not read.
const (
	ChainAllowed ChainState = "allowed"
	ChainDenied  ChainState = "denied"
	ChainUnknown ChainState = "unknown"
)

// PolicyState is what the operator wants of an id.
type PolicyState string

// The policy states.
const (
	PolicyAllowed PolicyState = "allowed"
	PolicyDenied  PolicyState = "denied"
)

// Assurance is what an answer from the chain rests on.
type Assurance string

// The assurances: one provider said so, the configured number did, or it was verified against the block's state root.
const (
	Single Assurance = "single"
	Agreed Assurance = "agreed"
	Proven Assurance = "proven"
)

// weakerThan reports whether less rests on a than on b.
func (a Assurance) weakerThan(b Assurance) bool { return a.rank() < b.rank() }

func (a Assurance) rank() int {
	switch a {
	case Single:
		return 1
	case Agreed:
		return 2
	case Proven:
		return 3
	}
	return 0
}

// Completeness tells how ids that the API does not list were looked for.
type Completeness string

// The levels of completeness.
const (
	Unchecked  Completeness = "unchecked"
	EventsOnly Completeness = "events"
	Complete   Completeness = "proven"
	Incomplete Completeness = "incomplete"
)

// Completenesses lists every Completeness.
var Completenesses = []Completeness{Unchecked, EventsOnly, Complete, Incomplete}

// Severity ranks findings.
type Severity string

// The severities.
const (
	Critical Severity = "critical"
	Warning  Severity = "warning"
	Info     Severity = "info"
)

func (s Severity) rank() int {
	switch s {
	case Critical:
		return 0
	case Warning:
		return 1
	}
	return 2
}

// Kind names what is wrong; docs/findings.md has a heading for each.
type Kind string

// The kinds.
const (
	ClaimAllowedChainDenied Kind = "claim_allowed_chain_denied"
	ClaimDeniedChainAllowed Kind = "claim_denied_chain_allowed"
	ClaimUnknownKind        Kind = "claim_unknown"
	NoHash                  Kind = "no_hash"
	MalformedID             Kind = "malformed_id"
	DuplicateConflict       Kind = "duplicate_conflict"
	ContractNotListed       Kind = "contract_not_listed"
	ContractUnexpected      Kind = "contract_unexpected"
	UnlistedChainAllowed    Kind = "unlisted_chain_allowed"
	ProviderDisagreement    Kind = "provider_disagreement"
	ProofInvalid            Kind = "proof_invalid"
	GetterDisagrees         Kind = "getter_disagrees_with_proof"
	StorageUnaccounted      Kind = "storage_unaccounted"
	NoCode                  Kind = "no_code"
	ChainMismatch           Kind = "chain_mismatch"
	OwnerChanged            Kind = "owner_changed"
	ImplementationChanged   Kind = "implementation_changed"
	CodeChanged             Kind = "code_changed"
	GatewayAppIDMismatch    Kind = "gateway_app_id_mismatch"
	KMSPubkeyMismatch       Kind = "kms_pubkey_mismatch"
	KMSContractMismatch     Kind = "kms_contract_mismatch"
	PolicyDeniedAllowed     Kind = "policy_denied_chain_allowed"
	PolicyAllowedDenied     Kind = "policy_allowed_chain_denied"
	ClaimUnstable           Kind = "claim_unstable"
	ChainWentBack           Kind = "chain_went_back"
	AcceptExpired           Kind = "accept_expired"
	AcceptUnused            Kind = "accept_unused"
)

// A kind's row: its severity, what it makes of the target by itself (Consistent: nothing), and whether it is about one entry.
type kind struct {
	severity Severity
	makes    Verdict
	entry    bool
}

var kinds = map[Kind]kind{
	ClaimAllowedChainDenied: {Warning, Drift, true},
	ClaimDeniedChainAllowed: {Critical, Drift, true},
	ClaimUnknownKind:        {Info, Unknown, true},
	NoHash:                  {Info, Consistent, true}, // unknown where the API makes a claim all the same
	MalformedID:             {Warning, Unknown, true},
	DuplicateConflict:       {Warning, Drift, true},
	ContractNotListed:       {Warning, Drift, false},
	ContractUnexpected:      {Warning, Drift, false},
	NoCode:                  {Critical, Drift, false},
	ChainMismatch:           {Critical, Unknown, false},
	UnlistedChainAllowed:    {Critical, Drift, true},
	ProviderDisagreement:    {Critical, Unknown, false},
	ProofInvalid:            {Critical, Unknown, false},
	GetterDisagrees:         {Critical, Unknown, false},
	StorageUnaccounted:      {Critical, Drift, false},
	OwnerChanged:            {Critical, Drift, false},
	ImplementationChanged:   {Critical, Drift, false},
	CodeChanged:             {Critical, Drift, false},
	GatewayAppIDMismatch:    {Warning, Drift, false},
	KMSPubkeyMismatch:       {Warning, Drift, false},
	KMSContractMismatch:     {Warning, Drift, false},
	PolicyDeniedAllowed:     {Critical, Drift, true},
	PolicyAllowedDenied:     {Warning, Drift, true},
	ClaimUnstable:           {Info, Consistent, false},
	ChainWentBack:           {Critical, Unknown, false},
	AcceptExpired:           {Warning, Consistent, false},
	AcceptUnused:            {Info, Consistent, false},
}

// Kinds lists the kinds that this version looks for, in the order of their headings in docs/findings.md.
var Kinds = []Kind{
	ClaimAllowedChainDenied, ClaimDeniedChainAllowed, UnlistedChainAllowed, ClaimUnknownKind, NoHash, MalformedID, DuplicateConflict,
	ContractNotListed, ContractUnexpected, NoCode, ChainMismatch,
	ProviderDisagreement, ProofInvalid, GetterDisagrees, StorageUnaccounted,
	OwnerChanged, ImplementationChanged, CodeChanged, GatewayAppIDMismatch, KMSPubkeyMismatch, KMSContractMismatch,
	ClaimUnstable, ChainWentBack, PolicyDeniedAllowed, PolicyAllowedDenied, AcceptExpired, AcceptUnused,
}

// Severity returns the kind's one severity.
func (k Kind) Severity() Severity { return kinds[k].severity }

// Makes returns what a finding of the kind makes of its target by itself; Consistent: nothing.
func (k Kind) Makes() Verdict { return kinds[k].makes }

// OfEntry tells whether the kind is about one entry, and not about the contract as a whole.
func (k Kind) OfEntry() bool { return kinds[k].entry }

// Acceptable tells whether the operator may live with a finding of the kind for a time. One that says that a source lied,
// or that nothing was compared, is none: what was not verified cannot be consistent.
func (k Kind) Acceptable() bool {
	_, known := kinds[k]
	switch k {
	case ChainMismatch, ContractNotListed, ContractUnexpected, NoCode, ProviderDisagreement, ProofInvalid, GetterDisagrees,
		ClaimUnstable, ChainWentBack, AcceptExpired, AcceptUnused:
		return false
	}
	return known
}

// Runbook is the address of the heading that says what the kind means and what to do first.
func (k Kind) Runbook() string {
	return "https://github.com/kms-auditor/kms-auditor/blob/main/docs/findings.md#" + string(k)
}
