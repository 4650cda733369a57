package audit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"
)

// entry is one entry while it is being judged.
type entry struct {
	*Entry
	id         common.Hash
	valid      bool // id is well-formed: the contract can be asked about it
	conflict   bool // the rows of the id differ
	wrongChain bool // its row is about another chain
	noClaim    bool // it has no row because no claim was read
	policyKind Kind // what the policy finds wrong; Entry.Kind is what the claim comparison finds
	accepted   []Kind
}

// judge compares the entry's claim, chain state and policy.
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

// drop makes the entry unverifiable and removes its kinds.
func (e *entry) drop(reason string) {
	e.Kind, e.policyKind = "", ""
	e.unverifiable(reason)
}

// kinds returns the kinds of the entry's problems. A nil entry has none.
func (e *entry) kinds() []Kind {
	if e == nil || e.Kind == "" && e.policyKind == "" {
		return nil
	}
	return slices.DeleteFunc([]Kind{e.Kind, e.policyKind}, func(k Kind) bool { return k == "" })
}

// would returns the verdict if the contract's answer were another one.
func (e entry) would(allowed bool) EntryVerdict {
	other := *e.Entry
	e.Entry = &other
	e.OnChain, e.Verdict, e.Kind, e.Reason = chainStates[allowed], Unverifiable, "", ""
	e.judge()
	return e.Verdict
}

var chainStates = map[bool]ChainState{true: ChainAllowed, false: ChainDenied}

// sentences describe the problem of an entry. The first argument names the entry, the second is the verb for the contract's answer.
var sentences = map[Kind]string{
	PolicyDeniedAllowed:     "the contract trusts %[1]s, which the policy does not list",
	PolicyAllowedDenied:     "the contract refuses %[1]s, which the policy allows",
	ClaimAllowedChainDenied: "the contract refuses %[1]s, which the API says is allowed",
	ClaimDeniedChainAllowed: "the contract trusts %[1]s, which the API says is refused",
	UnlistedChainAllowed:    "the contract trusts %[1]s, which the API does not list",
	ClaimUnknownKind:        "the API gives no answer (null) for %[1]s, which the contract %[2]s",
	DuplicateConflict:       "the API lists %[1]s more than once, with different claims; the contract %[2]s it",
	MalformedID:             "the API lists %[1]s with an id that is not 32 bytes of hex",
	NoHash:                  "the API lists %[1]s without a hash",
	ClaimUnstable:           "only one of two looks saw the API and the contract differ about %[1]s",
}

var contractVerbs = map[ChainState]string{ChainAllowed: "trusts", ChainDenied: "refuses", ChainUnknown: "gave no answer about"}

// message describes the entry's problem in one sentence.
func (e *entry) message(k Kind) string {
	what := []string{map[List]string{Device: "device", OSImage: "OS image", AggregatedMR: "aggregated measurement"}[e.List]}
	if e.Name != "" {
		what = append(what, e.Name)
	}
	if e.Version != "" && !strings.HasSuffix(e.Name, e.Version) {
		what = append(what, e.Version)
	}
	switch id := e.shortID(); {
	case id != "" && len(what) > 1:
		what = append(what, "("+id+")")
	case id != "":
		what = append(what, id)
	}
	return fmt.Sprintf(sentences[k], strings.Join(what, " "), contractVerbs[e.OnChain])
}

// shortID returns the head and tail of the id, or a malformed id as it is.
func (e *entry) shortID() string {
	if !e.valid {
		return e.ID
	}
	return e.ID[:6] + "…" + e.ID[len(e.ID)-3:]
}
