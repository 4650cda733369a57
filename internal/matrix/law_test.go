package matrix_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"pgregory.net/rapid"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/testchain"
)

// TestLaw draws worlds and faults, and holds every verdict against the truth: the verdict equals it, or it is unknown;
// and without a fault it equals it.
func TestLaw(t *testing.T) {
	count := newTally()
	t.Run("cases", func(t *testing.T) {
		for i := range workers {
			t.Run(strconv.Itoa(i+1), func(t *testing.T) {
				t.Parallel()
				b := newBench()
				defer b.close()
				rapid.Check(t, func(t *rapid.T) { b.try(t, drawer{t}.plan(), count) })
			})
		}
	})
	t.Logf("\n%s", count)
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

// try plays one case, and returns its last report.
func (b *bench) try(t fataler, p plan, count *tally) (r *audit.Report) {
	t.Helper()
	ctx := context.Background()
	g, err := b.rig(ctx, p)
	if err != nil {
		b.drop()
		t.Fatalf("building the world: %v", err)
	}
	defer g.done()
	count.begin(p)
	for i, s := range p.Steps {
		if g.step = i; i > 0 {
			if err := g.apply(ctx, s.Before); err != nil {
				b.drop()
				t.Fatalf("changing the world: %v", err)
			}
		}
		before := maps.Clone(g.known)
		first := g.look(before)
		r = g.auditor.Audit(ctx)
		if err := g.scene.failed(); err != nil {
			b.drop()
			t.Fatalf("changing the world during an audit: %v", err)
		}
		complaint := g.lawful(r, before)
		if complaint == "" && len(p.Faults) == 0 {
			complaint = g.exact(r, first, g.look(before))
		}
		if complaint != "" {
			t.Fatalf("audit %d: %s\n%s\n%s", i+1, complaint, g, encodeIndent(r))
		}
		count.audit(g, r, before)
	}
	return r
}

// view is all that an auditor can see at a time, where nothing fails.
type view struct {
	world
	number uint64 // of the pinned block
	head   *snapshot
}

// look takes a view by the first of the block policies.
func (g *rig) look(known baselines) view {
	now := g.scene.now()
	g.scene.mu.Lock()
	at := g.scene.branch[len(g.scene.branch)-1]
	policy, _, _ := strings.Cut(g.Block, " ")
	switch policy {
	case "latest-1", "latest-2":
		back := int(policy[len(policy)-1] - '0')
		at = g.scene.branch[max(len(g.scene.branch)-1-back, 0)]
		at.number = now.number - uint64(back)
	case "finalized":
		final := now.number / 32 * 32
		for _, b := range g.scene.branch {
			if b.number <= final {
				at = b
			}
		}
		if at.number > final {
			at = sighting{}
		}
		at.number = final
	}
	g.scene.mu.Unlock()
	v := view{world: g.world(read(encode(g.newest)), at.snapshot, known), number: at.number}
	if g.Pending && policy != "latest" {
		v.head = &now.snapshot
	}
	return v
}

// world is what a verdict rests on, with everything in sight that can be.
func (g *rig) world(c said, is snapshot, known baselines) world {
	w := world{
		config: g.config, at: g.scene.at, claim: c, is: is, events: g.Verify != "off", storage: g.Verify != "off",
		baseline: map[common.Address]control{}, hushed: g.scene.hushed(g.edits),
	}
	for at, b := range known {
		was := control{owner: "nobody known", impl: "none known"}
		for _, name := range []string{"owner", "stranger"} {
			if testchain.Address(name).Hex() == b.Control.Owner {
				was.owner = name
			}
		}
		for name, impl := range g.scene.node.impl {
			if impl.Hex() == b.Control.Implementation {
				was.impl = name
			}
		}
		w.baseline[at] = was
	}
	return w
}

// exact holds a report against what two looks must lead to, where nothing fails. The answer is a complaint, or empty.
func (g *rig) exact(r *audit.Report, first, second view) string {
	chain := r.Chains[0]
	if chain.Block == nil || chain.Claim == nil {
		return "something failed, though there is no fault"
	}
	again := slices.ContainsFunc(first.targets(), func(at common.Address) bool { return first.judge(at).verdict() == drift })
	last := first
	if again {
		last = second
	}
	if chain.Block.Number != last.number && !strings.Contains(g.Block, "finalized") {
		return fmt.Sprintf("block %d is pinned, want %d", chain.Block.Number, last.number)
	}
	for _, at := range last.targets() {
		want := last.judge(at)
		if again {
			want.confirm(first.judge(at))
			last.settle(&want, at, last.head)
		}
		got := targetOf(chain, at)
		if got == nil {
			return fmt.Sprintf("%s is missing", at)
		}
		if got.Verdict.String() != want.verdict() {
			return fmt.Sprintf("%s is %s, and in truth %s\n%+v", at, got.Verdict, want.verdict(), want)
		}
		if told, truly := findingsOf(got), sorted(want.told()); !slices.Equal(told, truly) {
			return fmt.Sprintf("of %s it is told\n%v, and the truth is\n%v", at, told, truly)
		}
	}
	return ""
}

// lawful holds a report against the truth at the block and about the claim that it names, whatever failed.
func (g *rig) lawful(r *audit.Report, known baselines) string {
	chain := r.Chains[0]
	if chain.Claim == nil {
		for _, t := range chain.Targets {
			if t.Verdict != audit.Unknown {
				return fmt.Sprintf("%s is %s without a claim", t.Contract, t.Verdict)
			}
		}
		return ""
	}
	g.mu.Lock()
	claim, heard := g.heard[chain.Claim.SHA256]
	g.mu.Unlock()
	if !heard {
		return "the claim is none that the API made"
	}
	// Where nothing is asked of the chain, a block may be named that is none of it: then nothing may rest on it.
	at, real := g.scene.now(), false
	if chain.Block != nil {
		var b sighting
		if b, real = g.scene.block(chain.Block.Number, common.HexToHash(chain.Block.Hash)); real {
			at = b
		}
	}
	truly := g.world(claim, at.snapshot, known)
	worst, heads := audit.Consistent, g.scene.since(at.number)
	for _, at := range truly.targets() {
		t := targetOf(chain, at)
		if t == nil {
			// Where the list of KMS fails, nobody knows whom it alone would have named; then nothing is consistent.
			if chain.Verdict != audit.Consistent && !slices.Contains(truly.configured(), at) && !truly.claim.lists(at) {
				continue
			}
			return fmt.Sprintf("%s is missing", at)
		}
		worst = audit.Worst(worst, t.Verdict)
		if complaint := g.holds(truly, t, at, real, heads); complaint != "" {
			return fmt.Sprintf("%s (%s, %s, %s): %s", at, t.Verdict, t.Assurance, t.Completeness, complaint)
		}
	}
	if worst != chain.Verdict && len(chain.Targets) > 0 || r.Verdict != chain.Verdict {
		return fmt.Sprintf("the chain is %s, the report %s, and the worst target %s", chain.Verdict, r.Verdict, worst)
	}
	return ""
}

// holds checks one target. heads are the blocks that may have been the newest.
func (g *rig) holds(truly world, t *audit.Target, at common.Address, pinned bool, heads []sighting) string {
	n := slices.Index(truly.at[:], at)
	for _, e := range t.Entries {
		list := slices.Index(listNames[:], string(e.List))
		id := (saidEntry{list: list, id: e.ID}).number()
		if e.OnChain == audit.ChainUnknown {
			continue
		}
		if g.Verify == "required" && e.Assurance != audit.Proven || g.Verify == "off" && e.Assurance == audit.Proven || g.Agreement < 2 && e.Assurance == audit.Agreed {
			return fmt.Sprintf("%s %d has the assurance %s", e.List, id, e.Assurance)
		}
		if is := n >= 0 && id < ids && truly.is[n].allows(list, id); !pinned || n < 0 || is != (e.OnChain == audit.ChainAllowed) {
			return fmt.Sprintf("%s %d is said to be %s on chain", e.List, id, e.OnChain)
		}
	}
	if t.Baseline != nil && t.Control != nil && truly.baseline[at] == (control{}) && n >= 0 {
		is := truly.is[n]
		if t.Baseline.Control.Owner != testchain.Address(is.owner).Hex() || t.Baseline.Control.Implementation != g.scene.node.impl[is.impl].Hex() {
			return fmt.Sprintf("a wrong baseline begins: %+v", t.Baseline.Control)
		}
	}
	switch t.Verdict {
	case audit.Drift:
		true := truly.judge(at).told()
		told := 0
		for _, f := range findingsOf(t) {
			if makes[f.Kind] != drift {
				continue
			}
			if told++; !slices.Contains(true, f) {
				return fmt.Sprintf("%v is not true; true are %v", f, true)
			}
		}
		if told == 0 {
			return "drift without a finding"
		}
	case audit.Consistent:
		if !pinned {
			return "consistent, and the block is none of the chain"
		}
		truly.events = truly.events && (t.Completeness == audit.Complete || t.Completeness == audit.EventsOnly)
		truly.storage = truly.storage && t.Completeness == audit.Complete
		want := truly.judge(at)
		ok := want.verdict() == consistent
		for _, head := range heads {
			if g.Pending && !ok {
				then := truly.judge(at)
				truly.settle(&then, at, &head.snapshot)
				ok = then.verdict() == consistent
			}
		}
		if !ok {
			return fmt.Sprintf("in truth it is %s: %+v", want.verdict(), want.told())
		}
		lived := slices.ContainsFunc(t.Accepted, func(a audit.Acceptance) bool { return a.Kind == audit.StorageUnaccounted })
		if t.Completeness == audit.Incomplete && !lived && (t.Assurance == audit.Proven || g.Verify == "required") {
			return "proven, incomplete, and yet consistent"
		}
	}
	return ""
}

func targetOf(c audit.Chain, at common.Address) *audit.Target {
	for i := range c.Targets {
		if c.Targets[i].Contract == at.Hex() {
			return &c.Targets[i]
		}
	}
	return nil
}

// findingsOf lists what a report tells of a target, without what is of no use.
func findingsOf(t *audit.Target) []finding {
	var out []finding
	for _, f := range t.Findings {
		if f.Kind == audit.AcceptUnused {
			continue
		}
		one := finding{string(f.Kind), string(f.List), f.ID}
		if f.Kind == audit.MalformedID {
			one.ID = "malformed"
		}
		out = append(out, one)
	}
	return sorted(out)
}

// sorted makes a set of findings.
func sorted(all []finding) []finding {
	slices.SortFunc(all, func(a, b finding) int {
		return strings.Compare(a.Kind+a.List+a.ID, b.Kind+b.List+b.ID)
	})
	return slices.Compact(all)
}
