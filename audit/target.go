package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// target is one contract while a look at it is judged.
type target struct {
	address    common.Address
	configured bool
	known      bool   // to an earlier audit
	listed     bool   // by the API's on-chain detail
	unexpected bool   // listed, while others are configured and no audit knows it: not audited
	onlyInList bool   // named by the API's list of KMS alone
	foreign    uint64 // the chain id of a row of another chain; 0: none
	claimRead  bool   // there is a claim about it, of the right chain

	rows     []ClaimedEntry
	reading  *Reading
	entries  []entry
	at       map[listID]int // where in entries the entry of a valid id is; -1: the contract refuses the id, and nobody names it
	findings []finding
	reasons  []string // what could not be checked, apart from entries

	completeness Completeness
	explained    []Explained
	control      *Control
	wholeControl bool
	young        bool // deployed after the pinned block
	baseline     *Baseline
	accepted     []Acceptance
	unevaluated  []Acceptance        // that could not be looked for
	crossed      []Kind              // kinds that the list of KMS was compared for
	judged       map[Kind]bool       // kinds of control that were compared
	unsettled    map[findingKey]bool // findings that one of two looks saw
}

// finding is one thing wrong while it is being judged.
type finding struct {
	kind          Kind
	message       string
	list          List
	id            string
	state         FindingState
	firstSeen     time.Time
	lastConfirmed time.Time
}

func (f finding) report() Finding {
	out := Finding{Kind: f.kind, Severity: f.kind.Severity(), List: f.list, ID: strings.Clone(f.id), Message: f.message, Runbook: f.kind.Runbook(), State: f.state}
	if !f.firstSeen.IsZero() {
		out.FirstSeen, out.LastConfirmedAt = &f.firstSeen, &f.lastConfirmed
	}
	return out
}

func (t *target) find(k Kind, format string, args ...any) {
	t.findings = append(t.findings, finding{kind: k, message: fmt.Sprintf(format, args...), state: Confirmed})
}

func (t *target) has(k Kind) bool {
	return slices.ContainsFunc(t.findings, func(f finding) bool { return f.kind == k && f.state == Confirmed })
}

func (t *target) reason(format string, args ...any) {
	t.reasons = append(t.reasons, fmt.Sprintf(format, args...))
}

// audited reports whether the contract is to be read.
func (t *target) audited() bool {
	return t.configured || t.known || t.listed && !t.unexpected && t.foreign == 0
}

// targetsOf lists the contracts of a chain: those that are configured, those that an earlier audit knew, and what else the
// API lists, all rows of one contract together.
func targetsOf(intent *Intent, prior *Prior, o *Observation) []*target {
	var all []*target
	get := func(a common.Address) *target {
		if i := slices.IndexFunc(all, sameAddress(a)); i >= 0 {
			return all[i]
		}
		all = append(all, &target{address: a, completeness: Unchecked, judged: map[Kind]bool{}, unsettled: map[findingKey]bool{}})
		return all[len(all)-1]
	}
	for _, c := range intent.Contracts {
		get(c.Address).configured = true
	}
	for _, k := range prior.Contracts {
		get(k.Address).known = true
	}
	if o.Claim == nil {
		return all
	}
	for _, row := range o.Claim.Contracts {
		t := get(row.Address)
		t.listed = true
		t.unexpected = len(intent.Contracts) > 0 && !t.configured && !t.known
		if row.ChainID != intent.ChainID {
			t.foreign = row.ChainID
		}
		if !t.unexpected {
			t.rows = append(t.rows, row.Entries...)
		}
	}
	return all
}

// Contracts lists the contracts to read, given a claim: nil where there is none.
func Contracts(intent Intent, prior Prior, claim *APIClaim) []common.Address {
	o := Observation{Claim: claim}
	if !o.rightChain(intent.ChainID) {
		o.Claim = nil
	}
	var out []common.Address
	for _, t := range targetsOf(&intent, &prior, &o) {
		if t.audited() {
			out = append(out, t.address)
		}
	}
	return out
}

// compare compares the two sides of one look.
func (j *judgement) compare(o *Observation) []*target {
	all := targetsOf(j.intent, j.prior, o)
	for _, t := range all {
		t.claimRead = o.rightChain(j.intent.ChainID) && t.foreign == 0
		if t.audited() {
			t.reading = o.Reading(t.address)
		}
		t.compareClaim(j.intent, o)
		if t.unexpected {
			continue
		}
		t.compareChain(j.intent, j.prior, o)
	}
	return j.crossCheck(o, all)
}

// compareClaim finds what the claim as a whole has wrong, and what providers were caught at.
func (t *target) compareClaim(intent *Intent, o *Observation) {
	switch {
	case o.Claim == nil:
		t.reason("the API could not be read")
	case o.Claim.ChainID != intent.ChainID:
		t.find(ChainMismatch, "the API's answer is about chain %d, but chain_id is configured as %d", o.Claim.ChainID, intent.ChainID)
	case t.unexpected:
		t.find(ContractUnexpected, "the API lists this contract, which is not configured; it is not audited")
	case t.configured && !t.listed:
		t.find(ContractNotListed, "the contract is configured, but the API does not list it")
	case t.known && !t.listed:
		t.find(ContractNotListed, "an earlier audit knew the contract, but the API does not list it any more; `kms-auditor forget` ends its audits")
	case len(intent.Contracts) > 0 && !t.configured:
		t.find(ContractUnexpected, "the API lists this contract, which is not configured; it is audited since an earlier audit knew it, until `kms-auditor forget`")
	}
	if t.foreign != 0 {
		t.find(ChainMismatch, "the API lists the contract on chain %d, but chain_id is configured as %d", t.foreign, intent.ChainID)
	}
	if t.unexpected {
		return
	}
	for _, f := range o.Failures {
		same := func(g finding) bool { return g.kind == f.Kind && g.message == f.Finding }
		if f.Kind != "" && (f.Contract == nil || *f.Contract == t.address) && !slices.ContainsFunc(t.findings, same) {
			t.find(f.Kind, "%s", f.Finding)
		}
	}
}

// compareChain judges all that the chain says, with or without a claim.
func (t *target) compareChain(intent *Intent, prior *Prior, o *Observation) {
	want, _ := intent.Contract(t.address)
	t.entries = make([]entry, 0, len(t.rows))
	for _, row := range t.rows {
		e := entryOf(row)
		e.wrongChain = !t.claimRead
		t.entries = append(t.entries, e)
	}
	t.merge()
	switch {
	case !t.audited():
	case t.reading == nil:
		t.reason("the chain could not be read")
	case t.reading.Err != "":
		t.reason("the chain could not be read: %s", t.reading.Err)
	case !t.reading.HasCode:
		t.find(NoCode, "nothing is deployed at this address at block %d", o.Block.Number)
	}
	t.fill(want.Policy)
	if t.reading.read() && t.reading.HasCode {
		t.judgeStorage(intent, want)
		t.judgeControl(intent, want.Policy, prior.baseline(t.address))
		t.addChanges()
	}
}

// fill takes what the contract says of the entries, and judges them. It adds the ids that the claim does not name: those that
// the contract allows, that the policy wants, or that could not be read.
func (t *target) fill(want Policy) {
	answers := make([]*Answer, len(t.entries))
	var unlisted []*Answer
	if t.reading != nil {
		for i := range t.reading.Answers {
			a := &t.reading.Answers[i]
			if at, claimed := t.at[listID{a.List, a.ID}]; claimed {
				answers[at] = a
			} else {
				unlisted = append(unlisted, a)
			}
		}
	}
	for i, a := range answers {
		t.fillEntry(&t.entries[i], a, want)
	}
	add := func(k listID, a *Answer) {
		if _, named := t.at[k]; named {
			return
		}
		e := entry{id: k.id, valid: true, Entry: Entry{List: k.list, ID: k.id.Hex(), Claim: ClaimUnlisted, OnChain: ChainUnknown}}
		if !t.claimRead {
			e.Claim, e.noClaim = ClaimUnknown, true
		}
		t.at[k] = -1
		if t.fillEntry(&e, a, want); e.OnChain != ChainDenied || e.Policy == PolicyAllowed {
			t.at[k] = len(t.entries)
			t.entries = append(t.entries, e)
		}
	}
	for _, a := range unlisted {
		add(listID{a.List, a.ID}, a)
	}
	for _, l := range Lists {
		for _, id := range want.List(l) {
			add(listID{l, id}, nil)
		}
	}
}

// fillEntry is fill for one entry; nil: the contract was not asked.
func (t *target) fillEntry(e *entry, a *Answer, want Policy) {
	if e.valid {
		switch {
		case a == nil:
		case a.Err == "":
			e.OnChain, e.Assurance = ChainDenied, t.reading.Assurance
			if a.Allowed {
				e.OnChain = ChainAllowed
			}
		case len(t.reasons) == 0:
			t.reason("asking the contract for %s %s: %s", e.List, e.ID, a.Err)
		}
		e.Policy = want.State(e.List, e.id)
	}
	e.judge()
}

// judgeStorage says how complete the search for ids was, and whether the contract stores what nothing explains.
func (t *target) judgeStorage(intent *Intent, want ContractIntent) {
	if !intent.Events {
		return
	}
	r := t.reading
	scanned := r.Events != nil && r.Events.Read
	switch {
	case r.Storage != nil && r.Complete:
		t.completeness = Complete
	case r.Storage != nil && scanned && !t.claimRead:
		t.completeness = Incomplete
		t.reason("the contract stores more than the %d slots that are accounted for; the API, which may name what explains the rest, was not read", r.Storage.Slots)
	case r.Storage != nil && scanned:
		t.completeness = Incomplete
		t.find(StorageUnaccounted, "the contract stores more than the %d slots that getters, events, well-known places and explained_slots account for", r.Storage.Slots)
	case r.Storage != nil:
		t.completeness = Incomplete
		t.reason("the contract stores more than the %d slots that are accounted for, and the events that may explain the rest could not be read", r.Storage.Slots)
	case scanned:
		t.completeness = EventsOnly
	default:
		t.completeness = Incomplete
	}
	for _, e := range want.Explained {
		t.explained = append(t.explained, Explained{e.Slot.Hex(), e.Reason})
	}
	if intent.Required && t.completeness != Complete {
		t.reason("verify is required, and the contract's storage is not proven to be all accounted for")
	}
}

// addChanges adds to each entry what its last event says.
func (t *target) addChanges() {
	for i := range t.reading.Changes {
		c := &t.reading.Changes[i]
		if at, known := t.at[listID{c.List, c.ID}]; known && at >= 0 {
			t.entries[at].Changed = &c.Changed
		}
	}
}

// entryOf reads one row of the claim.
func entryOf(row ClaimedEntry) entry {
	e := entry{Entry: Entry{List: row.List, Name: sanitize.Plain(row.Name), Version: sanitize.Plain(row.Version), Claim: row.State, OnChain: ChainUnknown}}
	id, err := sanitize.ParseID(row.ID)
	switch {
	case row.List == OSImage && row.ID == "":
		e.Kind = NoHash
	case err != nil:
		e.ID, e.Kind = sanitize.Quote(row.ID), MalformedID
	default:
		e.ID, e.id, e.valid = sanitize.ID(id, row.ID), id, true
	}
	return e
}

// merge sorts the entries by list, name, version and id, and makes one of all rows of an id.
func (t *target) merge() {
	rows := t.entries
	order := make([]int, len(rows)) // entries are large
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		a, b := &rows[i], &rows[j]
		return cmp.Or(cmp.Compare(a.List, b.List), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version),
			cmp.Compare(a.ID, b.ID), cmp.Compare(a.Claim, b.Claim), i-j)
	})
	t.entries, t.rows, t.at = make([]entry, 0, len(rows)), nil, make(map[listID]int, len(rows))
	for _, i := range order {
		r := &rows[i]
		k := listID{r.List, r.id}
		at, again := t.at[k]
		if !r.valid || !again {
			if r.valid {
				t.at[k] = len(t.entries)
			}
			t.entries = append(t.entries, *r)
			continue
		}
		e := &t.entries[at]
		e.Name, e.Version = joinNames(e.Name, r.Name), joinNames(e.Version, r.Version)
		if e.conflict = e.conflict || e.Claim != r.Claim; e.conflict {
			e.Claim = ClaimUnknown
		}
	}
}

// joinNames lists what the rows of one id call it.
func joinNames(a, b string) string {
	if b == "" || slices.Contains(strings.Split(a, ", "), b) {
		return a
	}
	if a == "" {
		return b
	}
	return sanitize.Plain(a + ", " + b)
}
