package simtest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
)

// memory is what the law keeps from earlier audits.
type memory struct {
	open      map[key]bool   // open findings, and whether a proof ever confirmed them
	block     map[key]uint64 // the newest block at which each was confirmed
	signed    map[key]bool   // a sync committee vouched for a block at which it was confirmed
	known     map[common.Address]bool
	baselines map[common.Address]baseline
	watched   map[common.Address]watched // from baselines
	named     [][2][ids]bool             // ids in the claims that were read, by contract
	newest    *audit.Block               // the newest true block
	claim     *claim                     // the newest
	lied      bool                       // an audit believed a lie
	ill       bool                       // a provider ever failed
}

type key struct {
	contract string
	finding
}

func newMemory(contracts int) *memory {
	return &memory{open: map[key]bool{}, block: map[key]uint64{}, signed: map[key]bool{}, known: map[common.Address]bool{}, baselines: map[common.Address]baseline{}, watched: map[common.Address]watched{}, named: make([][2][ids]bool, contracts)}
}

// law judges one audit.
type law struct {
	*world
	ctx    context.Context
	res    observe.Result
	chain  audit.Chain
	looks  audit.Looks
	look   *audit.Observation // the one that the report is about
	other  *audit.Observation // nil if there was only one look
	exact  int                // targets whose verdict has to be the truth
	broken error
}

// unlawful returns how an audit breaks the law, and the number of targets whose verdict had to be exact.
func (w *world) unlawful(ctx context.Context, res observe.Result) (exact int, err error) {
	l := &law{world: w, ctx: ctx, res: res, chain: res.Report.Chains[0], looks: res.Records[0].Looks}
	l.look, l.other = &l.looks.First, l.looks.Second
	if s := l.looks.Second; s != nil && l.reported(s) {
		l.look, l.other = s, &l.looks.First
	}
	if !l.reported(l.look) {
		return 0, errors.New("the report is about neither look")
	}
	for _, o := range []*audit.Observation{&l.looks.First, l.looks.Second} {
		if o == nil {
			continue
		}
		if l.real(o) && (w.mem.newest == nil || o.Block.Number >= w.mem.newest.Number) {
			w.mem.newest = o.Block
		}
		if c := l.claimOf(o); c != nil {
			w.mem.claim = c
		}
	}
	l.vouched()
	l.verdicts()
	l.resolved()
	l.remember()
	return l.exact, l.broken
}

func (l *law) fail(format string, args ...any) {
	if l.broken == nil {
		l.broken = fmt.Errorf(format, args...)
	}
}

// reported reports whether a look is the one that the report is about.
func (l *law) reported(o *audit.Observation) bool {
	block := func(b *audit.Block) string {
		if b == nil {
			return ""
		}
		return b.Hash
	}
	said := func(c *audit.Claim) string {
		if c == nil {
			return ""
		}
		return c.SHA256
	}
	var c *audit.Claim
	if o.Claim != nil {
		c = &o.Claim.Claim
	}
	return block(o.Block) == block(l.chain.Block) && said(c) == said(l.chain.Claim)
}

// claimOf returns the API's claim in a look, or nil.
func (l *law) claimOf(o *audit.Observation) *claim {
	if o.Claim == nil {
		return nil
	}
	l.api.mu.Lock()
	defer l.api.mu.Unlock()
	c, said := l.api.said[o.Claim.SHA256]
	if !said {
		l.fail("the API never gave the answer %s", o.Claim.SHA256)
	}
	return &c
}

// real reports whether the look's block is one that the node has.
func (l *law) real(o *audit.Observation) bool {
	if o == nil || o.Block == nil {
		return false
	}
	h, err := l.Client().HeaderByHash(l.ctx, common.HexToHash(o.Block.Hash))
	return err == nil && h.Number.Uint64() == o.Block.Number
}

func (l *law) truthOf(at common.Address, o *audit.Observation) truth {
	var block common.Hash
	if l.real(o) {
		block = common.HexToHash(o.Block.Hash)
	}
	t, err := l.truth(l.ctx, at, block, l.claimOf(o))
	if err != nil {
		l.fail("the truth cannot be known: %w", err)
	}
	return t
}

// wentBack reports whether the look's block is older than what was audited before.
func (l *law) wentBack() bool {
	return slices.ContainsFunc(l.chain.Targets, func(t audit.Target) bool {
		return slices.ContainsFunc(t.Findings, func(f audit.Finding) bool { return f.Kind == audit.ChainWentBack && f.State == audit.Confirmed })
	})
}

func (l *law) target(at common.Address) *audit.Target {
	for i := range l.chain.Targets {
		if l.chain.Targets[i].Contract == at.Hex() {
			return &l.chain.Targets[i]
		}
	}
	return nil
}

// verdicts checks the verdicts of the report.
func (l *law) verdicts() {
	worst := audit.Consistent
	for i := range l.chain.Targets {
		worst = max(worst, l.chain.Targets[i].Verdict)
	}
	if len(l.chain.Targets) == 0 {
		worst = audit.Unknown
	}
	if l.chain.Verdict != worst || l.res.Report.Verdict != worst {
		l.fail("the worst target is %s, the chain %s and the report %s", worst, l.chain.Verdict, l.res.Report.Verdict)
	}
	must := l.configured()
	if c := l.claimOf(l.look); c != nil {
		for _, r := range c.Contracts {
			must = append(slices.Clone(must), common.HexToAddress(r.Address))
		}
	}
	for _, at := range slices.Concat(must, slices.Collect(maps.Keys(l.mem.known))) {
		if l.target(at) == nil {
			l.fail("%s is missing", at)
		}
	}
	for i := range l.chain.Targets {
		t := &l.chain.Targets[i]
		at := common.HexToAddress(t.Contract)
		if l.Enemy != "" && at == l.at[l.Contracts] {
			if t.Verdict == audit.Consistent && l.Verify != "off" && !l.faulty && !l.wasIll && l.Enemy != "returns rubbish" && l.Enemy != "asks the block" {
				l.fail("a contract that %s is consistent", l.Enemy)
			}
			continue
		}
		if !slices.Contains(must, at) && !l.mem.known[at] { // it is no longer audited
			if t.Verdict != audit.Unknown {
				l.fail("%s is not audited, and %s", at, t.Verdict)
			}
		} else if truly := l.truthOf(at, l.look); !l.liar && !truly.loose {
			l.sound(t, truly)
		}
	}
}

// sound checks that a target's verdict is true or unknown, and true if nothing failed.
func (l *law) sound(t *audit.Target, truly truth) {
	at := common.HexToAddress(t.Contract)
	var before truth
	if l.other != nil {
		before = l.truthOf(at, l.other)
	}
	var headTruth truth
	if l.real(l.looks.Head) {
		var err error
		if headTruth, err = l.truth(l.ctx, at, common.HexToHash(l.looks.Head.Block.Hash), l.claimOf(l.look)); err != nil {
			l.fail("the truth cannot be known: %w", err)
		}
	}
	pending := func(f finding) bool { // the newest block has the contract, and nothing of this entry wrong
		_, open := l.mem.open[key{t.Contract, f}]
		for g := range headTruth.wrong {
			open = open || f.ID != "" && g.List == f.List && g.ID == f.ID && makes[g.Kind] == drift
		}
		return l.Pending && !open && headTruth.is.code && (f.Kind == "no_code" || f.ID != "" && makes[f.Kind] == drift)
	}
	complain := func(format string, args ...any) {
		l.fail("%s is %s: %s", t.Contract, t.Verdict, fmt.Sprintf(format, args...))
	}
	waits := map[string]bool{}
	for _, e := range t.Entries {
		waits[e.ID] = l.waits(e)
		complain := func(what string) { complain("%s %s %s: %s", e.List, e.ID, e.Verdict, what) }
		if e.List == audit.AggregatedMR {
			soundMeasurement(&e, &truly, complain)
			continue
		}
		list, id, known := finding{List: string(e.List), ID: e.ID}.entry()
		if is := known && truly.is.allowed[list][id]; e.OnChain != audit.ChainUnknown && is != (e.OnChain == audit.ChainAllowed) {
			complain("on chain it is something else")
		}
		claim := map[bool]string{true: string(e.Policy), false: string(e.Claim)}[l.Unclaimed]
		if e.Verdict == audit.Match && (!known || e.OnChain == audit.ChainUnknown || claim != string(e.OnChain)) {
			complain(string(e.Claim) + " is claimed, and on chain it is " + string(e.OnChain))
		}
	}
	if id := truly.unshown(t); id != "" {
		complain("%s is allowed, and not shown", id)
	}
	told, drifts := map[finding]bool{}, false
	for _, f := range t.Findings {
		g := findingOf(f)
		if f.State != audit.Confirmed {
			if t.Verdict == audit.Consistent && makes[g.Kind] != "" {
				complain("%v is open", g)
			}
			continue
		}
		told[g] = true
		drifts = drifts || makes[g.Kind] == drift
		if makes[g.Kind] != drift {
			continue
		}
		isTrue := func(t truth) bool { return t.wrong[g] || g.Kind == "storage_unaccounted" && t.stored }
		if !isTrue(truly) {
			complain("%v is not true; true are %v", g, slices.Collect(maps.Keys(truly.wrong)))
		}
		if _, open := l.mem.open[key{t.Contract, g}]; !open && (l.other == nil || !isTrue(before)) && !(l.invents && !l.real(l.other)) {
			complain("%v was not seen by both looks", g)
		}
	}
	if drifts != (t.Verdict == audit.Drift) {
		complain("the findings are %v", t.Findings)
	}
	// What must be reported if nothing fails.
	var missing []finding
	worst, compared := consistent, maps.Clone(truly.compared)
	for f := range truly.accepted { // a pending difference is not accepted yet, and compares nothing
		if pending(f) && !headTruth.accepted[f] {
			delete(compared, f.ID)
			if l.Anchor == "required" {
				worst = unknown
			}
		}
	}
	for f := range truly.wrong {
		visible := told[f] || !truly.hidden[f] && f.Kind != "storage_unaccounted" || l.explains(t, &truly) && truly.read && !truly.accepted[finding{Kind: "storage_unaccounted"}]
		if list, _, ok := f.entry(); ok && list == device && truly.is.elsewhere { // only named ids are found there
			visible = told[f] || !truly.hidden[f]
		}
		waiting := pending(f) && (!truly.hidden[f] || waits[f.ID]) // unnamed ids cannot be read at the newest block
		switch {
		case truly.hidden[f] && !told[f] && told[finding{Kind: "claim_unstable"}] && t.Verdict != audit.Consistent: // an event named it between the looks
			if worst == consistent {
				worst = unknown
			}
			continue
		case !visible || waiting:
			if (f.Kind == "no_code" || waiting && l.Anchor == "required") && worst == consistent {
				worst = unknown
			}
			delete(compared, f.ID)
			continue
		case makes[f.Kind] == drift:
			worst = drift
		case makes[f.Kind] == unknown && worst == consistent:
			worst = unknown
		}
		if !told[f] && !(truly.hidden[f] && told[finding{Kind: "storage_unaccounted"}]) && makes[f.Kind] != "" {
			missing = append(missing, f)
		}
	}
	if l.Unclaimed && told[finding{Kind: "storage_unaccounted"}] { // of an id that nothing is wrong with, and that nobody named
		worst = drift
	}
	if !l.holds(t, compared) && worst == consistent { // all comparable entries are pending
		worst = unknown
	}
	if l.Verify != "off" && (truly.unlisted(t) || truly.is.uncounted && t.Completeness != audit.Complete) && worst == consistent {
		worst = unknown
	}
	if t.Verdict == audit.Consistent {
		switch {
		case truly.unlisted(t) && t.Assurance == audit.Proven:
			complain("another contract's list has more than is named")
		case !l.real(l.look):
			complain("its block is not one of the chain")
		case l.claimOf(l.look) == nil && !l.Unclaimed || !truly.read:
			complain("the API said nothing of it")
		case !l.holds(t, compared):
			complain("nothing could be compared")
		case truly.blank:
			complain("there are claims that cannot be compared")
		}
		for _, f := range missing {
			if f.Kind == "storage_unaccounted" && t.Assurance != audit.Proven {
				continue // only a proof shows it
			}
			if !truly.hidden[f] || t.Completeness == audit.Complete || t.Completeness == audit.EventsOnly && l.logged(at, f.ID) {
				complain("%v is true", f)
			}
		}
	}
	switch unproven := l.Verify != "off" && truly.is.code && t.Assurance != audit.Proven; {
	case l.faulty || unproven && l.wasIll,
		l.other != nil && !(maps.Equal(truly.wrong, before.wrong) && maps.Equal(truly.accepted, before.accepted)):
		return
	case unproven && t.Assurance != "":
		complain("it is not proven")
	}
	l.exactly(t, truly, missing, worst, complain)
}

// explains reports whether the contract's storage can be explained. It cannot if somebody registered more apps in one block than a
// provider serves. That costs only completeness or, after an upgrade to older code that counts registrations, the verdict.
func (l *law) explains(t *audit.Target, truly *truth) bool {
	return l.Verify != "off" && !(l.Limit == noReceipts && t.Incomplete != "") && !(truly.is.uncounted && t.Completeness != audit.Complete)
}

// logged reports whether an event named an id.
func (l *law) logged(at common.Address, id string) bool {
	logs, err := l.logs(l.ctx, at, l.look.Block.Number)
	if err != nil {
		l.fail("reading the node's logs: %w", err)
	}
	return len(id) > 2 && strings.Contains(logs, id[2:])
}

// exactly checks a target of an audit without failures.
func (l *law) exactly(t *audit.Target, truly truth, missing []finding, worst string, complain func(string, ...any)) {
	l.exact++
	if len(missing) > 0 {
		complain("%v is true, and not told", missing)
	}
	// An event between the looks named the stored id.
	unsettled := slices.ContainsFunc(t.Findings, func(f audit.Finding) bool { return findingOf(f) == finding{Kind: "claim_unstable"} })
	for _, f := range t.Findings {
		g := findingOf(f)
		switch {
		case f.State != audit.Confirmed && g.Kind == "storage_unaccounted" && unsettled && l.other != nil:
			if worst == consistent {
				worst = unknown
			}
		case f.State == audit.Confirmed && !truly.wrong[g] && makes[g.Kind] != "" && !(g.Kind == "storage_unaccounted" && truly.stored):
			complain("%v is told, and not true", g)
		case f.State != audit.Confirmed && !(g.Kind == "storage_unaccounted" && !l.explains(t, &truly)) && !l.excused(truly, common.HexToAddress(t.Contract), g):
			complain("%v is still open, and not true any more", g)
		case f.State != audit.Confirmed && makes[g.Kind] != "" && worst == consistent:
			worst = unknown
		}
	}
	if all := l.explains(t, &truly) && truly.is.code && truly.read && !truly.stored && !truly.is.unexplained && !truly.unlisted(t); all && t.Completeness != audit.Complete {
		complain("all that it stores is explained, and it is %s, %s", t.Completeness, t.Incomplete)
	}
	held := truly.blank || !truly.read || !l.holds(t, truly.compared) || l.Verify == "required" && (truly.accepted[finding{Kind: "storage_unaccounted"}] || !l.explains(t, &truly)) && t.Completeness != audit.Complete
	if held && worst == consistent {
		worst = unknown
	}
	if t.Verdict.String() != worst {
		complain("in truth it is %s, by %v", worst, slices.Collect(maps.Keys(truly.wrong)))
	}
}

// waits reports whether an entry is pending: the newest block is right already. If a sync committee must sign, an unsigned block
// makes no contract consistent.
func (l *law) waits(e audit.Entry) bool {
	return e.Reason == audit.ReasonHeadAgrees && e.Verdict == map[bool]audit.EntryVerdict{true: audit.Unverifiable, false: audit.Pending}[l.Anchor == "required"]
}

// excused reports whether it is unknowable if an open finding is still true.
func (l *law) excused(truly truth, at common.Address, g finding) bool {
	if !truly.read && !slices.Contains(l.configured(), at) && !l.mem.known[at] || truly.gone && (g.Kind == "gateway_changed" || g.Kind == "app_implementation_changed") { // it is not audited, or not provable
		return true
	}
	if l.look.Block != nil && l.look.Block.Number < l.mem.block[key{at.Hex(), g}] { // it was confirmed at a newer block
		return true
	}
	if (l.mem.signed[key{at.Hex(), g}] || g.Kind == "block_contradicted") && !l.signed() { // it ends only at a signed block
		return true
	}
	list, id, ofEntry := g.entry()
	switch g.Kind {
	case "claim_unstable", "accept_expired", "accept_unused":
		return true
	case "storage_unaccounted", "contract_not_listed", "contract_unexpected", "chain_mismatch":
		return !truly.read
	case "policy_denied_chain_allowed", "policy_allowed_chain_denied":
		return false
	}
	if !ofEntry {
		return g.List != "" && !truly.read // about rows without an id
	}
	// It is wrong in another way by now, and the newest block is right already.
	waits := slices.ContainsFunc(l.target(at).Entries, func(e audit.Entry) bool {
		return e.ID == g.ID && string(e.List) == g.List && l.waits(e)
	})
	return waits || !truly.read || truly.silent(list, id)
}

// resolved checks that no true finding ends, and that no finding vanishes.
func (l *law) resolved() {
	now := map[key]bool{}
	for _, t := range l.chain.Targets {
		for _, f := range t.Findings {
			now[key{t.Contract, findingOf(f)}] = true
		}
	}
	ended := map[key]bool{}
	for _, c := range l.res.Changes {
		if c.Type == audit.Resolved {
			k := key{c.Contract, findingOf(c.Finding)}
			ended[k] = true
			another := k.Kind == "malformed_id" && now[k] // is malformed as well
			if proven := l.mem.open[k]; !another && (!l.liar || proven && !l.unreal || l.mem.signed[k]) {
				l.mayEnd(k)
			}
		}
	}
	for k := range l.mem.open {
		if !now[k] && !ended[k] {
			l.fail("%v vanished", k)
		}
	}
}

// mayEnd checks that an ended finding is not true at the newest block with the newest claim.
func (l *law) mayEnd(k key) {
	at := common.HexToAddress(k.contract)
	if l.Enemy != "" && at == l.at[l.Contracts] {
		return
	}
	var block common.Hash // if zero, no finding about the chain may end
	if l.mem.newest != nil {
		block = common.HexToHash(l.mem.newest.Hash)
	} else if !slices.Contains([]string{"chain_mismatch", "contract_not_listed", "contract_unexpected", "duplicate_conflict", "malformed_id", "no_hash"}, k.Kind) {
		l.fail("%v ended, and no block was ever seen", k)
		return
	}
	truly, err := l.truth(l.ctx, at, block, l.mem.claim)
	if err != nil {
		l.fail("the truth cannot be known: %w", err)
		return
	}
	still := truly.wrong[k.finding] || k.Kind == "storage_unaccounted" && truly.is.unexplained
	if list, id, ofEntry := k.entry(); ofEntry {
		allowed, rows := truly.is.allowed[list][id], truly.claims[list][id]
		silent := !truly.read || truly.silent(list, id)
		switch k.Kind {
		case "claim_allowed_chain_denied":
			still = still || !allowed && silent
		case "claim_denied_chain_allowed", "unlisted_chain_allowed":
			still = allowed && (silent || len(rows) == 0 || !*rows[0].allowed)
			if t := l.target(at); t != nil { // it continues as another kind
				still = still && !slices.ContainsFunc(t.Findings, func(f audit.Finding) bool {
					return f.ID == k.ID && string(f.List) == k.List && f.State == audit.Confirmed && makes[string(f.Kind)] == drift
				})
			}
		}
	}
	if still {
		l.fail("%v ended, and is still true", k)
	}
}
