package audit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// target is one contract while a look is being judged.
type target struct {
	Target
	address     common.Address
	configured  bool
	known       bool             // to an earlier audit
	listed      bool             // by the API's on-chain detail
	unexpected  bool             // listed, but neither configured nor known although contracts are configured: not audited
	onlyInList  bool             // named only by the API's list of KMS
	foreign     uint64           // the chain id of a row about another chain, or 0
	claimRead   bool             // a claim for the right chain was read, or noClaims
	noClaims    bool             // no API covers the chain
	rows        [][]ClaimedEntry // of the claim
	reading     *Reading
	entries     []entry             // those of Target.Entries, then those that the claim does not name
	at          map[listID]int      // index in entries of a valid id; -1 if the contract denies the id and no list contains it
	young       bool                // deployed after the pinned block
	looked      map[Kind]bool       // kinds about the whole contract that were compared
	unsettled   map[findingKey]bool // findings that one of two looks saw
	unevaluated []Exception         // exceptions that could not be checked
}

func newTarget(a common.Address) *target {
	return &target{
		Target:  Target{Contract: a.Hex(), Completeness: Unchecked, Reasons: []string{}, Entries: []Entry{}, Findings: []Finding{}},
		address: a, looked: map[Kind]bool{}, unsettled: map[findingKey]bool{},
	}
}

// targetAt returns the target of a contract, or nil.
func targetAt(all []*target, a common.Address) *target {
	if i := slices.IndexFunc(all, func(t *target) bool { return t.address == a }); i >= 0 {
		return all[i]
	}
	return nil
}

func (t *target) key(k Kind, list List, id string) findingKey {
	return findingKey{t.Contract, k, list, id}
}

func (t *target) find(k Kind, format string, args ...any) {
	t.findOf(k, "", "", fmt.Sprintf(format, args...))
}

// findOf is find for a finding about one id of a list.
func (t *target) findOf(k Kind, list List, id, message string) {
	t.Findings = append(t.Findings, Finding{
		Kind: k, Severity: k.Severity(), List: list, ID: strings.Clone(id), Message: message, Runbook: k.Runbook(), State: Confirmed,
	})
}

// saw reports whether the look made the finding.
func (t *target) saw(k Kind, list List, id string) bool {
	return slices.ContainsFunc(t.Findings, func(f Finding) bool {
		return f.Kind == k && f.List == list && f.ID == id && f.State == Confirmed
	})
}

func (t *target) has(k Kind) bool { return t.saw(k, "", "") }

func (t *target) reason(format string, args ...any) {
	t.Reasons = append(t.Reasons, fmt.Sprintf(format, args...))
}

// audited reports whether the contract is to be read.
func (t *target) audited() bool {
	return t.configured || t.known || t.listed && !t.unexpected && t.foreign == 0
}

// runs reports whether the contract was read and is deployed.
func (t *target) runs() bool { return t.reading.read() && t.reading.HasCode }

// entry returns the entry of an id, or nil.
func (t *target) entry(k listID) *entry {
	if at, known := t.at[k]; known && at >= 0 {
		return &t.entries[at]
	}
	return nil
}

// targetsOf lists the contracts of a chain: those configured, those known to earlier audits, and those that the API lists. Rows
// of one contract are merged. The claim is optional.
func targetsOf(intent *Intent, prior *Prior, claim *APIClaim) []*target {
	var all []*target
	get := func(a common.Address) *target {
		t := targetAt(all, a)
		if t == nil {
			t = newTarget(a)
			all = append(all, t)
		}
		return t
	}
	for _, c := range intent.Contracts {
		get(c.Address).configured = true
	}
	for _, k := range prior.Contracts {
		get(k.Address).known = true
	}
	if claim == nil {
		return all
	}
	for _, row := range claim.Contracts {
		t := get(row.Address)
		t.listed = true
		t.unexpected = len(intent.Contracts) > 0 && !t.configured && !t.known
		if row.ChainID != intent.ChainID {
			t.foreign = row.ChainID
		}
		if !t.unexpected {
			t.rows = append(t.rows, row.Entries)
		}
	}
	return all
}

// Contracts lists the contracts to read. The claim is optional.
func Contracts(intent Intent, prior Prior, claim *APIClaim) []common.Address {
	if claim != nil && claim.ChainID != intent.ChainID {
		claim = nil
	}
	var out []common.Address
	for _, t := range targetsOf(&intent, &prior, claim) {
		if t.audited() {
			out = append(out, t.address)
		}
	}
	return out
}

// compare compares the claim and the chain of one look.
func (j *judgement) compare(o *Observation) []*target {
	all := targetsOf(j.intent, j.prior, o.Claim)
	for _, t := range all {
		t.noClaims = j.intent.NoClaims
		t.claimRead = (t.noClaims || o.rightChain(j.intent.ChainID)) && t.foreign == 0
		if t.audited() {
			t.reading = o.Reading(t.address)
		}
		t.compareClaim(j.intent, o)
		if !t.unexpected {
			t.compareFailures(o)
			t.compareChain(j.intent, j.prior, o)
		}
	}
	return j.crossCheck(o, all)
}

// compareClaim checks the claim about the contract as a whole.
func (t *target) compareClaim(intent *Intent, o *Observation) {
	switch {
	case t.noClaims && !slices.ContainsFunc(Lists, func(l List) bool { return intent.Contract(t.address).Policy.List(l) != nil }):
		t.reason("no API covers the contract, and no policy lists what it may allow: write a policy with `kms-auditor policy snapshot --chain %s --contract %s`, review it, and add it to the configuration", intent.Chain, t.Contract)
	case t.noClaims:
	case o.Claim == nil:
		t.reason("the API could not be read")
	case o.Claim.ChainID != intent.ChainID:
		t.find(ChainMismatch, "the API's answer is about chain %d, but chain_id is configured as %d", o.Claim.ChainID, intent.ChainID)
	case t.unexpected:
		t.find(ContractUnexpected, "the API lists this contract, which is not configured and therefore not audited")
	case t.configured && !t.listed:
		t.find(ContractNotListed, "the contract is configured, but the API does not list it")
	case t.known && !t.listed:
		t.find(ContractNotListed, "the API no longer lists the contract, which was audited before; `kms-auditor forget` ends its audits")
	case len(intent.Contracts) > 0 && !t.configured:
		t.find(ContractUnexpected, "the API lists this contract, which is not configured; it is still audited, because it was audited before: `kms-auditor forget` ends that")
	}
	if t.foreign != 0 {
		t.find(ChainMismatch, "the API lists the contract on chain %d, but chain_id is configured as %d", t.foreign, intent.ChainID)
	}
}

// compareFailures adds findings for providers' lies.
func (t *target) compareFailures(o *Observation) {
	for _, f := range o.Failures {
		same := func(g Finding) bool { return g.Kind == f.Kind && g.Message == f.Finding }
		if f.Kind != "" && (f.Contract == nil || *f.Contract == t.address) && !slices.ContainsFunc(t.Findings, same) {
			t.find(f.Kind, "%s", f.Finding)
		}
	}
}

// compareChain judges the chain's answers, with or without a claim.
func (t *target) compareChain(intent *Intent, prior *Prior, o *Observation) {
	want := intent.Contract(t.address)
	t.merge()
	switch {
	case !t.audited():
	case t.reading == nil:
		t.reason("the chain could not be read")
	case t.reading.Err != "":
		t.reason("the chain could not be read: %s", t.reading.Err)
	case intent.AnchorMust && !TrustProviders.weakerThan(o.Block.Trust):
		t.reason("anchor.required: the anchor does not vouch for the block")
	case !t.reading.HasCode:
		t.find(NoCode, "nothing is deployed at this address at block %d", o.Block.Number)
	}
	t.fill(want.Policy)
	if t.runs() {
		t.judgeStorage(intent, want, t.judgeLists())
		t.judgeControl(intent, prior, &want.Policy)
		for i := range t.reading.Changes {
			c := &t.reading.Changes[i]
			if e := t.entry(listID{c.List, c.ID}); e != nil {
				e.Changed = &c.Changed
			}
		}
	}
}

// fill adds the contract's answers to the entries, and judges them. It adds entries for ids that the claim does not name, but
// that the contract allows, the policy allows, or that could not be read.
func (t *target) fill(want Policy) {
	if t.reading != nil {
		for i := range t.reading.Answers {
			a := &t.reading.Answers[i]
			t.take(listID{a.List, a.ID}, a, want)
		}
	}
	for _, l := range Lists {
		for _, id := range want.List(l) {
			t.take(listID{l, id}, nil, want)
		}
	}
	for i := range t.entries {
		e := &t.entries[i]
		if e.valid {
			e.Policy = want.State(e.List, e.id)
		}
		e.judge()
	}
}

// take adds the contract's answer about an id. The answer is nil if the contract was not asked.
func (t *target) take(k listID, a *Answer, want Policy) {
	e := t.entry(k)
	if e == nil && a != nil && a.Err != "" && k.id == (common.Hash{}) {
		return // the zero id only probes whether the contract has the list
	}
	if e == nil {
		if _, denied := t.at[k]; denied || a != nil && a.Err == "" && !a.Allowed && want.State(k.list, k.id) != PolicyAllowed {
			t.at[k] = -1
			return
		}
		t.at[k] = len(t.entries)
		t.entries = append(t.entries, entry{id: k.id, valid: true, Entry: &Entry{List: k.list, ID: k.id.Hex(), Claim: ClaimUnlisted, OnChain: ChainUnknown}})
		if e = t.entry(k); t.noClaims {
			e.Claim = ClaimNone
		} else if !t.claimRead {
			e.Claim, e.noClaim = ClaimUnknown, true
		}
	}
	switch {
	case a == nil:
	case a.Err == "":
		e.OnChain, e.Assurance = chainStates[a.Allowed], t.reading.Assurance
	case len(t.Reasons) == 0:
		t.reason("asking the contract for %s %s: %s", e.List, e.ID, a.Err)
	}
}

// getters are the lists' getters, which the contract has had since May 2025.
var getters = map[List]string{Device: "kmsAllowedDeviceIds(bytes32)", OSImage: "allowedOsImages(bytes32)", AggregatedMR: "kmsAllowedAggregatedMrs(bytes32)"}

// judgeLists adds a reason for each list whose getter answers no id. It reports whether every id was answered.
func (t *target) judgeLists() bool {
	all := true
	for _, l := range Lists {
		answered, unread := t.reading.sample(l)
		if all = all && unread == nil; unread != nil && answered == nil {
			t.reason("the contract does not answer %s: it is not a DstackKms of May 2025 or later, or it misbehaves: %s", getters[l], unread.Err)
		}
	}
	return all
}

// judgeStorage sets how complete the search for ids was, and adds a finding if the contract has storage that nothing explains.
func (t *target) judgeStorage(intent *Intent, want ContractIntent, lists bool) {
	r := t.reading
	if r.Refused != "" {
		t.reason("the contract misbehaves: %s", r.Refused)
	}
	if !intent.Events {
		return
	}
	for _, a := range r.Unaccounted {
		t.reason("the lists' getters also read the storage of %s, which contains more than is accounted for", a)
	}
	scanned := r.Events != nil && r.Events.Read
	t.Completeness = Incomplete
	switch {
	case r.Storage == nil && scanned:
		t.Completeness = EventsOnly
	case r.Storage == nil:
	case r.Complete && len(r.Unaccounted) == 0:
		t.Completeness = Complete
	case r.Complete, r.Refused != "": // the reason was added above
	case !scanned:
		t.reason("the contract stores more than the %d slots that are accounted for; events might explain the rest, but could not be read", r.Storage.Slots)
	case !t.claimRead:
		t.reason("the contract stores more than the %d slots that are accounted for; the API might explain the rest, but was not read", r.Storage.Slots)
	case !lists: // its storage layout is unknown
	case r.Events.PublicErr != "":
		t.Incomplete = fmt.Sprintf("the contract stores more than the %d slots that are accounted for; public events might explain the rest, but could not all be read: %s", r.Storage.Slots, r.Events.PublicErr)
	default:
		t.find(StorageUnaccounted, "the contract stores more than the %d slots that getters, events, well-known slots and explained_slots account for", r.Storage.Slots)
	}
	t.Explained = want.Explained
	if intent.Required && t.Completeness != Complete {
		t.reason("verify is required, but it is not proven that all of the contract's storage is accounted for")
	}
}

// merge makes one entry of all rows of an id. Entries are sorted by list, name, version and id.
func (t *target) merge() {
	var rows []*ClaimedEntry
	for _, all := range t.rows {
		for i := range all {
			rows = append(rows, &all[i])
		}
	}
	slices.SortFunc(rows, (*ClaimedEntry).Compare)
	t.Entries, t.entries, t.at = make([]Entry, len(rows)), make([]entry, 0, len(rows)), make(map[listID]int, len(rows))
	for _, row := range rows {
		t.addRow(row)
	}
	t.Entries = t.Entries[:len(t.entries)]
}

// addRow adds one row of the claim.
func (t *target) addRow(row *ClaimedEntry) {
	k := listID{row.List, row.id}
	if e := t.entry(k); row.kind == "" && e != nil {
		e.Name, e.Version = sanitize.JoinNames(e.Name, row.Name), sanitize.JoinNames(e.Version, row.Version)
		if e.conflict = e.conflict || e.Claim != row.State; e.conflict {
			e.Claim = ClaimUnknown
		}
		return
	}
	at := len(t.entries)
	t.Entries[at] = Entry{List: row.List, ID: row.ID, Name: row.Name, Version: row.Version, Claim: row.State, OnChain: ChainUnknown, Kind: row.kind}
	t.entries = append(t.entries, entry{Entry: &t.Entries[at], id: row.id, valid: row.kind == "", wrongChain: !t.claimRead})
	if row.kind == "" {
		t.at[k] = at
	}
}
