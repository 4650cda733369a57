package audit

import (
	"fmt"
	"slices"
	"time"
)

// applyExceptions marks differences that the operator accepts as accepted. It reports exceptions that expired or match nothing.
func (j *judgement) applyExceptions() {
	for _, x := range j.intent.Exceptions {
		if len(j.targets) == 0 {
			return
		}
		t, first := targetAt(j.targets, x.Contract), j.targets[0]
		switch {
		case t != nil:
			j.apply(t, x)
		case j.look.Claim == nil && !j.intent.NoClaims || j.intent.CrossChecks && !j.crossed:
			first.unevaluated = append(first.unevaluated, x)
		default:
			first.findOf(AcceptUnused, x.List, x.ID, fmt.Sprintf("accept[%d] names contract %s, which is not audited on this chain", x.Index, x.Contract))
		}
	}
	for _, t := range j.targets {
		for i := range t.entries {
			t.entries[i].settleAccepted()
		}
	}
	// A contract that only the list of KMS names is dropped once its one finding is accepted.
	j.targets = slices.DeleteFunc(j.targets, func(t *target) bool {
		gone := t.onlyInList && len(t.Findings) == 0 && t != j.targets[0]
		if gone {
			j.targets[0].Accepted = append(j.targets[0].Accepted, t.Accepted...)
		}
		return gone
	})
}

func (j *judgement) apply(t *target, x Exception) {
	what := fmt.Sprintf("accept[%d] (%s: %s)", x.Index, x.Kind, x.Reason)
	expired, met := !j.looks.First.At.Before(x.Expires), false
	for i := range t.entries {
		e := &t.entries[i]
		if e.List != x.List || e.ID != x.ID || !slices.Contains(e.kinds(), x.Kind) {
			continue
		}
		if met = true; !expired {
			e.accepted = append(e.accepted, x.Kind)
			e.Accepted = &Accepting{x.Reason, x.Expires}
			t.accept(x, e.message(x.Kind))
		}
	}
	t.Findings = slices.DeleteFunc(t.Findings, func(f Finding) bool {
		if f.Kind != x.Kind || x.Kind.OfEntry() {
			return false
		}
		if met = true; !expired {
			t.accept(x, f.Message)
		}
		return !expired
	})
	switch {
	case met && expired:
		t.findOf(AcceptExpired, x.List, x.ID, fmt.Sprintf("%s expired on %s, but the difference is still there", what, x.Expires.UTC().Format(time.DateOnly)))
	case !met && !expired && j.open[t.key(x.Kind, x.List, x.ID)] != nil:
		// This audit did not see it, but an earlier one left it open.
		t.accept(x, "not seen in this audit")
	case !met && t.evaluable(x) && t.verdict() != Unknown:
		t.findOf(AcceptUnused, x.List, x.ID, what+" matches nothing")
	case !met:
		t.unevaluated = append(t.unevaluated, x)
	}
}

func (t *target) accept(x Exception, message string) {
	t.Accepted = append(t.Accepted, Acceptance{x.Kind, x.List, x.ID, message, x.Reason, x.Expires})
}

// evaluable reports whether this audit would have seen the difference.
func (t *target) evaluable(x Exception) bool {
	switch {
	case x.Kind == StorageUnaccounted && t.Completeness != Complete,
		x.Kind == UnlistedChainAllowed && t.Completeness != Complete && t.Completeness != EventsOnly,
		slices.Contains([]Kind{GatewayAppIDMismatch, KMSPubkeyMismatch, KMSContractMismatch}, x.Kind) && !t.looked[x.Kind], // in the list of KMS
		!x.Kind.OfEntry() && len(t.Reasons) > 0:
		return false
	}
	return find(t.entries, func(e *entry) bool {
		return e.List == x.List && e.ID == x.ID && e.Verdict == Unverifiable
	}) == nil
}

// settleAccepted makes an entry Accepted if everything that is wrong with it is accepted. If only findings remain that make
// no drift, the entry is unverifiable.
func (e *entry) settleAccepted() {
	if len(e.accepted) == 0 {
		return
	}
	left := slices.DeleteFunc(e.kinds(), func(k Kind) bool { return slices.Contains(e.accepted, k) })
	switch {
	case len(left) == 0:
		e.Verdict, e.Reason = Accepted, ""
	case !slices.ContainsFunc(left, func(k Kind) bool { return k.Makes() == Drift }):
		e.unverifiable(ReasonClaimAbsent)
	}
}
