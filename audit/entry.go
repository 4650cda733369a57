package audit

import (
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"
)

// entry is one entry while it is being judged.
type entry struct {
	*Entry
	id         common.Hash
	valid      bool // id is one: the contract can be asked
	conflict   bool // the rows of the id differ
	wrongChain bool // its row is about another chain
	noClaim    bool // it has no row, since no claim was read
	policyKind Kind // what is wrong with it by the policy; Entry.Kind is by the claim
	accepted   []Kind
}

// judge decides an entry by what the sides say, and by what the operator wants.
func (e *entry) judge() {
	if e.List == AggregatedMR {
		e.Claim, e.noClaim = ClaimNone, false
	}
	switch {
	case e.noClaim:
		e.unverifiable(ReasonNoClaim)
	case e.wrongChain:
		e.drop(ReasonNotAudited)
	case e.Kind == NoHash:
		e.unverifiable(ReasonNoHash)
	case e.Kind == MalformedID:
		e.unverifiable(ReasonMalformed)
	case e.conflict:
		e.Verdict, e.Kind = Mismatch, DuplicateConflict
	case e.OnChain == ChainUnknown:
		e.unverifiable(ReasonNotRead)
	case e.Claim == ClaimNone && e.Policy == "":
		e.Verdict = Unclaimed
	case e.Claim == ClaimUnlisted && e.OnChain == ChainAllowed:
		e.Verdict, e.Kind = Mismatch, UnlistedChainAllowed
	case e.Claim == ClaimUnknown:
		e.Kind = ClaimUnknownKind
		e.unverifiable(ReasonClaimAbsent)
	case e.Claim == ClaimAllowed && e.OnChain == ChainDenied:
		e.Verdict, e.Kind = Mismatch, ClaimAllowedChainDenied
	case e.Claim == ClaimDenied && e.OnChain == ChainAllowed:
		e.Verdict, e.Kind = Mismatch, ClaimDeniedChainAllowed
	default:
		e.Verdict = Match
	}
	switch e.policyKind = ""; {
	case e.Policy == PolicyDenied && e.OnChain == ChainAllowed:
		e.policyKind = PolicyDeniedAllowed
	case e.Policy == PolicyAllowed && e.OnChain == ChainDenied:
		e.policyKind = PolicyAllowedDenied
	}
	if e.policyKind != "" {
		e.Verdict, e.Reason = Mismatch, ""
	}
}

func (e *entry) unverifiable(reason string) { e.Verdict, e.Reason = Unverifiable, reason }

// drop takes back what is wrong with the entry.
func (e *entry) drop(reason string) {
	e.Kind, e.policyKind = "", ""
	e.unverifiable(reason)
}

// kinds are what is wrong with the entry, if there is one.
func (e *entry) kinds() []Kind {
	if e == nil || e.Kind == "" && e.policyKind == "" {
		return nil
	}
	return slices.DeleteFunc([]Kind{e.Kind, e.policyKind}, func(k Kind) bool { return k == "" })
}

// would is the verdict by another answer of the chain.
func (e entry) would(allowed bool) EntryVerdict {
	other := *e.Entry
	e.Entry = &other
	e.OnChain, e.Verdict, e.Kind, e.Reason = chainStates[allowed], Unverifiable, "", ""
	e.judge()
	return e.Verdict
}

var chainStates = map[bool]ChainState{true: ChainAllowed, false: ChainDenied}

// sentences say what is wrong with an entry.
var sentences = map[Kind]string{
	PolicyDeniedAllowed:     "the policy does not list it, the contract allows it",
	PolicyAllowedDenied:     "the policy wants it, the contract refuses it",
	ClaimAllowedChainDenied: "the API says allowed, the contract refuses it",
	ClaimDeniedChainAllowed: "the API says denied, the contract allows it",
	UnlistedChainAllowed:    "the contract allows it, the API does not list it",
	ClaimUnknownKind:        "the API gives no answer (null), the contract says ", // its state
	DuplicateConflict:       "the API lists it more than once, with claims that differ; the contract says ",
	NoHash:                  "the API lists it without a hash",
	ClaimUnstable:           "one of two looks saw a difference between the API and the contract, the other did not",
}

// message says in one sentence what is wrong with the entry.
func (e *entry) message(k Kind) string {
	what := map[List]string{Device: "device", OSImage: "OS image", AggregatedMR: "aggregated measurement"}[e.List]
	if e.Name != "" {
		what += " " + e.Name
	}
	if e.Version != "" && !strings.HasSuffix(e.Name, e.Version) {
		what += " " + e.Version
	}
	switch k {
	case MalformedID:
		return what + ": the API's id " + e.ID + " is not 32 bytes of hex"
	case ClaimUnknownKind, DuplicateConflict:
		return what + ": " + sentences[k] + string(e.OnChain)
	}
	return what + ": " + sentences[k]
}
