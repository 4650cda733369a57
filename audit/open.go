package audit

import (
	"cmp"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// ChangeType says what became of a finding. The values are the events of the log.
type ChangeType string

// The change types.
const (
	Opened   ChangeType = "finding_opened"
	Open     ChangeType = "finding_open" // a reminder, once a day
	Resolved ChangeType = "finding_resolved"
)

// Change is a finding that opened, is open still, or was resolved.
type Change struct {
	Type     ChangeType `json:"type"`
	Chain    string     `json:"chain"`
	Contract string     `json:"contract"`
	Finding  Finding    `json:"finding"`
	Block    uint64     `json:"block,omitempty"` // where it was last confirmed
	At       time.Time  `json:"at"`              // of the audit
}

// reminder is how often an open finding is logged again.
const reminder = 24 * time.Hour

// carryOver goes through the findings: those of this audit, which are confirmed, and those that earlier audits left open. An
// open finding ends only where this audit looked at the same thing again, at no older block and with no weaker assurance,
// and found it right.
func (j *judgement) carryOver(out *Outcome) {
	now := j.looks.First.At
	before := make(map[findingKey]OpenFinding, len(j.prior.Open))
	for _, o := range j.prior.Open {
		before[o.key()] = o
	}
	done := map[findingKey]*finding{} // two differences of one kind, two public keys say, are one finding
	for _, t := range j.targets {
		t.addEntryFindings()
		for i := range t.findings {
			f := &t.findings[i]
			k := findingKey{t.address.Hex(), f.kind, f.list, f.id}
			if first := done[k]; first != nil {
				f.firstSeen, f.lastConfirmed = first.firstSeen, first.lastConfirmed
				continue
			}
			done[k] = f
			open, known := before[k]
			delete(before, k)
			change := Opened
			if !known {
				open = OpenFinding{Contract: k.contract, Logged: now}
				f.firstSeen = now
			} else {
				f.firstSeen = *open.Finding.FirstSeen
				change = Open
			}
			if now.Before(f.firstSeen) { // the clock was set back
				f.firstSeen = now
			}
			f.lastConfirmed = now
			open.Finding = f.report()
			if b := j.look.Block; b != nil {
				open.Block = max(open.Block, b.Number)
			}
			if t.reading.read() && open.Assurance.weakerThan(t.reading.Assurance) {
				open.Assurance = t.reading.Assurance
			}
			j.log(out, open, change, now)
		}
	}
	for _, o := range j.prior.Open {
		if _, left := before[o.key()]; !left {
			continue
		}
		t := j.targetOf(o.Contract)
		if t != nil && j.settled(t, &o) || t == nil && j.look.rightChain(j.intent.ChainID) && !o.Finding.Kind.aboutChain() {
			out.Changes = append(out.Changes, Change{Resolved, j.intent.Chain, o.Contract, o.Finding, o.Block, now})
			continue
		}
		if t == nil {
			address, err := sanitize.ParseAddress(o.Contract)
			if err != nil {
				continue
			}
			t = &target{address: address, completeness: Unchecked, reasons: []string{"the contract was not audited"}}
			j.targets = append(j.targets, t)
		}
		o.Finding.State = Still
		t.findings = append(t.findings, finding{
			kind: o.Finding.Kind, message: o.Finding.Message, list: o.Finding.List, id: o.Finding.ID, state: Still,
			firstSeen: *o.Finding.FirstSeen, lastConfirmed: *o.Finding.LastConfirmedAt,
		})
		j.log(out, o, Open, now)
	}
	for _, t := range j.targets {
		t.dateEntries()
	}
	slices.SortStableFunc(out.Next.Open, func(a, b OpenFinding) int {
		return cmp.Or(a.Finding.FirstSeen.Compare(*b.Finding.FirstSeen), cmp.Compare(a.Contract, b.Contract), cmp.Compare(a.Finding.Kind, b.Finding.Kind),
			cmp.Compare(a.Finding.List, b.Finding.List), cmp.Compare(a.Finding.ID, b.Finding.ID))
	})
	slices.SortStableFunc(out.Changes, func(a, b Change) int {
		return cmp.Compare(b2i(a.Type == Resolved), b2i(b.Type == Resolved))
	})
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// log remembers an open finding, and notes what is to be logged of it.
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

func (j *judgement) targetOf(contract string) *target {
	for _, t := range j.targets {
		if t.address.Hex() == contract {
			return t
		}
	}
	return nil
}

// addEntryFindings makes findings of what is wrong with entries and not accepted.
func (t *target) addEntryFindings() {
	for i := range t.entries {
		e := &t.entries[i]
		for _, k := range e.kinds() {
			if !slices.Contains(e.accepted, k) {
				t.findOnceOf(k, e)
			}
		}
	}
}

func (t *target) findOnceOf(k Kind, e *entry) {
	if e.ID == "" { // images without a hash have one key
		t.findOnce(finding{kind: k, message: e.message(k), list: e.List, state: Confirmed})
		return
	}
	t.findings = append(t.findings, finding{kind: k, message: e.message(k), list: e.List, id: e.ID, state: Confirmed})
}

// dateEntries writes into entries since when what is wrong with them is known.
func (t *target) dateEntries() {
	if len(t.findings) == 0 {
		return
	}
	type key struct {
		kind Kind
		list List
		id   string
	}
	since := make(map[key]time.Time, len(t.findings))
	for _, f := range t.findings {
		since[key{f.kind, f.list, f.id}] = f.firstSeen
	}
	for i := range t.entries {
		e := &t.entries[i]
		for _, k := range e.kinds() {
			if first, ok := since[key{k, e.List, e.ID}]; ok && e.FirstSeen == nil {
				e.FirstSeen = &first
			}
		}
	}
}

// settled reports whether this audit looked again at what an open finding is about, and found it right.
func (j *judgement) settled(t *target, o *OpenFinding) bool {
	k, f := o.Finding.Kind, &o.Finding
	if t.unsettled[o.key()] {
		return false
	}
	for _, a := range t.accepted {
		if a.Kind == k && a.List == f.List && a.ID == f.ID {
			return true
		}
	}
	if j.wentBack {
		return false
	}
	chain := t.reading.read() && j.look.Block != nil && j.look.Block.Number >= o.Block && !t.reading.Assurance.weakerThan(j.attainable(o.Assurance))
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
	case ProofInvalid, GetterDisagrees:
		return chain && (t.reading.Assurance == Proven || !j.intent.Events)
	case ProviderDisagreement, StorageUnaccounted, OwnerChanged, ImplementationChanged, CodeChanged:
		return chain && t.looksAt(k)
	case ContractUnexpected, GatewayAppIDMismatch, KMSPubkeyMismatch, KMSContractMismatch:
		return t.looksAt(k)
	case AcceptExpired, AcceptUnused:
		return !slices.ContainsFunc(t.unevaluated, func(a Acceptance) bool { return a.List == f.List && a.ID == f.ID })
	case ClaimUnstable:
		if f.List == "" {
			return t.claimRead && chain
		}
		e := t.entry(f.List, f.ID)
		return t.claimRead && chain && (e == nil || e.compared())
	case ChainWentBack:
		return j.look.Block != nil
	}
	return false
}

// looksAt reports whether the look saw what a finding of the kind, about the contract as a whole, is about.
func (t *target) looksAt(k Kind) bool {
	switch k {
	case StorageUnaccounted:
		return t.completeness == Complete
	case OwnerChanged, ImplementationChanged, CodeChanged:
		return t.reading.read() && t.judged[k]
	case NoCode:
		return t.reading.read() && t.reading.HasCode
	case GatewayAppIDMismatch, KMSPubkeyMismatch, KMSContractMismatch:
		return slices.Contains(t.crossed, k)
	case ContractNotListed, ContractUnexpected:
		return t.claimRead
	}
	return t.reading.read()
}

// settledEntry is settled for what is about one entry. A difference is over as soon as either side, looked at, makes it
// untrue.
func (j *judgement) settledEntry(t *target, f *Finding, chain bool) bool {
	e := t.entry(f.List, f.ID)
	claim := ClaimUnlisted
	if e != nil {
		claim = e.Claim
	}
	claimLooked := t.claimRead && claim != ClaimUnknown
	allowed, denied := false, false
	if e != nil {
		allowed, denied = chain && e.OnChain == ChainAllowed, chain && e.OnChain == ChainDenied
	} else if id, err := sanitize.ParseID(f.ID); err == nil && chain {
		_, denied = t.at[listID{f.List, id}]
	}
	// What is wrong now in another way goes on under another name.
	renamed := slices.ContainsFunc(t.findings, func(g finding) bool {
		return g.list == f.List && g.id == f.ID && g.kind.OfEntry() && g.kind.Makes() == Drift && g.state == Confirmed
	})
	switch f.Kind {
	case ClaimAllowedChainDenied:
		return allowed || claimLooked && claim != ClaimAllowed
	case ClaimDeniedChainAllowed, UnlistedChainAllowed:
		return denied || claimLooked && (claim == ClaimAllowed || renamed)
	case PolicyDeniedAllowed:
		return denied || j.policyOf(t, f) != PolicyDenied
	case PolicyAllowedDenied:
		return allowed || j.policyOf(t, f) != PolicyAllowed
	case ClaimUnknownKind:
		return claimLooked
	default: // about the claim alone
		return t.claimRead
	}
}

func (j *judgement) policyOf(t *target, f *Finding) PolicyState {
	want, _ := j.intent.Contract(t.address)
	id, err := sanitize.ParseID(f.ID)
	if err != nil {
		return ""
	}
	return want.Policy.State(f.List, id)
}

// attainable is an assurance, or the best that the configuration allows where that is less.
func (j *judgement) attainable(a Assurance) Assurance {
	switch {
	case a == Proven && !j.intent.Events && j.intent.Agreement > 1:
		return Agreed
	case a == Proven && !j.intent.Events, a == Agreed && j.intent.Agreement < 2:
		return Single
	}
	return a
}

func (t *target) entry(list List, id string) *entry {
	if valid, err := sanitize.ParseID(id); err == nil {
		if at, known := t.at[listID{list, valid}]; known && at >= 0 {
			return &t.entries[at]
		}
		return nil
	}
	for i := range t.entries {
		if e := &t.entries[i]; e.List == list && e.ID == id {
			return e
		}
	}
	return nil
}

// remember fills in what the next audit has to know.
func (j *judgement) remember(out *Outcome) {
	p := j.prior
	n := &out.Next
	n.Blocks, n.Pending, n.Contracts = p.Blocks, p.Pending, p.Contracts
	if j.wentBack {
		return
	}
	n.Contracts = j.contracts()
	n.Pending = j.pending()
	if rank, _ := tagRank(j.look.Tag); rank > 0 && j.look.Block != nil {
		n.Blocks = slices.Clone(p.Blocks)
		i := slices.IndexFunc(n.Blocks, func(b AuditedBlock) bool { return b.Tag == j.look.Tag })
		if i < 0 {
			n.Blocks = append(n.Blocks, AuditedBlock{j.look.Tag, j.look.Block.Number})
		} else {
			n.Blocks[i].Number = max(n.Blocks[i].Number, j.look.Block.Number)
		}
	}
}

// maxKnown bounds how many contracts are remembered that are not configured; the API may list 1,000 of a chain.
const maxKnown = 1000

// maxKnownIDs bounds the ids of a list that are remembered; an answer of the API has room for about 100,000.
const maxKnownIDs = 200_000

// contracts are the contracts to be remembered, each with the ids that anybody named.
func (j *judgement) contracts() []Known {
	out := slices.Clone(j.prior.Contracts)
	for _, t := range j.targets {
		i := slices.IndexFunc(out, func(k Known) bool { return k.Address == t.address })
		if i < 0 {
			if !t.audited() || !t.reading.read() || !t.reading.HasCode || !t.configured && len(out) >= maxKnown {
				continue
			}
			i = len(out)
			out = append(out, Known{Address: t.address, Since: j.looks.First.At})
		}
		if t.audited() && t.reading.read() {
			out[i].Devices = t.named(Device, out[i].Devices)
			out[i].OSImages = t.named(OSImage, out[i].OSImages)
		}
		if out[i].Baseline == nil {
			out[i].Baseline = t.baseline
		}
	}
	return out
}

// named adds the ids that were asked for to those that are known.
func (t *target) named(list List, known []common.Hash) []common.Hash {
	out := known
	for _, a := range t.reading.Answers {
		if a.List != list || len(out) >= maxKnownIDs {
			continue
		}
		if _, has := slices.BinarySearchFunc(known, a.ID, common.Hash.Cmp); !has {
			if len(out) == len(known) {
				out = slices.Clone(known)
			}
			out = append(out, a.ID)
		}
	}
	if len(out) > len(known) {
		slices.SortFunc(out, common.Hash.Cmp)
	}
	return out
}

// pending are the changes that are not at the pinned block yet.
func (j *judgement) pending() []PendingChange {
	var out []PendingChange
	now := j.looks.First.At
	keep := func(c PendingChange) {
		c.Since = j.prior.pendingSince(c, now)
		out = append(out, c)
	}
	waiting := func(c PendingChange) bool {
		return slices.ContainsFunc(j.prior.Pending, func(o PendingChange) bool { return o.Contract == c.Contract && o.List == c.List && o.ID == c.ID })
	}
	for _, o := range j.prior.Pending {
		if i := slices.IndexFunc(j.targets, sameAddress(o.Contract)); i >= 0 && !(j.targets[i].claimRead && j.targets[i].reading.read()) {
			out = append(out, o)
		}
	}
	for _, t := range j.targets {
		if !t.claimRead || !t.reading.read() {
			continue
		}
		code := PendingChange{Contract: t.address}
		if t.young || waiting(code) && !t.reading.HasCode {
			keep(code)
		}
		for i := range t.entries {
			e := &t.entries[i]
			c := PendingChange{Contract: t.address, List: e.List, ID: e.id}
			if e.valid && (e.Verdict == Pending || e.Verdict != Match && waiting(c)) {
				keep(c)
			}
		}
	}
	return out
}

// aboutChain reports whether a finding of the kind says something of the contract itself, and not only of the claim.
func (k Kind) aboutChain() bool {
	switch k {
	case NoCode, ContractNotListed, ContractUnexpected, ChainMismatch, KMSContractMismatch, NoHash, MalformedID, DuplicateConflict, ClaimUnknownKind,
		ClaimUnstable, AcceptUnused, AcceptExpired:
		return false
	}
	return true
}
