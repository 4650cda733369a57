package audit

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Outcome is Judge's result for one chain.
type Outcome struct {
	Chain   Chain
	Absent  bool // leave the chain out of the report: the API names no KMS on it (Intent.Discover)
	Next    Prior
	Changes []Change // findings that opened, are still open, or were resolved, in report order

	LookAgain bool        // something new is wrong: a second look may confirm it
	AskHead   []HeadQuery // reads at the newest block, which may already be right
}

// Judge compares the looks at a chain with what the operator wants and with what earlier audits left open. An outcome that
// asks for another look is preliminary.
func Judge(intent Intent, prior Prior, looks Looks) Outcome {
	j := newJudgement(&intent, &prior, &looks)
	out := Outcome{LookAgain: j.news && looks.Second == nil && looks.Interrupted == "", AskHead: j.headQueries()}
	if j.wentBack {
		j.dropDifferences()
	} else {
		j.applyHead()
	}
	j.applyExceptions()
	j.beginBaselines()
	j.requireL1()
	out.Absent = j.absent()
	j.carryOver(&out)
	out.Chain = j.report()
	j.remember(&out.Next)
	return out
}

// judgement is a chain while it is being judged.
type judgement struct {
	intent   *Intent
	prior    *Prior
	looks    *Looks
	look     *Observation // the look that counts: the second, unless it saw less than the first
	other    *Observation // the other look, or nil
	targets  []*target
	open     map[findingKey]*OpenFinding // what earlier audits left open
	crossed  bool                        // the claim was compared with the API's list of KMS
	reopened map[findingKey]bool         // findings of open that had ended at a block that L1 does not confirm
	against  []string                    // how L1 contradicts audited blocks
	unsure   bool                        // L1 contradicted a block, or did not confirm it in time, and has not confirmed a later one
	news     bool                        // the look shows a new difference
	wentBack bool
}

func newJudgement(intent *Intent, prior *Prior, looks *Looks) *judgement {
	j := &judgement{intent: intent, prior: prior, looks: looks, look: &looks.First, other: looks.Second, open: map[findingKey]*OpenFinding{}}
	if intent.L1 != nil {
		prior = j.byL1(prior)
		j.prior = prior
	}
	for i := range prior.Open {
		j.open[prior.Open[i].key()] = &prior.Open[i]
	}
	if j.sawBoth(looks.Second) || looks.Second != nil && !j.sawBoth(&looks.First) {
		j.look, j.other = looks.Second, &looks.First
	}
	var other []*target
	if j.other != nil {
		other = j.compare(j.other)
	}
	j.targets = j.compare(j.look)
	// Blocks are compared with those of the same tag and of tags that name older blocks.
	j.wentBack = j.look.Block != nil && j.prior.WentBack(j.look.Tag, j.look.Block)
	j.news = !j.wentBack && slices.ContainsFunc(j.targets, j.hasNews)
	j.confirm(other)
	j.contradictedByL1()
	return j
}

// hasNews reports whether the target has a difference that no earlier audit left open.
func (j *judgement) hasNews(t *target) bool {
	isNew := func(k Kind, l List, id string) bool {
		return k != "" && k.Makes() == Drift && j.open[t.key(k, l, id)] == nil
	}
	return slices.ContainsFunc(t.Findings, func(f Finding) bool { return isNew(f.Kind, f.List, f.ID) }) ||
		find(t.entries, func(e *entry) bool { return isNew(e.Kind, e.List, e.ID) || isNew(e.policyKind, e.List, e.ID) }) != nil
}

// sawBoth reports whether the look read both the claim and the chain, or the chain if there are no claims.
func (j *judgement) sawBoth(o *Observation) bool {
	return o != nil && o.Block != nil && (o.Claim != nil || j.intent.NoClaims)
}

// Self is the source of this program's own failures.
const Self = "kms-auditor"

// errors lists the failures of all looks, each once.
func (j *judgement) errors() []SourceError {
	out := []SourceError{}
	if j.looks.Interrupted != "" {
		out = append(out, SourceError{StageInternal, Self, "the audit ended before its second look: " + j.looks.Interrupted})
	}
	for _, o := range j.looks.All() {
		for _, f := range o.Failures {
			if !slices.Contains(out, f.SourceError) {
				out = append(out, f.SourceError)
			}
		}
	}
	if j.look.Claim != nil && len(j.targets) == 0 {
		out = append(out, SourceError{StageAPI, "api", "the API lists no contract on this chain, and none is configured, so nothing was compared"})
	}
	return out
}

// tagRank orders tags by the age of their blocks, oldest first. mayGoBack is how many blocks a tag may go back. The rank of a
// number or a hash is 0.
func tagRank(tag string) (rank int, mayGoBack uint64) {
	switch tag {
	case "finalized":
		return 1, 0
	case "safe":
		return 2, 0
	case "latest":
		return 3, headSlack
	}
	if _, err := fmt.Sscanf(tag, "latest-%d", &mayGoBack); err == nil {
		return 3, mayGoBack
	}
	return 0, 0
}

// headSlack is how many blocks the head may go back because of a reorganisation or because another node answers.
const headSlack = 32

// LowestBlock returns the lowest block that a tag may name without going back.
func (p *Prior) LowestBlock(tag string) (lowest uint64) {
	p.floors(tag, func(number uint64, _ time.Time) { lowest = max(lowest, number) })
	return lowest
}

// WentBack reports whether a block that a tag names is older than one that was audited before.
func (p *Prior) WentBack(tag string, b *Block) (back bool) {
	p.floors(tag, func(number uint64, at time.Time) { back = back || !b.Follows(number, at) })
	return back
}

// floors yields the lowest blocks that a tag may name without going back, and when they were audited.
func (p *Prior) floors(tag string, yield func(number uint64, at time.Time)) {
	rank, allowed := tagRank(tag)
	for _, b := range p.Blocks {
		if r, _ := tagRank(b.Tag); rank > 0 && r > 0 && r <= rank && b.Number > allowed {
			yield(b.Number-allowed, b.At)
		}
	}
}

// dropDifferences discards the results of a pinned block that is older than one audited before, and adds ChainWentBack.
func (j *judgement) dropDifferences() {
	for _, t := range j.targets {
		t.Findings = slices.DeleteFunc(t.Findings, func(f Finding) bool { return f.Kind.Makes() == Drift })
		for i := range t.entries {
			if e := &t.entries[i]; e.Verdict == Mismatch || e.Verdict == Match || e.Reason == ReasonNotRead {
				e.drop(ReasonWentBack)
			}
		}
		_, slack := tagRank(j.look.Tag)
		t.find(ChainWentBack, "the pinned block %d is older than block %d, which was audited before", j.look.Block.Number, j.prior.LowestBlock(j.look.Tag)+slack)
	}
}

// absent reports whether to leave the chain out of the report: discovery is on, the API names no KMS on it, and no audit knows a
// contract there.
func (j *judgement) absent() bool {
	o := j.look
	return j.intent.Discover && !o.ListingFailed && len(o.Listing) == 0 && len(j.prior.Contracts) == 0 && len(j.prior.Open) == 0 &&
		(o.ChainUnknown || o.Claim != nil && len(o.Claim.Contracts) == 0)
}

// beginBaselines records the first known value of each field as the baseline. It adds the code that runs once that is proven.
func (j *judgement) beginBaselines() {
	if !j.intent.Baselines || j.wentBack {
		return
	}
	for _, t := range j.targets {
		if t.Control == nil {
			continue
		}
		is, b := &t.reading.Control, Baseline{Control: *t.Control, Since: j.looks.First.At}
		b.Control.Read = nil // Learn decides which of these fields to record
		if t.Baseline != nil {
			b = *t.Baseline
		} else if is.CodeErr != "" || !is.Owner.Known || !is.PendingOwner.Known || !is.Implementation.Known {
			continue
		}
		if t.Control.Completes(&b.Control.Code) && is.Implementation.Value == b.Control.Implementation {
			b.Control.Code, b.Control.Implementation = t.Control.Code, t.Control.Implementation
		}
		b.Control = b.Control.Learn(*t.Control, t.reading.Assurance == Proven, t.Completeness == Complete)
		t.Baseline = &b
	}
}

// report makes the chain's part of the report.
func (j *judgement) report() Chain {
	out := Chain{Chain: j.intent.Chain, ChainID: j.intent.ChainID, Errors: j.errors(), Targets: []Target{}, Policy: j.look.Tag, Block: j.look.Block,
		Claims: map[bool]ClaimState{true: ClaimNone}[j.intent.NoClaims]}
	out.Anchored, out.L1Anchored = j.anchoredThrough()
	out.Trusts = j.intent.Trusts()
	if out.Block != nil {
		if b := find(j.prior.L1, func(b *L1Block) bool { return b.Hash.Hex() == out.Block.Hash && b.Confirmed() }); b != nil {
			out.Block = b.block()
		}
	}
	if out.Policy == "" && len(j.intent.Tags) > 0 {
		out.Policy = j.intent.Tags[0]
	}
	if j.look.Claim != nil {
		claim := j.look.Claim.Claim // a copy, so that the report does not keep the whole answer alive
		out.Claim = &claim
	}
	for _, t := range j.targets {
		out.Targets = append(out.Targets, t.report())
	}
	out.Verdict = worst(out.Targets, func(t Target) Verdict { return t.Verdict })
	return out
}

// verdict returns the worst of the target's entries and findings, or Unknown if nothing was compared.
func (t *target) verdict() Verdict {
	consistent, compared, empty := len(t.Reasons) == 0, false, t.noClaims && t.Completeness == Complete
	for i := range t.entries {
		switch e := &t.entries[i]; {
		case e.Verdict == Mismatch:
			return Drift
		case e.Verdict == Unverifiable && !e.harmless():
			consistent = false
		case e.Verdict == Pending:
			empty = false
		case e.compared():
			compared = true
		}
	}
	for _, f := range t.Findings {
		switch makes := f.Kind.Makes(); {
		case makes == Drift && f.State == Confirmed:
			return Drift
		case makes != Consistent:
			consistent = false
		}
	}
	if consistent && (compared || empty) { // with a policy of empty lists, proven completeness is the comparison
		return Consistent
	}
	return Unknown
}

// harmless reports whether the entry is an image without a hash and without a claim, so that there is nothing to compare.
func (e *Entry) harmless() bool { return e.Kind == NoHash && e.Claim == ClaimUnknown }

// report makes the target's part of the report.
func (t *target) report() Target {
	out := t.Target
	out.Verdict = t.verdict()
	if t.reading.read() {
		out.Storage, out.Assurance = t.reading.Storage, t.reading.Assurance
	}
	why := map[string]int{}
	for i := range t.entries {
		e := &t.entries[i]
		*out.Counts.of(e.Verdict)++
		if e.policyKind != "" && e.Kind.Makes() != Drift && e.Verdict != Unverifiable {
			e.Kind = e.policyKind
		}
		if e.Kind != "" {
			e.Severity = e.Kind.Severity()
		}
		if e.Verdict == Unverifiable && !e.harmless() {
			why[e.Reason]++
		}
		if i >= len(t.Entries) {
			out.Entries = append(out.Entries, *e.Entry)
		}
	}
	for _, r := range entryReasons {
		if n := why[r.reason]; n > 0 {
			out.Reasons = append(out.Reasons, fmt.Sprintf("%d of %d entries: %s", n, len(t.entries), r.text))
		}
	}
	if out.Verdict == Unknown && len(out.Reasons) == 0 && !slices.ContainsFunc(out.Findings, func(f Finding) bool { return f.Kind.Makes() != Consistent }) {
		out.Reasons = append(out.Reasons, t.whyNothing(out.Counts))
	}
	slices.SortStableFunc(out.Findings, func(a, b Finding) int {
		return cmp.Or(slices.Index(severities, a.Severity)-slices.Index(severities, b.Severity),
			slices.Index(Kinds, a.Kind)-slices.Index(Kinds, b.Kind), cmp.Compare(a.List, b.List))
	})
	return out
}

// whyNothing returns the reason why nothing was compared.
func (t *target) whyNothing(n Counts) string {
	switch {
	case t.noClaims && n.Pending == 0:
		return "the policy lists no id that could be compared, and it is not proven that the contract allows nothing else"
	case n == Counts{Unclaimed: n.Unclaimed}:
		return "the API lists no device or OS image for this contract, so nothing was compared"
	case n.Pending > 0:
		return "every entry is pending, so nothing was compared at the pinned block"
	default:
		return "nothing was compared: for every entry, the claim or the contract's answer is missing"
	}
}

// entryReasons are the reasons of entries, and the sentences that a target shows for them.
var entryReasons = []struct{ reason, text string }{
	{ReasonUnconfirmed, "a difference was seen but could not be confirmed"},
	{ReasonHeadAgrees, "anchor.required: only the newest block agrees, and the anchor does not vouch for it"},
	{ReasonNotRead, "the contract's answer could not be read"},
	{ReasonNoClaim, "the API was not read"},
	{ReasonClaimAbsent, "the API gives no answer (null)"},
	{ReasonMalformed, "the id is not 32 bytes of hex"},
	{ReasonNoHash, "the API makes a claim about an image without a hash"},
	{ReasonNotAudited, "not compared, because the chain ids disagree"},
	{ReasonWentBack, "not compared, because the pinned block is older than one that was audited before"},
}

// NewReport puts the chains of an audit into a report.
func NewReport(id, version string, started, finished time.Time, chains []Chain) *Report {
	return &Report{
		Schema: Schema, AuditID: id, Version: version, StartedAt: started, FinishedAt: finished,
		Verdict: worst(chains, func(c Chain) Verdict { return c.Verdict }), Chains: append([]Chain{}, chains...),
	}
}
