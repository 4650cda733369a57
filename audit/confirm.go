package audit

import (
	"fmt"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
)

// confirm keeps a new difference only if both looks saw it. A difference that only one look saw is unstable. Without a second
// look (other is nil) no new difference is kept.
func (j *judgement) confirm(other []*target) {
	for _, t := range j.targets {
		o := targetAt(other, t.address)
		if o == nil {
			o = newTarget(t.address) // the other look did not see it
		}
		j.confirmEntries(t, o)
		j.confirmFindings(t, o)
		if j.look == &j.looks.First && o.claimRead {
			t.unsettleByNewerClaim(o)
		}
	}
}

// unsettleByNewerClaim keeps a finding open that is true again by the claim of the newer look, which did not read the chain.
func (t *target) unsettleByNewerClaim(o *target) {
	for k, at := range t.at {
		e := entry{Entry: &Entry{List: k.list, ID: k.id.Hex(), Claim: ClaimUnlisted, OnChain: ChainDenied}}
		if at >= 0 {
			e.OnChain = t.entries[at].OnChain
		}
		if was := o.entry(k); was != nil {
			e.Claim, e.conflict = was.Claim, was.conflict
		}
		e.judge()
		for _, kind := range e.kinds() {
			t.unsettled[t.key(kind, e.List, e.ID)] = true
		}
	}
}

func (j *judgement) confirmEntries(t, o *target) {
	for i := range t.entries {
		if e := &t.entries[i]; e.valid {
			j.confirmEntry(t, e, o.entry(listID{e.List, e.id}))
		}
	}
	// Entries that only the other look has: the contract now refuses the id, and no source names it.
	for i := range o.entries {
		if was := &o.entries[i]; was.valid && t.entry(listID{was.List, was.id}) == nil {
			for _, k := range was.kinds() {
				t.unstable(k, was.List, was.ID, was.message(ClaimUnstable))
			}
		}
	}
}

func (j *judgement) confirmEntry(t *target, e, was *entry) {
	before := was.kinds()
	for _, k := range e.kinds() {
		if k.Makes() != Drift || slices.Contains(before, k) || j.open[t.key(k, e.List, e.ID)] != nil {
			continue
		}
		if j.sawBoth(j.other) && (was == nil || was.Reason != ReasonNotRead) {
			t.unstable(k, e.List, e.ID, e.message(ClaimUnstable))
		}
		e.remove(k)
	}
	for _, k := range before {
		if k.Makes() != Drift || slices.Contains(e.kinds(), k) {
			continue
		}
		if e.Reason == ReasonNotRead || e.Reason == ReasonNoClaim {
			t.unsettled[t.key(k, e.List, e.ID)] = true
			e.unverifiable(ReasonUnconfirmed)
		} else if e.Reason != ReasonUnconfirmed {
			t.unstable(k, e.List, e.ID, e.message(ClaimUnstable))
		}
	}
}

// remove removes a kind that could not be confirmed. If no drift remains, the entry is unverifiable.
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

// unstable notes that only one of two looks saw a difference.
func (t *target) unstable(k Kind, list List, id, message string) {
	if k.Makes() != Drift {
		return
	}
	t.unsettled[t.key(k, list, id)] = true
	if !t.saw(ClaimUnstable, list, id) {
		t.findOf(ClaimUnstable, list, id, message)
	}
}

const notConfirmed = "a second look could not confirm %s: %s"

func (j *judgement) confirmFindings(t, o *target) {
	once := func(k Kind) { t.unstable(k, "", "", fmt.Sprintf("only one of two looks saw %s", k)) }
	for _, f := range slices.Clone(t.Findings) {
		if f.Kind.Makes() != Drift || o.has(f.Kind) || j.open[t.key(f.Kind, "", "")] != nil {
			continue
		}
		t.Findings = slices.DeleteFunc(t.Findings, func(g Finding) bool { return g == f })
		t.looked[f.Kind] = false
		t.reason(notConfirmed, f.Kind, f.Message)
		if j.sawBoth(j.other) && o.looksAt(f.Kind) {
			once(f.Kind)
		}
	}
	for _, f := range o.Findings {
		switch {
		case f.Kind.Makes() != Drift || t.has(f.Kind):
		case t.looksAt(f.Kind):
			once(f.Kind)
		default:
			t.unsettled[t.key(f.Kind, "", "")] = true
			t.reason(notConfirmed, f.Kind, f.Message)
		}
	}
}

// HeadQuery lists a contract's ids that differ at the pinned block and must be read at the newest one.
type HeadQuery struct {
	Contract common.Address
	IDs      map[List][]common.Hash
}

// headQueries returns the reads to make at the newest block.
func (j *judgement) headQueries() []HeadQuery {
	if j.looks.Second == nil || j.looks.Head != nil || !j.headMatters() { // without a second look nothing new is confirmed
		return nil
	}
	var out []HeadQuery
	for _, t := range j.targets {
		young := j.newlyGone(t)
		q := HeadQuery{t.address, map[List][]common.Hash{}}
		for i := range t.entries {
			if e := &t.entries[i]; j.mayBePending(t, e, young) {
				q.IDs[e.List] = append(q.IDs[e.List], e.id)
			}
		}
		if young || len(q.IDs) > 0 {
			out = append(out, q)
		}
	}
	return out
}

// headMatters reports whether a newer block may already agree.
func (j *judgement) headMatters() bool {
	rank, _ := tagRank(j.look.Tag)
	return j.intent.PendingMax > 0 && rank > 0 && j.look.Tag != "latest" && !j.wentBack
}

// newlyGone reports whether nothing is deployed and no earlier audit left that open.
func (j *judgement) newlyGone(t *target) bool {
	return t.has(NoCode) && j.open[t.key(NoCode, "", "")] == nil
}

// mayBePending reports whether the head may already agree with the claim. A finding that an earlier audit left open is never
// pending: it ends when the pinned block agrees. young means that the contract was deployed after the pinned block.
func (j *judgement) mayBePending(t *target, e *entry, young bool) bool {
	if e.conflict || !e.valid || e.noClaim || e.wrongChain {
		return false
	}
	if e.Verdict != Mismatch {
		return young && e.Claim != ClaimUnknown
	}
	return !slices.ContainsFunc(e.kinds(), func(k Kind) bool { return j.open[t.key(k, e.List, e.ID)] != nil })
}

// applyHead makes differences pending that are gone at the head. A difference is not confirmed if the head could not be read
// with at least the assurance of the pinned block.
func (j *judgement) applyHead() {
	if !j.headMatters() {
		return
	}
	for _, t := range j.targets {
		head := j.looks.Head.Reading(t.address)
		if j.newlyGone(t) {
			asked := head.read() && !head.Assurance.weakerThan(t.reading.Assurance)
			t.young = asked && head.HasCode && j.stillPending(PendingChange{Contract: t.address})
			if !asked || t.young {
				t.Findings = slices.DeleteFunc(t.Findings, func(f Finding) bool { return f.Kind == NoCode })
			}
			if !asked {
				t.unsettled[t.key(NoCode, "", "")] = true
				t.reason("nothing is deployed at the pinned block, and the newest block could not be read")
			}
		}
		answers := map[listID]*Answer{}
		for i := 0; head != nil && i < len(head.Answers); i++ {
			answers[listID{head.Answers[i].List, head.Answers[i].ID}] = &head.Answers[i]
		}
		for i := range t.entries {
			e := &t.entries[i]
			if !j.mayBePending(t, e, t.young) {
				continue
			}
			switch a := answers[listID{e.List, e.id}]; {
			case a == nil || a.Err != "" || head.Assurance.weakerThan(e.Assurance):
				e.drop(ReasonUnconfirmed)
			case e.would(a.Allowed) == Match && j.stillPending(PendingChange{Contract: t.address, List: e.List, ID: e.id}):
				if e.drop(ReasonHeadAgrees); !j.intent.AnchorMust { // the anchor does not vouch for the head
					e.Verdict = Pending
				}
			}
		}
	}
}

// stillPending reports whether the pinned block may be too old to have a change. A provider can invent a head, so the change
// must be in every block that the anchor or L1 vouches for and that was made after a head first had it. A block from the future
// shows that our clock is behind, so its time says nothing.
func (j *judgement) stillPending(c PendingChange) bool {
	since, _ := j.pendingSince(c)
	overdue := j.look.Block.vouchedAfter(since) && !j.look.Block.Time.After(j.look.At)
	return j.looks.First.At.Sub(since) <= j.intent.PendingMax && !overdue
}

// pendingSince returns since when a change is pending. For a new change it returns the time of this audit and false.
func (j *judgement) pendingSince(c PendingChange) (time.Time, bool) {
	for _, o := range j.prior.Pending {
		if c.Since = o.Since; c == o {
			return o.Since, true
		}
	}
	return j.looks.First.At, false
}
