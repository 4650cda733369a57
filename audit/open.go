package audit

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// ChangeType is what happened to a finding. The values are log events.
type ChangeType string

const (
	Opened   ChangeType = "finding_opened"
	Open     ChangeType = "finding_open" // a reminder, once a day
	Resolved ChangeType = "finding_resolved"
)

// Change is a finding that opened, is still open, or was resolved.
type Change struct {
	Type     ChangeType `json:"type"`
	Chain    string     `json:"chain"`
	Contract string     `json:"contract"`
	Finding  Finding    `json:"finding"`
	Block    uint64     `json:"block,omitempty"` // at which it was last confirmed
	At       time.Time  `json:"at"`              // of the audit
}

// reminder is how often an open finding is logged again.
const reminder = 24 * time.Hour

// carryOver merges the findings of this audit with those that earlier audits left open. An open finding ends only if this audit
// looked at the same thing again, at no older block and with no weaker assurance, and found it right.
func (j *judgement) carryOver(out *Outcome) {
	now := j.looks.First.At
	done := map[findingKey]*Finding{} // two differences of one kind (say, two public keys) are one finding
	for _, t := range j.targets {
		t.addEntryFindings()
		for i := range t.Findings {
			f := &t.Findings[i]
			k := t.key(f.Kind, f.List, f.ID)
			if same := done[k]; same != nil {
				f.FirstSeen, f.LastConfirmedAt = same.FirstSeen, same.LastConfirmedAt
				continue
			}
			done[k] = f
			open, change, first := OpenFinding{Contract: t.Contract, Logged: now}, Opened, now
			if was := j.open[k]; was != nil {
				delete(j.open, k)
				if open = *was; !j.reopened[k] {
					change = Open
				}
				if was.Finding.FirstSeen.Before(now) { // otherwise the clock was set back
					first = *was.Finding.FirstSeen
				}
			}
			f.FirstSeen, f.LastConfirmedAt = &first, &now
			if b := j.look.Block; b != nil && b.Follows(open.Block, open.lastConfirmed()) {
				open.Block = b.Number
			}
			if t.reading.read() && open.Assurance.weakerThan(t.reading.Assurance) {
				open.Assurance = t.reading.Assurance
			}
			if t.reading.read() && open.Trust.weakerThan(j.look.Block.Trust) {
				open.Trust = j.look.Block.Trust
			}
			open.Finding = *f
			j.log(out, open, change, now)
		}
		t.dateEntries(done)
	}
	var resolved []Change
	var ended []OpenFinding
	for _, o := range j.prior.Open {
		address, err := sanitize.ParseAddress(o.Contract)
		if err != nil || j.open[o.key()] == nil {
			continue
		}
		t := targetAt(j.targets, address)
		chain := t != nil && j.readAgain(t, &o)
		if t != nil && j.settled(t, &o, chain) || t == nil && (j.intent.NoClaims || j.look.rightChain(j.intent.ChainID)) && !o.Finding.Kind.is(ofContract) {
			if j.intent.NoClaims && o.Finding.Kind.is(ofClaim) {
				o.Finding.Message += " (claims is now none for this chain, so the API is no longer compared)"
			}
			if !j.reopened[o.key()] { // otherwise it was already reported as resolved
				resolved = append(resolved, Change{Resolved, j.intent.Chain, o.Contract, o.Finding, o.Block, now})
			}
			if t != nil && !j.settled(t, &o, false) { // only the chain's answers end it
				ended = append(ended, o)
			}
			continue
		}
		if t == nil {
			t = newTarget(address)
			t.reason("the contract was not audited")
			j.targets = append(j.targets, t)
		}
		o.Finding.State = Still
		f := o.Finding
		f.Severity, f.Runbook = f.Kind.Severity(), f.Kind.Runbook() // those of this release
		t.Findings = append(t.Findings, f)
		j.log(out, o, map[bool]ChangeType{true: Opened, false: Open}[j.reopened[o.key()]], now)
	}
	out.Next.L1 = j.underL1(out.Next.Open, ended)
	out.Changes = append(out.Changes, resolved...)
	slices.SortStableFunc(out.Next.Open, func(a, b OpenFinding) int {
		return cmp.Or(a.Finding.FirstSeen.Compare(*b.Finding.FirstSeen), cmp.Compare(a.Contract, b.Contract), cmp.Compare(a.Finding.Kind, b.Finding.Kind),
			cmp.Compare(a.Finding.List, b.Finding.List), cmp.Compare(a.Finding.ID, b.Finding.ID))
	})
}

// log keeps an open finding, and adds a Change if it is to be logged.
func (j *judgement) log(out *Outcome, o OpenFinding, change ChangeType, now time.Time) {
	switch {
	case change == Opened, now.Sub(o.Logged) >= reminder:
		o.Logged = now
		out.Changes = append(out.Changes, Change{change, j.intent.Chain, o.Contract, o.Finding, o.Block, now})
	case now.Before(o.Logged):
		o.Logged = now
	}
	out.Next.Open = append(out.Next.Open, o)
}

// addEntryFindings adds a finding for each problem of an entry that is not accepted.
func (t *target) addEntryFindings() {
	for i := range t.entries {
		e := &t.entries[i]
		for _, k := range e.kinds() {
			if oneKey := e.ID == ""; slices.Contains(e.accepted, k) || oneKey && t.saw(k, e.List, "") {
				continue // images without a hash share one key
			}
			t.findOf(k, e.List, e.ID, e.message(k))
		}
	}
}

// dateEntries sets FirstSeen of entries from their findings.
func (t *target) dateEntries(findings map[findingKey]*Finding) {
	for i := range t.entries {
		e := &t.entries[i]
		for _, k := range e.kinds() {
			if f := findings[t.key(k, e.List, e.ID)]; f != nil && e.FirstSeen == nil {
				e.FirstSeen = f.FirstSeen
			}
		}
	}
}

// readAgain reports whether this audit read the contract with no weaker assurance or trust than those of a finding, and at a block
// that is not older than the one where the finding was confirmed.
func (j *judgement) readAgain(t *target, o *OpenFinding) bool {
	return t.reading.read() && j.look.Block != nil && j.look.Block.Follows(o.Block, o.lastConfirmed()) && !t.reading.Assurance.weakerThan(j.attainable(o.Assurance)) &&
		(!j.intent.Anchored || !j.look.Block.Trust.weakerThan(o.Trust)) && !j.unsure
}

// settled reports whether this audit checked the subject of an open finding again and found it right. chain reports whether the
// chain's answers count.
func (j *judgement) settled(t *target, o *OpenFinding, chain bool) bool {
	k, f := o.Finding.Kind, &o.Finding
	if t.unsettled[o.key()] {
		return false
	}
	if slices.ContainsFunc(t.Accepted, func(a Acceptance) bool { return t.key(a.Kind, a.List, a.ID) == o.key() }) {
		return true
	}
	if j.wentBack {
		return false
	}
	if k.OfEntry() {
		return j.settledEntry(t, f, chain)
	}
	switch k {
	case ContractNotListed:
		return t.looksAt(k) || !t.configured && !t.known
	case NoCode:
		return chain && t.looksAt(k) || t.claimRead && !t.audited()
	case ChainMismatch:
		return t.claimRead && j.look.Block != nil
	case BlockContradicted:
		if j.intent.L1 != nil {
			return chain && j.looks.First.L1 != nil
		}
		return chain && (!j.intent.Anchored || TrustProviders.weakerThan(j.look.Block.Trust))
	case ProofInvalid, GetterDisagrees:
		return chain && (t.reading.Assurance == Proven || !j.intent.Events)
	case AcceptExpired, AcceptUnused:
		return !slices.ContainsFunc(t.unevaluated, func(x Exception) bool { return x.List == f.List && x.ID == f.ID })
	case ClaimUnstable:
		e := t.entryOf(f)
		return t.claimRead && chain && (e == nil || e.compared() || e.Verdict == Unclaimed)
	case ChainWentBack:
		return j.look.Block != nil
	}
	if k.is(ofClaim) {
		return t.noClaims || t.looksAt(k) && (chain || !k.is(ofContract))
	}
	return k.is(ofContract) && chain && t.looksAt(k)
}

// looksAt reports whether the look read the subject of a finding of this kind about the whole contract.
func (t *target) looksAt(k Kind) bool {
	switch k {
	case StorageUnaccounted:
		return t.Completeness != Unchecked && t.reading.Complete
	case OwnerChanged, ImplementationChanged, CodeChanged, MeasurementsChanged, KMSKeysChanged, GatewayChanged, AppImplChanged,
		GatewayAppIDMismatch, KMSPubkeyMismatch, KMSContractMismatch:
		return t.looked[k]
	case NoCode:
		return t.runs()
	case ContractNotListed, ContractUnexpected:
		return t.claimRead
	}
	return t.reading.read()
}

// settledEntry is settled for a finding about one entry. The finding ends as soon as either side, if read, makes it untrue.
func (j *judgement) settledEntry(t *target, f *Finding, chain bool) bool {
	e, claim, wanted := t.entryOf(f), ClaimUnlisted, PolicyState("")
	allowed, denied := false, false
	if id, err := sanitize.ParseID(f.ID); err == nil {
		wanted = j.intent.Contract(t.address).Policy.State(f.List, id)
		_, denied = t.at[listID{f.List, id}]
	}
	if e != nil {
		claim, allowed, denied = e.Claim, e.OnChain == ChainAllowed, e.OnChain == ChainDenied
	}
	allowed, denied = chain && allowed, chain && denied
	claimLooked := t.claimRead && claim != ClaimUnknown
	// The entry is still wrong, but as another kind.
	renamed := slices.ContainsFunc(t.Findings, func(g Finding) bool {
		return g.List == f.List && g.ID == f.ID && g.Kind.OfEntry() && g.Kind.Makes() == Drift && g.State == Confirmed
	})
	switch f.Kind {
	case ClaimAllowedChainDenied:
		return allowed || claimLooked && claim != ClaimAllowed
	case ClaimDeniedChainAllowed, UnlistedChainAllowed:
		return denied || claimLooked && (claim == ClaimAllowed || renamed || t.noClaims && wanted == PolicyAllowed)
	case PolicyDeniedAllowed:
		return denied || wanted != PolicyDenied
	case PolicyAllowedDenied:
		return allowed || wanted != PolicyAllowed
	case ClaimUnknownKind:
		return claimLooked
	default: // only about the claim
		return t.claimRead
	}
}

// attainable lowers an assurance to the strongest that the configuration allows.
func (j *judgement) attainable(a Assurance) Assurance {
	switch {
	case a == Proven && !j.intent.Events && j.intent.Agreement > 1:
		return Agreed
	case a == Proven && !j.intent.Events, a == Agreed && j.intent.Agreement < 2:
		return Single
	}
	return a
}

// entryOf returns the entry that a finding is about, or nil.
func (t *target) entryOf(f *Finding) *entry {
	if id, err := sanitize.ParseID(f.ID); err == nil {
		return t.entry(listID{f.List, id})
	}
	return find(t.entries, func(e *entry) bool { return e.List == f.List && e.ID == f.ID })
}

// remember fills in what the next audit needs to know, apart from open findings.
func (j *judgement) remember(next *Prior) {
	p := j.prior
	next.Blocks, next.Pending, next.Contracts, next.Finalized = p.Blocks, p.Pending, p.Contracts, p.Finalized
	for _, o := range j.looks.All() {
		f := o.Finalized
		if o.L1 != nil {
			f = &o.L1.Finalized
		}
		if f != nil && (!next.Finalized.from(j.intent.Checkpoint) || f.Slot > next.Finalized.Slot) {
			next.Finalized = &BeaconRoot{f.Slot, f.Root, j.intent.Checkpoint}
		}
	}
	if j.wentBack {
		return
	}
	next.Contracts, next.Pending = j.contracts(), j.pending()
	if rank, _ := tagRank(j.look.Tag); rank > 0 && j.look.Block != nil {
		next.Blocks = slices.Clone(p.Blocks)
		i := slices.IndexFunc(next.Blocks, func(b AuditedBlock) bool { return b.Tag == j.look.Tag })
		if i < 0 {
			i, next.Blocks = len(next.Blocks), append(next.Blocks, AuditedBlock{Tag: j.look.Tag})
		}
		for k := range next.Blocks {
			b := &next.Blocks[k]
			higher := b.Number > j.look.Block.Number
			if higher && j.look.Block.Follows(b.Number, b.At) || !higher && k == i {
				b.Number, b.At = j.look.Block.Number, j.look.At
			}
		}
	}
}

// The most that is remembered.
const (
	maxKnown    = 1000    // contracts that are not configured; the API may list 1,000 per chain
	maxKnownIDs = 200_000 // ids per list; an answer of the API has room for about 100,000
)

// contracts returns the contracts to remember, each with every id that any source named.
func (j *judgement) contracts() []Known {
	out := slices.Clone(j.prior.Contracts)
	for _, t := range j.targets {
		i := slices.IndexFunc(out, func(k Known) bool { return k.Address == t.address })
		if i < 0 {
			if !t.audited() || !t.runs() || !t.configured && len(out) >= maxKnown {
				continue
			}
			i = len(out)
			out = append(out, Known{Address: t.address, Since: j.looks.First.At})
		}
		if t.audited() && t.reading.read() {
			for _, l := range Lists {
				ids := out[i].IDs(l)
				*ids = Union(*ids, t.reading.asked(l), maxKnownIDs)
			}
		}
		out[i].Baseline = cmp.Or(t.Baseline, out[i].Baseline)
	}
	return out
}

// Union returns a sorted list with ids added, up to most elements. The list itself is not changed.
func Union(known []common.Hash, ids iter.Seq[common.Hash], most int) []common.Hash {
	out := slices.Clip(known) // so that append copies
	next := 0                 // index in known; most ids come in the same order
	for id := range ids {
		has := next < len(known) && known[next] == id
		if !has {
			next, has = slices.BinarySearchFunc(known, id, common.Hash.Cmp)
		}
		if next++; !has && len(out) < most {
			out = append(out, id)
		}
	}
	if len(out) > len(known) {
		slices.SortFunc(out, common.Hash.Cmp)
		out = slices.Compact(out)
	}
	return out
}

// pending returns the changes that are not in the pinned block yet.
func (j *judgement) pending() []PendingChange {
	var out []PendingChange
	for _, o := range j.prior.Pending {
		if t := targetAt(j.targets, o.Contract); t != nil && !(t.claimRead && t.reading.read()) {
			out = append(out, o)
		}
	}
	keep := func(c PendingChange, pending, stillDiffers bool) {
		since, waiting := j.pendingSince(c)
		if pending || waiting && stillDiffers {
			c.Since = since
			out = append(out, c)
		}
	}
	for _, t := range j.targets {
		if !t.claimRead || !t.reading.read() {
			continue
		}
		keep(PendingChange{Contract: t.address}, t.young, !t.reading.HasCode)
		for i := range t.entries {
			if e := &t.entries[i]; e.valid {
				keep(PendingChange{Contract: t.address, List: e.List, ID: e.id}, e.Reason == ReasonHeadAgrees, e.Verdict != Match)
			}
		}
	}
	return out
}
