package audit

import (
	"cmp"
	"fmt"
	"slices"
)

// Verdict is the judgement on a target, a chain or a report. The larger is the worse. The zero value is Unknown, so that
// forgetting to decide never reads as consistent.
type Verdict int8

// The verdicts. Unknown: nothing drifted, but something could not be checked.
const (
	Consistent Verdict = iota - 1
	Unknown
	Drift
)

// Verdicts lists every Verdict, the best first.
var Verdicts = []Verdict{Consistent, Unknown, Drift}

var verdictNames = []string{"consistent", "unknown", "drift"}

func (v Verdict) String() string { return verdictNames[v-Consistent] }

// MarshalText spells the verdict as String does.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (v *Verdict) UnmarshalText(b []byte) error {
	i := slices.Index(verdictNames, string(b))
	if i < 0 {
		return fmt.Errorf("%q is no verdict", b)
	}
	*v = Verdicts[i]
	return nil
}

// worst is the worst verdict in a list, and Unknown for an empty one: nothing was compared.
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
	AggregatedMR List = "aggregated_mr" // measurements with which a KMS boots; the API claims nothing of them
)

// Lists has every List, in the order of a report.
var Lists = []List{Device, OSImage, AggregatedMR}

// EntryVerdict is the judgement on one entry.
type EntryVerdict string

const (
	Match        EntryVerdict = "match"
	Mismatch     EntryVerdict = "mismatch"
	Unverifiable EntryVerdict = "unverifiable"
	Pending      EntryVerdict = "pending"
	Accepted     EntryVerdict = "accepted"
	Unclaimed    EntryVerdict = "unclaimed" // nobody claims or wants anything of the id
)

// EntryVerdicts lists every EntryVerdict, in the order of Counts.
var EntryVerdicts = []EntryVerdict{Match, Mismatch, Unverifiable, Pending, Accepted, Unclaimed}

// Of returns the number of entries with verdict v.
func (c Counts) Of(v EntryVerdict) int { return *c.of(v) }

func (c *Counts) of(v EntryVerdict) *int {
	all := []*int{&c.Match, &c.Mismatch, &c.Unverifiable, &c.Pending, &c.Accepted, &c.Unclaimed}
	return all[slices.Index(EntryVerdicts, cmp.Or(v, Unverifiable))]
}

// ClaimState is what the API says of an id.
type ClaimState string

// ClaimUnlisted is an id that the API does not list, ClaimNone one of a list of which it claims nothing.
const (
	ClaimAllowed  ClaimState = "allowed"
	ClaimDenied   ClaimState = "denied"
	ClaimUnknown  ClaimState = "unknown"
	ClaimUnlisted ClaimState = "unlisted"
	ClaimNone     ClaimState = "none" // nobody claims anything of it
)

// ChainState is what the contract says of an id at the pinned block.
type ChainState string

const (
	ChainAllowed ChainState = "allowed"
	ChainDenied  ChainState = "denied"
	ChainUnknown ChainState = "unknown" // not read
)

// PolicyState is what the operator wants of an id.
type PolicyState string

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

var assurances = []Assurance{"", Single, Agreed, Proven} // the weakest first

// weakerThan reports whether less rests on a than on b.
func (a Assurance) weakerThan(b Assurance) bool {
	return slices.Index(assurances, a) < slices.Index(assurances, b)
}

// Trust is who vouches for the hash of a block.
type Trust string

// The trusts: the providers alone, two thirds of Ethereum's sync committee, a proposal of an L2's block that L1 holds, or one
// whose time to be challenged is over.
const (
	TrustProviders  Trust = "providers"
	TrustConsensus  Trust = "consensus"
	TrustL1Proposed Trust = "l1_proposed"
	TrustL1Anchored Trust = "l1_anchored"
)

// Trusts lists every Trust, the weakest first.
var Trusts = []Trust{TrustProviders, TrustL1Proposed, TrustL1Anchored, TrustConsensus}

// weakerThan reports whether less rests on t than on u.
func (t Trust) weakerThan(u Trust) bool { return slices.Index(Trusts, t) < slices.Index(Trusts, u) }

// Completeness tells how ids that the API does not list were looked for.
type Completeness string

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

// A kind's row: its severity, what it makes of the target by itself (Consistent: nothing), what else is true of it, and when
// a finding of it is made, in a few words as docs/findings.md has them.
type kindRow struct {
	kind     Kind
	severity Severity
	makes    Verdict
	traits   trait
	meaning  string
}

type trait uint8

const (
	ofEntry    trait = 1 << iota // it is about one entry, and not about the contract as a whole
	acceptable                   // the operator may live with it for a time
	ofContract                   // it says something of the contract itself, and not only of the claim
	ofClaim                      // it compares with the API
)

// kinds are in the order of their headings in docs/findings.md. A kind that says that a source lied, or that nothing was
// compared, is not acceptable: what was not verified cannot be consistent.
var kinds = []kindRow{
	{ClaimAllowedChainDenied, Warning, Drift, ofClaim | ofEntry | ofContract | acceptable, "the API says allowed, the contract refuses"},
	{ClaimDeniedChainAllowed, Critical, Drift, ofClaim | ofEntry | ofContract | acceptable, "the contract trusts what the API calls refused"},
	{UnlistedChainAllowed, Critical, Drift, ofClaim | ofEntry | ofContract | acceptable, "the contract trusts an id that the API does not list"},
	{ClaimUnknownKind, Info, Unknown, ofClaim | ofEntry | acceptable, "the API says null for an id that can be checked"},
	{NoHash, Info, Consistent, ofClaim | ofEntry | acceptable, "an image without a hash and without a claim; with a claim: unknown"},
	{MalformedID, Warning, Unknown, ofClaim | ofEntry | acceptable, "a claimed id is not 32 bytes of hex"},
	{DuplicateConflict, Warning, Drift, ofClaim | ofEntry | acceptable, "two rows of one id whose claims differ"},
	{ContractNotListed, Warning, Drift, ofClaim, "the API does not list a contract that is configured, or that an earlier audit knew"},
	{ContractUnexpected, Warning, Drift, ofClaim, "the API lists a contract that is not configured; it is audited only if an earlier audit knew it"},
	{NoCode, Critical, Drift, 0, "nothing is deployed at a listed address"},
	{ChainMismatch, Critical, Unknown, 0, "the chain ids of configuration, API, contract row and provider do not all agree"},
	{ProviderDisagreement, Critical, Unknown, ofContract, "two providers differ about one block, and nobody else could be read"},
	{ProofInvalid, Critical, Unknown, ofContract, "a provider's proof does not verify, and nobody else could be read"},
	{GetterDisagrees, Critical, Unknown, ofContract, "eth_call answers what the proven state does not give, and nobody else could be read"},
	{StorageUnaccounted, Critical, Drift, ofContract | acceptable, "the contract stores something that no getter and no event explains"},
	{OwnerChanged, Critical, Drift, ofContract | acceptable, "the owner is not that of the policy, else of the baseline"},
	{ImplementationChanged, Critical, Drift, ofContract | acceptable, "the implementation is not that of the policy, else of the baseline"},
	{CodeChanged, Critical, Drift, ofContract | acceptable, "the code is not that of the policy, else of the baseline"},
	{MeasurementsChanged, Critical, Drift, ofContract | acceptable, "the allowed aggregated measurements are not those of the baseline"},
	{KMSKeysChanged, Critical, Drift, ofContract | acceptable, "the KMS's public keys are not those of the policy, else of the baseline"},
	{GatewayChanged, Warning, Drift, ofContract | acceptable, "the gateway's app id is not that of the policy, else of the baseline"},
	{AppImplChanged, Warning, Drift, ofContract | acceptable, "the implementation of apps is not that of the policy, else of the baseline"},
	{GatewayAppIDMismatch, Warning, Drift, ofClaim | ofContract | acceptable, "the API's list of KMS gives another gateway app id than the contract"},
	{KMSPubkeyMismatch, Warning, Drift, ofClaim | ofContract | acceptable, "the API gives another public key than the contract"},
	{KMSContractMismatch, Warning, Drift, ofClaim | acceptable, "the API's list of KMS and its on-chain detail do not name the same contracts"},
	{ClaimUnstable, Info, Consistent, 0, "one of two looks saw a difference, the other did not"},
	{ChainWentBack, Critical, Unknown, ofContract, "the pinned block is older than one that was audited before"},
	{BlockContradicted, Critical, Unknown, ofContract, "the sync committee, or L1, gives another hash for the block than the providers gave"},
	{PolicyDeniedAllowed, Critical, Drift, ofEntry | ofContract | acceptable, "the operator's own list refuses what the contract allows"},
	{PolicyAllowedDenied, Warning, Drift, ofEntry | ofContract | acceptable, "the operator's own list allows what the contract refuses"},
	{AcceptExpired, Warning, Consistent, 0, "an accepted difference ran out"},
	{AcceptUnused, Info, Consistent, 0, "an accepted difference matches nothing"},
}

// Kinds lists the kinds that this version looks for, in the order of their headings in docs/findings.md.
var Kinds = func() (out []Kind) {
	for _, row := range kinds {
		out = append(out, row.kind)
	}
	return out
}()

// row is the zero row for a kind of another version.
func (k Kind) row() kindRow {
	return *cmp.Or(find(kinds, func(r *kindRow) bool { return r.kind == k }), &kindRow{})
}

// Severity returns the kind's one severity.
func (k Kind) Severity() Severity { return k.row().severity }

// Meaning says in a few words when a finding of the kind is made.
func (k Kind) Meaning() string { return k.row().meaning }

// Makes returns what a finding of the kind makes of its target by itself; Consistent: nothing.
func (k Kind) Makes() Verdict { return k.row().makes }

// OfEntry reports whether the kind is about one entry, and not about the contract as a whole.
func (k Kind) OfEntry() bool { return k.is(ofEntry) }

// Acceptable reports whether the operator may accept a finding of the kind for a time.
func (k Kind) Acceptable() bool { return k.is(acceptable) }

func (k Kind) is(t trait) bool { return k.row().traits&t != 0 }

// Runbook is the address of the heading that says what the kind means and what to do first.
func (k Kind) Runbook() string {
	return "https://github.com/kms-auditor/kms-auditor/blob/main/docs/findings.md#" + string(k)
}
