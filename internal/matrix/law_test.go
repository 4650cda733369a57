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
		before, edits := maps.Clone(g.known), g.edits
		first := g.look(before)
		r = g.auditor.Audit(ctx)
		if err := g.scene.failed(); err != nil {
			b.drop()
			t.Fatalf("changing the world during an audit: %v", err)
		}
		complaint := g.lawful(r, before, edits)
		if complaint != "" { // or it is about the time after the change between the passes
			complaint = g.lawful(r, before, g.edits)
		}
		if complaint == "" && len(p.Faults) == 0 {
			second := g.look(before)
			complaint = g.exact(r, first, second)
			for _, known := range []bool{true, false} { // by the first look already, or from its events
				if complaint != "" {
					one, two := first, second
					if two.world = two.remembering(g.scene.since(0)); known {
						one.world = one.remembering(g.scene.since(0))
					}
					if g.exact(r, one, two) == "" {
						complaint = ""
					}
				}
			}
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
