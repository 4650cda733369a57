package simtest_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
)

// workers is the number of concurrent workers, each with its own chain. Audits spend much of their time waiting.
const workers = 4

var replay = flag.String("plan", "", "play the plan in this `file` instead")

// TestMain divides the sequences among the workers: 200, or -rapid.checks.
func TestMain(m *testing.M) {
	checks := flag.Lookup("rapid.checks").Value
	must(checks.Set("200"))
	flag.Parse()
	n, err := strconv.Atoi(checks.String())
	must(err)
	must(checks.Set(strconv.Itoa((n + workers - 1) / workers)))
	os.Exit(m.Run())
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// bench is a worker's chain, which many sequences share.
type bench struct {
	node      *node
	sequences int
	dir       string
}

// perChain is the number of sequences before a new chain is started. Many reorganisations also make a chain unusable: fees rise,
// and a node refuses a transaction that costs more than an ether.
const perChain = 100

func (b *bench) chain(ctx context.Context) (_ *node, err error) {
	if b.sequences++; b.node != nil && (b.sequences%perChain == 0 || b.node.tip > 2e11) {
		b.drop()
	}
	if b.node == nil {
		b.node, err = startNode(ctx)
	}
	return b.node, err
}

func (b *bench) drop() {
	if b.node != nil {
		b.node.raw.Close()
		b.node.Close()
		b.node = nil
	}
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

// TestLaw draws sequences of audits of one world, and compares each audit with the truth.
func TestLaw(t *testing.T) {
	if *replay != "" {
		b, err := os.ReadFile(*replay)
		must(err)
		var p plan
		must(json.Unmarshal(b, &p))
		bench := &bench{dir: t.TempDir()}
		defer bench.drop()
		bench.try(t, p, newTally())
		return
	}
	count := newTally()
	t.Run("sequences", func(t *testing.T) {
		for i := range workers {
			t.Run(strconv.Itoa(i+1), func(t *testing.T) {
				t.Parallel()
				b := &bench{dir: t.TempDir()}
				defer b.drop()
				rapid.Check(t, func(t *rapid.T) { b.try(t, drawer{t}.plan(), count) })
			})
		}
	})
	t.Logf("\n%s", count)
	// If everything were unknown, the law would check nothing.
	if all := count.of(false, consistent) + count.of(false, drift) + count.of(false, unknown); count.sequences >= 100 && (count.of(false, consistent) < all/4 || count.of(false, drift) < all/4 || count.exact < all/2) {
		t.Error("too few verdicts are not unknown")
	}
}

// try plays a plan and, if there is an enemy, plays it again without it. It returns the results of play.
func (b *bench) try(t fataler, p plan, count *tally) [][]string {
	t.Helper()
	with, err := b.play(p, count)
	if errors.Is(err, errStuck) { // the failure is the test chain's
		b.drop()
		with, err = b.play(p, count)
	}
	if err == nil && p.Config.Enemy != "" && p.compares() {
		alone := p
		alone.Config.Enemy = ""
		var without [][]string
		if without, err = b.play(alone, nil); err == nil {
			if diff := gocmp.Diff(without, with); diff != "" {
				err = fmt.Errorf("the enemy changes the results for other contracts:\n%s", diff)
			}
		}
	}
	if err != nil {
		b.drop()
		text, _ := json.Marshal(p)
		t.Fatalf("%v\nthe plan, for -plan FILE:\n%s", err, text)
	}
	return with
}

// compares reports whether a plan runs the same with an enemy: its acts depend neither on the number of requests or looks, nor on
// bytes of a proof.
func (p plan) compares() bool {
	return !slices.ContainsFunc(p.Steps, func(s step) bool {
		return len(s.Between) > 0 || slices.ContainsFunc(s.Before, func(a act) bool {
			return a.What == "lies in proofs" || a.What == "alternate" || a.What == "invents" || slices.Contains(atProvider, a.What) && a.ID > 0
		})
	})
}

// atRest lists acts that do not happen during an audit.
var atRest = []string{"restart", "forget", "acknowledge"}

// play plays a plan and returns the results of each audit for each contract but the enemy.
func (b *bench) play(p plan, count *tally) (said [][]string, err error) {
	ctx := context.Background()
	w, err := b.world(ctx, p.Config, b.dir)
	if err != nil {
		return nil, fmt.Errorf("building the world: %w", err)
	}
	defer os.Remove(w.file)
	defer w.close()
	count.begin()
	for i, s := range p.Steps {
		w.faulty, w.liar, w.invents, w.unreal, w.current = false, false, false, false, true
		if err := w.acts(ctx, s.Before); err != nil {
			return nil, fmt.Errorf("before audit %d: %w", i+1, err)
		}
		w.between = slices.DeleteFunc(slices.Clone(s.Between), func(a act) bool { return slices.Contains(atRest, a.What) })
		res := w.auditor.Audit(ctx, fmt.Sprint(i), map[string]audit.Prior{"test": w.state.Prior("test")})
		if w.err != nil {
			return nil, fmt.Errorf("during audit %d: %w", i+1, w.err)
		}
		w.state.Record(res.Report, res.Next, res.Changes)
		exact, err := w.unlawful(ctx, res)
		if err == nil {
			err = w.alerts.check(res.Report)
		}
		if err != nil {
			return nil, fmt.Errorf("audit %d: %w\n%s", i+1, err, brief(res))
		}
		count.audit(w, res, exact)
		said = append(said, w.saidOf(res))
	}
	return said, nil
}

// brief summarises an audit in a few lines.
func brief(res observe.Result) string {
	var b strings.Builder
	for _, o := range []*audit.Observation{&res.Records[0].Looks.First, res.Records[0].Looks.Second, res.Records[0].Looks.Head} {
		if o != nil {
			fmt.Fprintf(&b, "look by %q: block %+v, claim %t\n", o.Tag, o.Block, o.Claim != nil)
		}
	}
	for _, e := range res.Report.Chains[0].Errors {
		fmt.Fprintf(&b, "error %+v\n", e)
	}
	for _, t := range res.Report.Chains[0].Targets {
		fmt.Fprintf(&b, "%s %s %s %s %+v %q\n", t.Contract, t.Verdict, t.Assurance, t.Completeness, t.Counts, t.Reasons)
		for _, f := range t.Findings {
			fmt.Fprintf(&b, "  %s %s %s %s: %s\n", f.State, f.Kind, f.List, f.ID, f.Message)
		}
	}
	return b.String()
}

func (w *world) saidOf(res observe.Result) (out []string) {
	for n, at := range w.at[:w.Contracts] {
		for _, t := range res.Report.Chains[0].Targets {
			if t.Contract == at.Hex() {
				line := []string{fmt.Sprint(n), t.Verdict.String()}
				for _, f := range t.Findings {
					line = append(line, fmt.Sprint(findingOf(f), f.State))
				}
				out = append(out, strings.Join(line, " "))
			}
		}
	}
	return out
}

// tally counts drawn plans and verdicts.
type tally struct {
	mu                sync.Mutex
	sequences, audits int
	exact             int            // targets whose verdict had to be the truth
	said              map[string]int // targets by whether something failed, and by verdict
	by                map[string]int // targets that were unknown, by what failed
	all               map[string]int // targets by what failed
	trust             map[string]int // audits by anchor, who vouches for the block, and the verdict
	resolved, opened  int
	began             time.Time
}

func newTally() *tally {
	return &tally{said: map[string]int{}, by: map[string]int{}, all: map[string]int{}, trust: map[string]int{}, began: time.Now()}
}

func (c *tally) begin() {
	if c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sequences++
	}
}

func (c *tally) audit(w *world, res observe.Result, exact int) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.audits++
	c.exact += exact
	if b := res.Report.Chains[0].Block; w.Anchor != "" || w.invents {
		trust := "nobody"
		if b != nil {
			trust = cmp.Or(string(b.Trust), "providers")
		}
		c.trust[fmt.Sprintf("anchor %q, invented chain %t, believed %t, block by %s: %s", w.Anchor, w.invents, w.unreal, trust, res.Report.Verdict)]++
	}
	for _, ch := range res.Changes {
		switch ch.Type {
		case audit.Opened:
			c.opened++
		case audit.Resolved:
			c.resolved++
		}
	}
	var ills []string
	for _, ill := range w.ills {
		if ill != "" {
			ills = append(ills, ill)
		}
	}
	if w.api.fault != nil {
		ills = append(ills, "API: "+w.api.fault.Name)
	}
	if w.api.has("alternate") {
		ills = append(ills, "API: alternate")
	}
	for _, t := range res.Report.Chains[0].Targets {
		c.said[fmt.Sprint(w.faulty, " ", t.Verdict)]++
		for _, ill := range ills {
			if c.all[ill]++; t.Verdict == audit.Unknown {
				c.by[ill]++
			}
		}
	}
}

// of returns the number of targets with a verdict.
func (c *tally) of(faulty bool, verdict string) int { return c.said[fmt.Sprint(faulty, " ", verdict)] }

func (c *tally) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d sequences, %d audits in %s; %d findings opened, %d resolved\n", c.sequences, c.audits, time.Since(c.began).Round(time.Second), c.opened, c.resolved)
	for _, faulty := range []bool{false, true} {
		fmt.Fprintf(&b, "faults %t: %d consistent, %d drift, %d unknown\n", faulty, c.of(faulty, consistent), c.of(faulty, drift), c.of(faulty, unknown))
	}
	fmt.Fprintf(&b, "%d verdicts had to be the truth\n", c.exact)
	for _, trust := range slices.Sorted(maps.Keys(c.trust)) {
		fmt.Fprintf(&b, "%s: %d\n", trust, c.trust[trust])
	}
	fmt.Fprintln(&b, "| fault | targets | unknown |\n|---|---:|---:|")
	for _, ill := range slices.Sorted(maps.Keys(c.all)) {
		fmt.Fprintf(&b, "| %s | %d | %d %% |\n", ill, c.all[ill], 100*c.by[ill]/c.all[ill])
	}
	return b.String()
}
