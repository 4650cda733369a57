package audit

import (
	"fmt"
	"slices"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// diff holds a claim against a state. It is pure, and its order is stable. detail or state is nil where there is
// none; lies are what providers were caught at where no provider could be read.
func diff(c ChainOptions, detail *kmsapi.OnChainDetail, state *ethrpc.State, lies []fault) []*target {
	targets := targetsOf(c, detail)
	for _, t := range targets {
		if t.unexpected && detail.ChainID == c.ChainID {
			t.fault(ContractUnexpected, "the API lists this contract, which is not configured; it is not audited")
			continue
		}
		if t.wrongChain(c.ChainID, detail, lies) {
			for i := range t.entries {
				t.entries[i].unverifiable(ReasonNotAudited)
			}
			continue
		}
		t.compare(c.Wanted[t.address], detail, state)
		if state != nil && state.Code[t.address] {
			t.controlled(c, state)
		}
	}
	return targets
}

func (t *target) fault(k Kind, format string, args ...any) {
	t.faults = append(t.faults, fault{kind: k, message: fmt.Sprintf(format, args...)})
}

// wrongChain notes every chain id that is not the configured one, and whatever else providers were caught at.
func (t *target) wrongChain(want uint64, detail *kmsapi.OnChainDetail, lies []fault) bool {
	if detail != nil && detail.ChainID != want {
		t.fault(ChainMismatch, "the API's answer is about chain %d, but chain_id is configured as %d", detail.ChainID, want)
	}
	if t.foreign != 0 {
		t.fault(ChainMismatch, "the API lists the contract on chain %d, but chain_id is configured as %d", t.foreign, want)
	}
	t.faults = append(t.faults, lies...)
	return t.faulty(ChainMismatch)
}

func (t *target) compare(want Policy, detail *kmsapi.OnChainDetail, state *ethrpc.State) {
	switch {
	case detail == nil:
		t.reasons = append(t.reasons, "the API could not be read")
		return
	case !t.listed:
		t.fault(ContractNotListed, "the contract is configured, but the API does not list it")
		return
	case state == nil:
		t.reasons = append(t.reasons, "the chain could not be read")
	case !state.Code[t.address]:
		t.fault(NoCode, "nothing is deployed at this address at block %d", state.Block.Number)
	}
	for i := range t.entries {
		e := &t.entries[i]
		if a, ok := answerOf(state, e.ask); ok && a.Err == nil {
			e.OnChain, e.Assurance = chainState(a.Allowed), assuranceOf(a, state)
		} else if ok && state.Code[t.address] && len(t.reasons) == 0 {
			t.reasons = append(t.reasons, fmt.Sprintf("calling %s: %v", e.ask.Getter, a.Err))
		}
		if e.ask.Getter != "" {
			e.Policy = want.of(e.List, e.ask.ID)
		}
		e.judge()
	}
}

func assuranceOf(a ethrpc.Answer, s *ethrpc.State) Assurance {
	switch {
	case a.Proven:
		return Proven
	case s.Agreed > 1:
		return Agreed
	default:
		return Single
	}
}

// unlisted adds the ids that the API does not list, that events or the policy name, and that the contract allows or the
// policy wants. Of what could not be read nobody knows whether the contract allows it.
func (t *target) unlisted(named Named, want Policy, state *ethrpc.State) {
	seen := map[ethrpc.Ask]bool{}
	for _, e := range t.entries {
		seen[e.ask] = true
	}
	for _, ask := range slices.Concat(named.asks(t.address), want.asks(t.address)) {
		if seen[ask] {
			continue
		}
		seen[ask] = true
		a, ok := answerOf(state, ask)
		read := ok && a.Err == nil
		list := Device
		if ask.Getter == getters[OSImage] {
			list = OSImage
		}
		e := entry{ask: ask, Entry: Entry{List: list, ID: ask.ID.Hex(), Claim: ClaimUnlisted, OnChain: ChainUnknown, Policy: want.of(list, ask.ID)}}
		if read {
			e.OnChain, e.Assurance = chainState(a.Allowed), assuranceOf(a, state)
		}
		if !read || a.Allowed || e.Policy == PolicyAllowed {
			e.judge()
			t.entries = append(t.entries, e)
		}
	}
}

func answerOf(s *ethrpc.State, ask ethrpc.Ask) (ethrpc.Answer, bool) {
	if s == nil {
		return ethrpc.Answer{}, false
	}
	a, ok := s.Answers[ask]
	return a, ok
}

func chainState(allowed bool) ChainState {
	if allowed {
		return ChainAllowed
	}
	return ChainDenied
}

// judge decides an entry by what the sides say.
func (e *entry) judge() {
	e.judgeClaim()
	e.judgePolicy()
}

func (e *entry) judgeClaim() {
	switch {
	case e.Kind == NoHash:
		e.unverifiable(ReasonNoHash)
	case e.Kind == MalformedID:
		e.unverifiable(ReasonMalformed)
	case e.conflict:
		e.Verdict, e.Kind = Mismatch, DuplicateConflict
	case e.OnChain == ChainUnknown:
		e.unverifiable(ReasonNotRead)
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
}

func (e *entry) unverifiable(reason string) { e.Verdict, e.Reason = Unverifiable, reason }

// unconfirmed takes back a difference that could not be confirmed.
func (e *entry) unconfirmed() {
	e.Kind, e.policy = "", ""
	e.unverifiable(ReasonUnconfirmed)
}
