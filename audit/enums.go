package audit

import (
	"cmp"
	"fmt"
	"slices"
)

// Verdict is the judgement on a target, a chain or a report. Larger is worse. The zero value is Unknown, so that a missing
// decision never reads as consistent.
type Verdict int8

// The verdicts. Unknown means that nothing drifted, but something could not be checked.
const (
	Consistent Verdict = iota - 1
	Unknown
	Drift
)

// Verdicts lists every Verdict, best first.
var Verdicts = []Verdict{Consistent, Unknown, Drift}

var verdictNames = []string{"consistent", "unknown", "drift"}

func (v Verdict) String() string { return verdictNames[v-Consistent] }

// MarshalText returns String.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (v *Verdict) UnmarshalText(b []byte) error {
	i := slices.Index(verdictNames, string(b))
	if i < 0 {
		return fmt.Errorf("%q is not a verdict", b)
	}
	*v = Verdicts[i]
	return nil
}

// worst returns the worst verdict in a list, or Unknown if the list is empty.
func worst[T any](all []T, of func(T) Verdict) Verdict {
	if len(all) == 0 {
		return Unknown
	}
	return of(slices.MaxFunc(all, func(a, b T) int { return cmp.Compare(of(a), of(b)) }))
}

// List is one of the contract's allowlists.
type List string

const (
	Device       List = "device"
	OSImage      List = "os_image"
	AggregatedMR List = "aggregated_mr" // measurements that a KMS may boot with; the API makes no claim about them
)

// Lists lists every List, in report order.
var Lists = []List{Device, OSImage, AggregatedMR}

// EntryVerdict is the judgement on one entry.
type EntryVerdict string

const (
	Match        EntryVerdict = "match"
	Mismatch     EntryVerdict = "mismatch"
	Unverifiable EntryVerdict = "unverifiable"
	Pending      EntryVerdict = "pending"
	Accepted     EntryVerdict = "accepted"
	Unclaimed    EntryVerdict = "unclaimed" // neither the API nor the policy covers the id
)

// EntryVerdicts lists every EntryVerdict, in the order of Counts.
var EntryVerdicts = []EntryVerdict{Match, Mismatch, Unverifiable, Pending, Accepted, Unclaimed}

// Of returns the number of entries with verdict v.
func (c Counts) Of(v EntryVerdict) int { return *c.of(v) }

func (c *Counts) of(v EntryVerdict) *int {
	all := []*int{&c.Match, &c.Mismatch, &c.Unverifiable, &c.Pending, &c.Accepted, &c.Unclaimed}
	return all[slices.Index(EntryVerdicts, cmp.Or(v, Unverifiable))]
}

// ClaimState is what the API says about an id.
type ClaimState string

const (
	ClaimAllowed  ClaimState = "allowed"
	ClaimDenied   ClaimState = "denied"
	ClaimUnknown  ClaimState = "unknown"  // null, or the API was not read
	ClaimUnlisted ClaimState = "unlisted" // the API does not list the id
	ClaimNone     ClaimState = "none"     // the API does not cover the list, or the chain
)

// ChainState is what the contract says about an id at the pinned block.
type ChainState string

const (
	ChainAllowed ChainState = "allowed"
	ChainDenied  ChainState = "denied"
	ChainUnknown ChainState = "unknown" // not read
)

// PolicyState is what the operator wants for an id.
type PolicyState string

const (
	PolicyAllowed PolicyState = "allowed"
	PolicyDenied  PolicyState = "denied"
)

// Assurance is the strength of the backing of an answer from the chain.
type Assurance string

const (
	Single Assurance = "single" // one provider gave it
	Agreed Assurance = "agreed" // the configured number of providers gave it
	Proven Assurance = "proven" // verified against the block's state root
)

var assurances = []Assurance{"", Single, Agreed, Proven} // weakest first

// weakerThan reports whether a is weaker than b.
func (a Assurance) weakerThan(b Assurance) bool {
	return slices.Index(assurances, a) < slices.Index(assurances, b)
}

// Trust names who vouches for the hash of a block.
type Trust string

const (
	TrustProviders  Trust = "providers"   // the providers alone
	TrustConsensus  Trust = "consensus"   // two thirds of Ethereum's sync committee
	TrustL1Proposed Trust = "l1_proposed" // a proposal on L1 that can still be challenged
	TrustL1Anchored Trust = "l1_anchored" // a proposal on L1 that can no longer be challenged
)

// Trusts lists every Trust, weakest first.
var Trusts = []Trust{TrustProviders, TrustL1Proposed, TrustL1Anchored, TrustConsensus}

// weakerThan reports whether t is weaker than u.
func (t Trust) weakerThan(u Trust) bool { return slices.Index(Trusts, t) < slices.Index(Trusts, u) }

// Completeness says how thoroughly ids that the API does not list were searched for.
type Completeness string

const (
	Unchecked  Completeness = "unchecked"  // not at all
	EventsOnly Completeness = "events"     // in the contract's events
	Complete   Completeness = "proven"     // the whole storage is accounted for
	Incomplete Completeness = "incomplete" // the search did not finish, or storage is unaccounted for
)

// Completenesses lists every Completeness.
var Completenesses = []Completeness{Unchecked, EventsOnly, Complete, Incomplete}

// Severity ranks findings.
type Severity string

const (
	Critical Severity = "critical"
	Warning  Severity = "warning"
	Info     Severity = "info"
)

var severities = []Severity{Critical, Warning, Info}

// Kind names what is wrong; docs/findings.md has a heading for each.
type Kind string

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
	MeasurementsChanged     Kind = "measurements_changed"
	KMSKeysChanged          Kind = "kms_keys_changed"
	GatewayChanged          Kind = "gateway_changed"
	AppImplChanged          Kind = "app_implementation_changed"
	GatewayAppIDMismatch    Kind = "gateway_app_id_mismatch"
	KMSPubkeyMismatch       Kind = "kms_pubkey_mismatch"
	KMSContractMismatch     Kind = "kms_contract_mismatch"
	PolicyDeniedAllowed     Kind = "policy_denied_chain_allowed"
	PolicyAllowedDenied     Kind = "policy_allowed_chain_denied"
	ClaimUnstable           Kind = "claim_unstable"
	ChainWentBack           Kind = "chain_went_back"
	BlockContradicted       Kind = "block_contradicted"
	AcceptExpired           Kind = "accept_expired"
	AcceptUnused            Kind = "accept_unused"
)

// kindRow describes a kind.
type kindRow struct {
	kind     Kind
	severity Severity
	makes    Verdict // the effect on the target's verdict; Consistent means no effect
	traits   trait
	meaning  string // when a finding of the kind is made, as in docs/findings.md
}

type trait uint8

const (
	ofEntry    trait = 1 << iota // about one entry, not about the contract as a whole
	acceptable                   // the operator may accept it for a time
	ofContract                   // about the contract itself, not only about the claim
	ofClaim                      // a comparison with the API
)

// kinds is in the order of the headings in docs/findings.md. A kind is not acceptable if it means that a source lied or that
// nothing was compared, because unverified answers cannot be consistent.
var kinds = []kindRow{
	{ClaimAllowedChainDenied, Warning, Drift, ofClaim | ofEntry | ofContract | acceptable, "the contract refuses an id that the API says is allowed"},
	{ClaimDeniedChainAllowed, Critical, Drift, ofClaim | ofEntry | ofContract | acceptable, "the contract trusts an id that the API says is refused"},
	{UnlistedChainAllowed, Critical, Drift, ofClaim | ofEntry | ofContract | acceptable, "the contract trusts an id that the API does not list"},
	{ClaimUnknownKind, Info, Unknown, ofClaim | ofEntry | acceptable, "the API gives no answer (null) for an id that can be checked"},
	{NoHash, Info, Consistent, ofClaim | ofEntry | acceptable, "the API lists an image without a hash; if it makes a claim about it, the verdict is unknown"},
	{MalformedID, Warning, Unknown, ofClaim | ofEntry | acceptable, "an id from the API is not 32 bytes of hex"},
	{DuplicateConflict, Warning, Drift, ofClaim | ofEntry | acceptable, "the API lists an id more than once, with different claims"},
	{ContractNotListed, Warning, Drift, ofClaim, "the API does not list a contract that is configured or was audited before"},
	{ContractUnexpected, Warning, Drift, ofClaim, "the API lists a contract that is not configured; it is audited only if it was audited before"},
	{NoCode, Critical, Drift, 0, "nothing is deployed at a listed address"},
	{ChainMismatch, Critical, Unknown, 0, "the chain ids of the configuration, the API, the contract's row and the provider do not all agree"},
	{ProviderDisagreement, Critical, Unknown, ofContract, "two providers give different answers about one block, and no other provider could be read"},
	{ProofInvalid, Critical, Unknown, ofContract, "a provider's proof does not verify, and no other provider could be read"},
	{GetterDisagrees, Critical, Unknown, ofContract, "eth_call contradicts the proven state, and no other provider could be read"},
	{StorageUnaccounted, Critical, Drift, ofContract | acceptable, "the contract stores something that no getter or event explains"},
	{OwnerChanged, Critical, Drift, ofContract | acceptable, "the owner differs from the policy, or from the baseline if the policy sets none"},
	{ImplementationChanged, Critical, Drift, ofContract | acceptable, "the implementation differs from the policy, or from the baseline if the policy sets none"},
	{CodeChanged, Critical, Drift, ofContract | acceptable, "the code that runs differs from the policy, or from the baseline if the policy sets none"},
	{MeasurementsChanged, Critical, Drift, ofContract | acceptable, "the allowed aggregated measurements differ from the baseline"},
	{KMSKeysChanged, Critical, Drift, ofContract | acceptable, "the KMS's public keys differ from the policy, or from the baseline if the policy sets none"},
	{GatewayChanged, Warning, Drift, ofContract | acceptable, "the gateway's app id differs from the policy, or from the baseline if the policy sets none"},
	{AppImplChanged, Warning, Drift, ofContract | acceptable, "the app implementation differs from the policy, or from the baseline if the policy sets none"},
	{GatewayAppIDMismatch, Warning, Drift, ofClaim | ofContract | acceptable, "the API's list of KMS and the contract give different gateway app ids"},
	{KMSPubkeyMismatch, Warning, Drift, ofClaim | ofContract | acceptable, "the API and the contract give different public keys"},
	{KMSContractMismatch, Warning, Drift, ofClaim | acceptable, "the API's list of KMS and its on-chain detail do not name the same contracts"},
	{ClaimUnstable, Info, Consistent, 0, "only one of an audit's two looks saw a difference"},
	{ChainWentBack, Critical, Unknown, ofContract, "the pinned block is older than one that was audited before"},
	{BlockContradicted, Critical, Unknown, ofContract, "the sync committee or L1 contradicts the block hash that the providers gave"},
	{PolicyDeniedAllowed, Critical, Drift, ofEntry | ofContract | acceptable, "the contract trusts an id that the policy does not list"},
	{PolicyAllowedDenied, Warning, Drift, ofEntry | ofContract | acceptable, "the contract refuses an id that the policy allows"},
	{AcceptExpired, Warning, Consistent, 0, "an accepted difference has expired and is still there"},
	{AcceptUnused, Info, Consistent, 0, "an accept entry matches no difference"},
}

// Kinds lists every Kind, in the order of the headings in docs/findings.md.
var Kinds = func() (out []Kind) {
	for _, row := range kinds {
		out = append(out, row.kind)
	}
	return out
}()

// row returns the zero row for a kind of another version.
func (k Kind) row() kindRow {
	return *cmp.Or(find(kinds, func(r *kindRow) bool { return r.kind == k }), &kindRow{})
}

// Severity returns the severity of every finding of the kind.
func (k Kind) Severity() Severity { return k.row().severity }

// Meaning describes in a few words when the kind is found.
func (k Kind) Meaning() string { return k.row().meaning }

// Makes returns the verdict that a finding of the kind gives its target. Consistent means no effect.
func (k Kind) Makes() Verdict { return k.row().makes }

// OfEntry reports whether the kind is about one entry, not about the contract as a whole.
func (k Kind) OfEntry() bool { return k.is(ofEntry) }

// Acceptable reports whether the operator may accept a finding of the kind for a time.
func (k Kind) Acceptable() bool { return k.is(acceptable) }

func (k Kind) is(t trait) bool { return k.row().traits&t != 0 }

// Runbook returns the URL of the kind's section in docs/findings.md.
func (k Kind) Runbook() string {
	return "https://github.com/kms-auditor/kms-auditor/blob/main/docs/findings.md#" + string(k)
}
