package audit

import (
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
)

// confirm keeps of what is new and drifts only what the other look saw too. other is nil where there is none: then nothing
// new is confirmed. What one look saw and the other did not is unstable.
func (j *judgement) confirm(other []*target) {
	for _, t := range j.targets {
		var o *target
		if i := slices.IndexFunc(other, sameAddress(t.address)); i >= 0 {
			o = other[i]
		}
		j.confirmEntries(t, o)
		j.confirmFindings(t, o)
	}
}

func (j *judgement) confirmEntries(t, o *target) {
	seen := map[listID]*entry{}
	if o != nil {
		for i := range o.entries {
			if e := &o.entries[i]; e.valid {
				seen[listID{e.List, e.id}] = e
			}
		}
	}
	for i := range t.entries {
		e := &t.entries[i]
		if !e.valid {
			continue
		}
		k := listID{e.List, e.id}
		was := seen[k]
		delete(seen, k)
		j.confirmEntry(t, e, was)
	}
	// An entry that the look which counts has no more: the contract refuses the id, and nobody names it.
	if o == nil || len(seen) == 0 {
		return
	}
	for i := range o.entries { // in their order
		if was := &o.entries[i]; was.valid && seen[listID{was.List, was.id}] == was {
			for _, k := range was.kinds() {
				j.unstable(t, was, k)
			}
		}
	}
}

func (j *judgement) confirmEntry(t *target, e, was *entry) {
	var before []Kind
	if was != nil {
		before = was.kinds()
	}
	for _, k := range e.kinds() {
		if k.Makes() != Drift || slices.Contains(before, k) || j.isOpen(t, k, e.List, e.ID) {
			continue
		}
		if j.other.compared() && (was == nil || was.Reason != ReasonNotRead) {
			j.unstable(t, e, k)
		}
		e.remove(k)
	}
	for _, k := range before {
		if k.Makes() != Drift || slices.Contains(e.kinds(), k) {
			continue
		}
		if e.Reason == ReasonNotRead || e.Reason == ReasonNoClaim {
			t.unsettled[findingKey{t.address.Hex(), k, e.List, e.ID}] = true
			e.unverifiable(ReasonUnconfirmed)
		} else if e.Reason != ReasonUnconfirmed {
			j.unstable(t, e, k)
		}
	}
}

// remove takes back one thing that is wrong with the entry; what cannot be confirmed cannot be verified.
func (e *entry) remove(k Kind) {
	if e.policyKind == k {
		e.policyKind = ""
	} else {
		e.Kind = ""
	}
	if e.Kind.Makes() != Drift && e.policyKind == "" {
		e.drop(ReasonUnconfirmed)
	}
}

// unstable notes that one of two looks saw a difference of an entry.
func (j *judgement) unstable(t *target, e *entry, k Kind) {
	if k.Makes() != Drift {
		return
	}
	t.unsettled[findingKey{t.address.Hex(), k, e.List, e.ID}] = true
	t.findOnce(finding{kind: ClaimUnstable, list: e.List, id: e.ID, message: e.message(ClaimUnstable), state: Confirmed})
}

func (t *target) findOnce(f finding) {
	if !slices.ContainsFunc(t.findings, func(o finding) bool { return o.kind == f.kind && o.list == f.list && o.id == f.id }) {
		t.findings = append(t.findings, f)
	}
}

func (j *judgement) confirmFindings(t, o *target) {
	saw := func(t *target, f finding) bool {
		return t != nil && slices.ContainsFunc(t.findings, func(g finding) bool { return g.kind == f.kind && g.list == f.list && g.id == f.id })
	}
	once := func(f finding) {
		t.unsettled[findingKey{t.address.Hex(), f.kind, f.list, f.id}] = true
		t.findOnce(finding{kind: ClaimUnstable, message: "one of two looks saw " + string(f.kind) + ", the other did not", state: Confirmed})
	}
	for _, f := range slices.Clone(t.findings) {
		if f.kind.Makes() != Drift || saw(o, f) || j.isOpen(t, f.kind, f.list, f.id) {
			continue
		}
		t.findings = slices.DeleteFunc(t.findings, func(g finding) bool { return g == f })
		t.judged[f.kind] = false
		t.unconfirmed(f)
		if o != nil && j.other.compared() && o.looksAt(f.kind) {
			once(f)
		}
	}
	if o == nil {
		return
	}
	for _, f := range o.findings {
		switch {
		case f.kind.Makes() != Drift || saw(t, f):
		case t.looksAt(f.kind):
			once(f)
		default:
			t.unsettled[findingKey{t.address.Hex(), f.kind, f.list, f.id}] = true
			t.unconfirmed(f)
		}
	}
}

func (t *target) unconfirmed(f finding) {
	t.reason("%s could not be confirmed by a second look: %s", f.kind, f.message)
}

// HeadQuery asks the newest block for what differs at the pinned one.
type HeadQuery struct {
	Contract common.Address
	Devices  []common.Hash
	OSImages []common.Hash
}

// HeadQueries lists what to ask at the newest block; nil: nothing.
func HeadQueries(intent Intent, prior Prior, looks Looks) []HeadQuery {
	if looks.Second == nil {
		return nil // nothing new is confirmed
	}
	j := newJudgement(&intent, &prior, &looks)
	if !j.headMatters() {
		return nil
	}
	var out []HeadQuery
	for _, t := range j.targets {
		young := t.has(NoCode) && !j.isOpen(t, NoCode, "", "")
		q := HeadQuery{Contract: t.address}
		for i := range t.entries {
			switch e := &t.entries[i]; {
			case !j.mayBePending(t, e, young):
			case e.List == Device:
				q.Devices = append(q.Devices, e.id)
			default:
				q.OSImages = append(q.OSImages, e.id)
			}
		}
		if young || len(q.Devices)+len(q.OSImages) > 0 {
			out = append(out, q)
		}
	}
	return out
}

// headMatters reports whether a newer block may already agree.
func (j *judgement) headMatters() bool {
	rank, _ := tagRank(j.look.Tag)
	return j.intent.PendingMax > 0 && rank > 0 && j.look.Tag != "latest" && !j.goesBack()
}

// mayBePending reports whether the head may already say what the claim says. What an earlier audit left open is not
// pending: it ends when the pinned block agrees. young: the contract was deployed after the pinned block.
func (j *judgement) mayBePending(t *target, e *entry, young bool) bool {
	if e.conflict || !e.valid || e.noClaim || e.wrongChain {
		return false
	}
	if e.Verdict != Mismatch {
		return young && e.Claim != ClaimUnknown
	}
	for _, k := range e.kinds() {
		if j.isOpen(t, k, e.List, e.ID) {
			return false
		}
	}
	return true
}

// applyHead makes pending what the head has right already. Where the head could not be asked, or is not as sure as the
// pinned block, nothing is confirmed.
func (j *judgement) applyHead() {
	if !j.headMatters() {
		return
	}
	for _, t := range j.targets {
		head := j.looks.Head.Reading(t.address)
		young := false
		if t.has(NoCode) && !j.isOpen(t, NoCode, "", "") {
			asked := head.read() && !head.Assurance.weakerThan(t.reading.Assurance)
			young = asked && head.HasCode && j.stillPending(PendingChange{Contract: t.address})
			if !asked || young {
				t.findings = slices.DeleteFunc(t.findings, func(f finding) bool { return f.kind == NoCode })
			}
			if !asked {
				t.unsettled[findingKey{t.address.Hex(), NoCode, "", ""}] = true
				t.reason("nothing is deployed at the pinned block, and the newest could not be asked")
			}
			t.young = young
		}
		answers := head.index()
		for i := range t.entries {
			e := &t.entries[i]
			if !j.mayBePending(t, e, young) {
				continue
			}
			a, ok := answers[listID{e.List, e.id}]
			switch {
			case !ok || a.Err != "" || head.Assurance.weakerThan(e.Assurance):
				e.drop(ReasonUnconfirmed)
			case e.at(a.Allowed).Verdict == Match && j.stillPending(PendingChange{t.address, e.List, e.id, time.Time{}}):
				e.drop(ReasonHeadAgrees)
				e.Verdict = Pending
			}
		}
	}
}

func (j *judgement) stillPending(c PendingChange) bool {
	return j.looks.First.At.Sub(j.prior.pendingSince(c, j.looks.First.At)) <= j.intent.PendingMax
}

// pendingSince returns since when a change is pending; now where it is new.
func (p *Prior) pendingSince(c PendingChange, now time.Time) time.Time {
	for _, o := range p.Pending {
		if o.Contract == c.Contract && o.List == c.List && o.ID == c.ID {
			return o.Since
		}
	}
	return now
}
