package audit

import (
	"fmt"
	"slices"
	"time"
)

// applyExceptions takes out of the judgement what the operator accepts, and reports exceptions that expired or match nothing.
func (j *judgement) applyExceptions() {
	for _, x := range j.intent.Exceptions {
		if len(j.targets) == 0 {
			return
		}
		at := slices.IndexFunc(j.targets, sameAddress(x.Contract))
		switch {
		case at >= 0:
			j.apply(j.targets[at], x)
		case j.look.Claim == nil || j.intent.CrossChecks && !j.crossed:
			j.targets[0].unevaluated = append(j.targets[0].unevaluated, x.acceptance(""))
		default:
			j.targets[0].findException(AcceptUnused, x, fmt.Sprintf("accept[%d] is about %s, which is not audited on this chain", x.Index, x.Contract))
		}
	}
	for _, t := range j.targets {
		for i := range t.entries {
			t.entries[i].settleAccepted()
		}
	}
	// Of a contract that only the list of KMS names nothing is left to say, once that is accepted.
	j.targets = slices.DeleteFunc(j.targets, func(t *target) bool {
		gone := t.onlyInList && len(t.findings) == 0 && t != j.targets[0]
		if gone {
			j.targets[0].accepted = append(j.targets[0].accepted, t.accepted...)
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
			t.accepted = append(t.accepted, x.acceptance(e.message(x.Kind)))
		}
	}
	t.findings = slices.DeleteFunc(t.findings, func(f finding) bool {
		if f.kind != x.Kind || x.Kind.OfEntry() {
			return false
		}
		if met = true; !expired {
			t.accepted = append(t.accepted, x.acceptance(f.message))
		}
		return !expired
	})
	open := j.isOpen(t, x.Kind, x.List, x.ID)
	switch {
	case met && expired:
		t.findException(AcceptExpired, x, fmt.Sprintf("%s expired on %s, and the difference is still there", what, x.Expires.UTC().Format(time.DateOnly)))
	case !met && !expired && open:
		// This audit did not see it. What an earlier one left open is accepted all the same.
		t.accepted = append(t.accepted, x.acceptance("not seen in this audit"))
	case !met && t.evaluable(x) && t.verdict() != Unknown:
		t.findException(AcceptUnused, x, what+" matches nothing")
	case !met:
		t.unevaluated = append(t.unevaluated, x.acceptance(""))
	}
}

// ofList are the kinds that take the API's list of KMS to be seen.
var ofList = []Kind{GatewayAppIDMismatch, KMSPubkeyMismatch, KMSContractMismatch}

// evaluable reports whether the difference would have been seen.
func (t *target) evaluable(x Exception) bool {
	switch {
	case x.Kind == StorageUnaccounted && t.completeness != Complete,
		x.Kind == UnlistedChainAllowed && t.completeness != Complete && t.completeness != EventsOnly,
		slices.Contains(ofList, x.Kind) && !slices.Contains(t.crossed, x.Kind),
		!x.Kind.OfEntry() && len(t.reasons) > 0:
		return false
	}
	return !slices.ContainsFunc(t.entries, func(e entry) bool {
		return e.List == x.List && e.ID == x.ID && e.Verdict == Unverifiable
	})
}

func (t *target) findException(k Kind, x Exception, message string) {
	t.findings = append(t.findings, finding{kind: k, message: message, list: x.List, id: x.ID, state: Confirmed})
}

func (x Exception) acceptance(message string) Acceptance {
	return Acceptance{x.Kind, x.List, x.ID, message, x.Reason, x.Expires}
}

// settleAccepted makes an entry Accepted once everything that is wrong with it is accepted. If only non-drift findings
// remain, the entry is unverifiable.
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
