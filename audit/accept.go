package audit

import (
	"fmt"
	"slices"
	"time"
)

// accept takes out of the judgement what the operator lives with, and tells of what ran out or is of no use.
func (p *pass) accept() {
	for i, a := range p.chain.Accept {
		if a.Chain != p.chain.Name || len(p.targets) == 0 {
			continue
		}
		at := slices.IndexFunc(p.targets, func(t *target) bool { return t.address == a.Contract })
		if at < 0 && (p.detail == nil || p.chain.KMS != nil && !p.crossed) {
			p.targets[0].unmet = append(p.targets[0].unmet, a.of(""))
			continue
		}
		if at < 0 {
			p.targets[0].faultOf(a, AcceptUnused, fmt.Sprintf("accept[%d] is about %s, which is not audited on this chain", i, a.Contract))
			continue
		}
		p.targets[at].accept(a, i, p.began)
	}
	for _, t := range p.targets {
		for i := range t.entries {
			t.entries[i].accepting()
		}
	}
	// Of a contract that only the list of KMS names nothing is left to say, once that is accepted.
	p.targets = slices.DeleteFunc(p.targets, func(t *target) bool {
		gone := t.named && len(t.faults) == 0 && t != p.targets[0]
		if gone {
			p.targets[0].accepted = append(p.targets[0].accepted, t.accepted...)
		}
		return gone
	})
}

// accept applies one accepted difference, the one at place i of the configuration.
func (t *target) accept(a Accept, i int, now time.Time) {
	what := fmt.Sprintf("accept[%d] (%s: %s)", i, a.Kind, a.Reason)
	expired := !now.Before(a.Expires)
	met := false
	for n := range t.entries {
		e := &t.entries[n]
		if e.List != a.List || e.ID != a.ID || !slices.Contains(e.kinds(), a.Kind) {
			continue
		}
		if met = true; !expired {
			e.accepted = append(e.accepted, a.Kind)
			e.Accepted = &Accepting{a.Reason, a.Expires}
			t.accepted = append(t.accepted, a.of(e.message(a.Kind)))
		}
	}
	t.faults = slices.DeleteFunc(t.faults, func(f fault) bool {
		if f.kind != a.Kind || a.Kind.OfEntry() {
			return false
		}
		if met = true; !expired {
			t.accepted = append(t.accepted, a.of(f.message))
		}
		return !expired
	})
	switch {
	case met && expired:
		t.faultOf(a, AcceptExpired, fmt.Sprintf("%s ran out on %s, and the difference is still there", what, a.Expires.UTC().Format(time.DateOnly)))
	case !met && t.looked(a) && t.verdict() != Unknown:
		t.faultOf(a, AcceptUnused, what+" matches nothing")
	case !met:
		t.unmet = append(t.unmet, a.of(""))
	}
}

// ofList are the kinds that take the API's list of KMS to be seen.
var ofList = []Kind{GatewayAppIDMismatch, KMSPubkeyMismatch, KMSContractMismatch}

// looked tells whether the difference would have been seen.
func (t *target) looked(a Accept) bool {
	switch {
	case a.Kind == StorageUnaccounted && t.completeness != Complete,
		a.Kind == UnlistedChainAllowed && t.completeness != Complete && t.completeness != EventsOnly,
		slices.Contains(ofList, a.Kind) && !slices.Contains(t.crossed, a.Kind),
		!a.Kind.OfEntry() && len(t.reasons) > 0:
		return false
	}
	return !slices.ContainsFunc(t.entries, func(e entry) bool {
		return e.List == a.List && e.ID == a.ID && e.Verdict == Unverifiable
	})
}

func (t *target) faultOf(a Accept, k Kind, message string) {
	t.faults = append(t.faults, fault{kind: k, message: message, list: a.List, id: a.ID})
}

func (a Accept) of(message string) Acceptance {
	return Acceptance{a.Kind, a.List, a.ID, message, a.Reason, a.Expires}
}

// accepting makes an entry Accepted once everything that is wrong with it is. Where what is left is no difference, the
// entry cannot be verified.
func (e *entry) accepting() {
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

// lasts is when the first of the accepted differences runs out; zero: none does.
func (p *pass) lasts() time.Time {
	var first time.Time
	for _, a := range p.chain.Accept {
		if a.Chain == p.chain.Name && a.Expires.After(p.began) && (first.IsZero() || a.Expires.Before(first)) {
			first = a.Expires
		}
	}
	return first
}
