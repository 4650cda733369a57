package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// verdict judges a target: worst wins, and without anything compared it is unknown.
func (t *target) verdict() Verdict {
	if t.done != nil {
		return t.done.Verdict
	}
	v := Unknown
	for i := range t.entries {
		if t.entries[i].compared() {
			v = Consistent
			break
		}
	}
	for i := range t.entries {
		switch e := &t.entries[i]; {
		case e.Verdict == Mismatch:
			return Drift
		case e.Verdict == Unverifiable && !(e.Kind == NoHash && e.Claim == ClaimUnknown):
			v = Unknown
		}
	}
	for _, f := range t.faults {
		if kinds[f.kind].makes == Drift {
			return Drift
		}
		v = Worst(v, kinds[f.kind].makes)
	}
	if len(t.reasons) > 0 {
		v = Unknown
	}
	return v
}

// report makes the target's part of the report, once where nothing changes it any more.
func (t *target) report() Target {
	if !t.kept {
		return t.assemble()
	}
	if t.done == nil {
		out := t.assemble()
		t.done, t.entries = &out, nil
	}
	return *t.done
}

func (t *target) assemble() Target {
	out := Target{
		Contract:     t.address.Hex(),
		Verdict:      t.verdict(),
		Reasons:      orEmpty(slices.Clone(t.reasons)),
		Completeness: t.completeness,
		Storage:      t.storage,
		Explained:    t.explained,
		Control:      t.control,
		Baseline:     t.baseline,
		Accepted:     t.accepted,
		Entries:      make([]Entry, 0, len(t.entries)),
		Findings:     []Finding{},
		Crossed:      t.crossed,
		Judged:       t.judged,
		Unmet:        t.unmet,
	}
	for _, f := range t.faults {
		out.Findings = append(out.Findings, f.kind.finding(f.list, f.id, f.message))
	}
	why := map[string]int{}
	for i := range t.entries {
		e := t.entries[i] // a copy
		out.Counts.add(e.Verdict)
		out.Assurance = weaker(out.Assurance, e.Assurance)
		for _, k := range e.kinds() {
			if !slices.Contains(e.accepted, k) {
				out.Findings = append(out.Findings, k.finding(e.List, e.ID, e.message(k)))
			}
		}
		if e.policy != "" && e.Kind.Makes() != Drift && e.Verdict != Unverifiable {
			e.Kind = e.policy
		}
		if e.Kind != "" {
			e.Severity = e.Kind.Severity()
		}
		if e.Verdict == Unverifiable && !(e.Kind == NoHash && e.Claim == ClaimUnknown) {
			why[e.Reason]++
		}
		out.Entries = append(out.Entries, e.Entry)
	}
	for _, r := range entryReasons {
		if n := why[r.reason]; n > 0 {
			out.Reasons = append(out.Reasons, fmt.Sprintf("%d of %d entries: %s", n, len(t.entries), r.text))
		}
	}
	if out.Verdict == Unknown && len(out.Reasons) == 0 && len(out.Findings) == 0 {
		reason := "the API lists no device and no OS image of this contract: nothing was compared"
		if len(t.entries) > 0 {
			reason = "nothing was compared: of what is accepted, one side is not known"
		}
		out.Reasons = append(out.Reasons, reason)
	}
	slices.SortStableFunc(out.Findings, func(a, b Finding) int {
		return cmp.Or(a.Severity.rank()-b.Severity.rank(), slices.Index(Kinds, a.Kind)-slices.Index(Kinds, b.Kind))
	})
	return out
}

// entryReasons says for each reason of an entry what it means to the target.
var entryReasons = []struct{ reason, text string }{
	{ReasonUnconfirmed, "a difference was seen and could not be confirmed"},
	{ReasonNotRead, "the contract's answer could not be read"},
	{ReasonClaimAbsent, "the API gives no answer (null)"},
	{ReasonMalformed, "the id is not 32 bytes of hex"},
	{ReasonNoHash, "the API makes a claim about an image without a hash"},
	{ReasonNotAudited, "not compared, since the chain ids disagree"},
}

func (c *Counts) add(v EntryVerdict) {
	switch v {
	case Match:
		c.Match++
	case Mismatch:
		c.Mismatch++
	case Pending:
		c.Pending++
	case Accepted:
		c.Accepted++
	default:
		c.Unverifiable++
	}
}

// finding has an id of its own: a finding is remembered for long, and the id of an entry may be a part of the API's answer.
func (k Kind) finding(list List, id, message string) Finding {
	return Finding{Kind: k, Severity: k.Severity(), List: list, ID: strings.Clone(id), Message: message, Runbook: k.Runbook()}
}

// weaker returns the assurance that less rests on; empty is none.
func weaker(a, b Assurance) Assurance {
	switch {
	case a == "" || b == Single:
		return b
	case b == "" || a == Single || a == Agreed:
		return a
	default:
		return b
	}
}

func (s Severity) rank() int { return slices.Index([]Severity{Critical, Warning, Info}, s) }

// message says in one sentence what is wrong with the entry.
func (e *entry) message(k Kind) string {
	what := "device"
	if e.List == OSImage {
		what = "OS image"
	}
	if e.Name != "" {
		what += " " + e.Name
	}
	if e.Version != "" && !strings.HasSuffix(e.Name, e.Version) {
		what += " " + e.Version
	}
	switch k {
	case PolicyDeniedAllowed:
		return what + ": the policy does not list it, the contract allows it"
	case PolicyAllowedDenied:
		return what + ": the policy wants it, the contract refuses it"
	case ClaimAllowedChainDenied:
		return what + ": the API says allowed, the contract refuses it"
	case ClaimDeniedChainAllowed:
		return what + ": the API says denied, the contract allows it"
	case UnlistedChainAllowed:
		return what + ": the contract allows it, the API does not list it"
	case ClaimUnknownKind:
		return what + ": the API gives no answer (null), the contract says " + string(e.OnChain)
	case NoHash:
		return what + ": the API lists it without a hash"
	case MalformedID:
		return what + ": the API's id " + e.ID + " is not 32 bytes of hex"
	default:
		return what + ": the API lists it more than once, with claims that differ; the contract says " + string(e.OnChain)
	}
}
