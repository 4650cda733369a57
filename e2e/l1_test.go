//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// l1Row is the course of one audited block, step by step.
type l1Row struct {
	sentence string
	steps    []l1Step
}

// l1Step is an action on L1 and the expected report after it. Audits are consistent unless L1 contradicts the block.
type l1Step struct {
	do     func(testing.TB, *l1Rollup)
	trust  audit.Trust
	errors string // part of the report's errors; no errors if empty
	status string // part of anchor status's problems; no problems if empty
	cannot bool   // config check --online fails
	kept   bool   // the block was held before and still is

	contradicts bool // block_contradicted is found, and the verdict is unknown
}

var (
	proposed = l1Step{do: func(t testing.TB, r *l1Rollup) { r.propose(t, r.whole(t)) }, trust: audit.TrustL1Proposed}

	lost = gameSet(1, 1, 0)
	won  = gameSet(2, 1, 0)
)

func gameSet(status, proofs uint8, countered int64) func(testing.TB, *l1Rollup) {
	return func(t testing.TB, r *l1Rollup) { must(t, r.SetGame(t.Context(), r.last(), status, proofs, countered)) }
}

func sent(name, method string, args ...any) func(testing.TB, *l1Rollup) {
	return func(t testing.TB, r *l1Rollup) { r.send(t, name, method, args...) }
}

// renamed removes a getter from a contract.
func renamed(name, signature string) func(testing.TB, *l1Rollup) {
	return func(t testing.TB, r *l1Rollup) { must(t, r.Alter(t.Context(), name, signature, nil)) }
}

// inTurn runs actions one after the other.
func inTurn(all ...func(testing.TB, *l1Rollup)) func(testing.TB, *l1Rollup) {
	return func(t testing.TB, r *l1Rollup) {
		for _, do := range all {
			do(t, r)
		}
	}
}

func blacklisted(t testing.TB, r *l1Rollup) {
	r.send(t, testchain.RollupRegistry, "blacklist", r.last())
}

func anchors(t testing.TB, r *l1Rollup) {
	r.send(t, testchain.RollupRegistry, "setAnchorGame", r.last())
}

// fell is a block that L1 no longer holds.
func fell(do func(testing.TB, *l1Rollup), why string) []l1Step {
	return []l1Step{proposed, {do: do, trust: audit.TrustProviders, errors: "is no longer confirmed by L1: " + why, status: why}}
}

// never is a block that L1 never holds.
func never(why string, do ...func(testing.TB, *l1Rollup)) []l1Step {
	return []l1Step{{do: inTurn(do...), trust: audit.TrustProviders, status: why}}
}

var l1Rows = []l1Row{
	{"a game is proven, and becomes the anchor", []l1Step{proposed, {do: inTurn(won, anchors), trust: audit.TrustL1Anchored}}},
	{"a game is won, and another one is the anchor", []l1Step{proposed, {do: won, trust: audit.TrustL1Anchored}}},
	{"a game is proposed on a game", []l1Step{{do: halves, trust: audit.TrustL1Proposed}}},
	{"the game that it was proposed on is blacklisted", never("its parent", halves, func(t testing.TB, r *l1Rollup) {
		r.send(t, testchain.RollupRegistry, "blacklist", r.games[0])
	})},
	{"it is blacklisted", fell(blacklisted, "it is blacklisted")},
	{"it was blacklisted at once", never("it is blacklisted", proposed.do, blacklisted)},
	{"the anchor is blacklisted", []l1Step{
		proposed, {do: inTurn(won, blacklisted, anchors), trust: audit.TrustProviders, errors: "it is blacklisted", status: "does not hold the claim of its anchor game", cannot: true},
	}},
	{"it is retired", fell(sent(testchain.RollupRegistry, "retire", uint64(1)<<62), "it is retired")},
	{"it is of a type that is not respected", never("it is of type 9, but the respected type is 8", func(t testing.TB, r *l1Rollup) {
		_, err := r.AddType(t.Context(), 9)
		must(t, err)
		p := r.whole(t)
		p.Type = 9
		r.propose(t, p)
	})},
	{"it is countered", fell(gameSet(0, 1, 1), "one of its intermediate roots was countered")},
	{"its proof is taken back", fell(gameSet(0, 0, 0), "it has no proof")},
	{"it has no proof yet", append(never("it has no proof", proposed.do, gameSet(0, 0, 0)), l1Step{do: gameSet(0, 1, 0), trust: audit.TrustL1Proposed})},
	{"the challenger won", fell(lost, "its status is 1")},
	{"the factory forgot it", fell(func(t testing.TB, r *l1Rollup) { must(t, r.Forget(t.Context(), r.whole(t))) }, "it is not registered")},
	{"L1 is paused, goes on, and is paused again", []l1Step{
		{do: inTurn(proposed.do, sent(testchain.RollupConfig, "setPaused", true)), trust: audit.TrustProviders, errors: "are paused", status: "are paused", cannot: true},
		{do: sent(testchain.RollupConfig, "setPaused", false), trust: audit.TrustL1Proposed},
		{do: sent(testchain.RollupConfig, "setPaused", true), trust: audit.TrustL1Proposed, errors: "are paused", status: "are paused", cannot: true, kept: true},
	}},
	{"a getter of the game is renamed", never("reading proofCount()", renamed(testchain.RollupGame, "proofCount()"), proposed.do)},
	{"a getter of the registry is renamed", fell(renamed(testchain.RollupRegistry, "isGameRetired(address)"), "reading isGameRetired(address)")},
	{"the anchor's getter is renamed", []l1Step{{
		do: inTurn(proposed.do, renamed(testchain.RollupRegistry, "getAnchorRoot()")), trust: audit.TrustL1Proposed, errors: "reading getAnchorRoot()", status: "reading getAnchorRoot()",
	}}},
	{"a getter of the portal is renamed", []l1Step{{
		do: inTurn(proposed.do, renamed(testchain.RollupPortal, "anchorStateRegistry()")), trust: audit.TrustProviders, errors: "reading anchorStateRegistry()", status: "reading anchorStateRegistry()", cannot: true,
	}}},
	{"the contracts are of another chain", []l1Step{{
		do: func(t testing.TB, r *l1Rollup) {
			r.propose(t, r.whole(t))
			r.send(t, testchain.RollupConfig, "set", r.At[testchain.RollupPortal], big.NewInt(10))
		}, trust: audit.TrustProviders, errors: "is of chain 10", status: "is of chain 10", cannot: true,
	}}},
	{"a game claims what is not so", []l1Step{{do: func(t testing.TB, r *l1Rollup) {
		p := r.whole(t)
		p.Roots[len(p.Roots)-1] = common.Hash{31: 1}
		r.propose(t, p)
	}, trust: audit.TrustProviders, errors: "is not the one whose output root L1 holds", contradicts: true}}},
	{"L1's provider fails, and comes back", []l1Step{
		proposed,
		{
			do: inTurn(won, func(_ testing.TB, r *l1Rollup) { r.l1.proxy.Set(rpcfault.Status(404, "")) }), trust: audit.TrustL1Proposed,
			errors: "reading what L1 says about audited blocks: ", status: "404", cannot: true,
		},
		{do: func(_ testing.TB, r *l1Rollup) { r.l1.proxy.Set(rpcfault.Fault{}) }, trust: audit.TrustL1Anchored},
	}},
	{"L1's provider lies in proofs", liesOfL1(rpcfault.LieInProofs(1))},
	{"L1's provider lies in code", liesOfL1(rpcfault.OtherCode("0x60016000526001601ff3"))},
	{"L1's provider has another chain", liesOfL1(rpcfault.LieInBlocks())},
	{"L2's provider withholds headers", []l1Step{
		{do: inTurn(proposed.do, func(_ testing.TB, r *l1Rollup) {
			r.l2.proxy.Set(rpcfault.Join(lagging(r.start+5), withheld(r.start+6)))
		}), trust: audit.TrustProviders, errors: "following the headers from block"},
		{do: func(_ testing.TB, r *l1Rollup) { r.l2.proxy.Set(lagging(r.start + 5)) }, trust: audit.TrustL1Proposed},
	}},
	{"the beacon endpoint fails, and comes back", []l1Step{
		proposed,
		{
			do: inTurn(won, func(_ testing.TB, r *l1Rollup) { r.beaconDown.Store(true) }), trust: audit.TrustL1Proposed,
			errors: "no finalized block of L1 is known", status: "503", cannot: true,
		},
		{do: func(_ testing.TB, r *l1Rollup) { r.beaconDown.Store(false) }, trust: audit.TrustL1Anchored},
	}},
}

// liesOfL1 are lies of L1's provider that prevent a confirmation and never cause one.
func liesOfL1(lie rpcfault.Fault) []l1Step {
	return []l1Step{
		{do: inTurn(proposed.do, func(_ testing.TB, r *l1Rollup) { r.l1.proxy.Set(lie) }), trust: audit.TrustProviders, errors: "reading what L1 says about audited blocks: ", status: "l1node", cannot: true},
		{do: func(_ testing.TB, r *l1Rollup) { r.l1.proxy.Set(rpcfault.Fault{}) }, trust: audit.TrustL1Proposed},
	}
}

// lagging names a block as safe, and withheld lacks a block.
func lagging(block uint64) rpcfault.Fault {
	return rpcfault.Fault{Name: "safe lags behind", Ask: func(c *rpcfault.Call) {
		for i, p := range c.Params {
			if string(p) == `"safe"` {
				c.Params[i] = json.RawMessage(fmt.Sprintf(`"0x%x"`, block))
			}
		}
	}}
}

func withheld(block uint64) rpcfault.Fault {
	return rpcfault.Fault{Name: "a block is withheld", Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if c.Method == "eth_getBlockByNumber" && string(c.Params[0]) == fmt.Sprintf(`"0x%x"`, block) {
			a.Result = json.RawMessage("null")
		}
	}}
}

// whole proposes a game for all blocks.
func (r *l1Rollup) whole(t testing.TB) testchain.Proposal { return r.proposal(t, r.start, r.start+6) }

// halves proposes a game, and another one on top of it.
func halves(t testing.TB, r *l1Rollup) {
	r.propose(t, r.proposal(t, r.start, r.start+3))
	p := r.proposal(t, r.start+3, r.start+6)
	p.Parent = r.last()
	r.propose(t, p)
}

// TestWhatL1Holds audits the block before the last; the games claim the last.
func TestWhatL1Holds(t *testing.T) {
	t.Parallel()
	w := newL1World(t, "anvil", "geth")
	w.mine(t, 6)
	head := w.l2.settle(t).Number.Uint64()
	w.l2.proxy.Set(lagging(head - 1))
	for _, row := range l1Rows {
		t.Run(row.sentence, func(t *testing.T) {
			defer func() { // also if a step fails
				w.l1.proxy.Set(rpcfault.Fault{})
				w.l2.proxy.Set(lagging(head - 1))
				w.beaconDown.Store(false)
			}()
			r := w.deployL1(t, head-6)
			w.finalize(t)
			r.auditOnce(t, r.settings, 0)
			for i, step := range row.steps {
				step.do(t, r)
				w.finalize(t)
				order := []audit.Trust{audit.TrustProviders, audit.TrustL1Proposed, audit.TrustL1Anchored}
				held := r.holds(t, head-1)
				if less := slices.Index(order, held) - slices.Index(order, step.trust); less < 0 && !step.kept || less > 0 && step.errors+step.status == "" {
					t.Fatalf("step %d: the block is %s according to the contracts, but the row wants %s", i, held, step.trust)
				}
				r.check(t, i, step)
			}
		})
	}
	t.Run("L1 is required", func(t *testing.T) { w.deployL1(t, head-6).required(t) })
}

// required makes L1 required. Its audits have no state unless given.
func (r *l1Rollup) required(t *testing.T) {
	says := func(required, state string, exit int, args ...string) (evidence string) {
		t.Helper()
		s := r.settings
		anchor := *s.Chains[0].Anchor
		anchor.Required = required
		s.Chains = slices.Clone(s.Chains)
		s.State, s.Chains[0].Anchor = state, &anchor
		c, evidence := r.auditOnce(t, s, exit, args...)
		reasons, why := fmt.Sprint(c.Targets[0].Reasons), "anchor.required: no audited block of the last "
		if strings.Contains(reasons, why) != (exit == 3) {
			t.Errorf("required: %s exits with %d for the reasons %s", required, exit, reasons)
		}
		return evidence
	}
	r.finalize(t)
	says("proposed", "", 3)
	r.propose(t, r.whole(t))
	says("proposed", "", 3) // it is not final
	r.finalize(t)
	kept := says("proposed", "", 0)
	says("proposed", r.settings.State, 0)
	says("proposed", "", 0, "--block", fmt.Sprint(r.start+5))
	says("anchored", "", 3)
	says("anchored", "", 0, "--block", fmt.Sprint(r.start)) // the anchor root is its own
	r.l1.proxy.Set(rpcfault.Status(404, ""))
	says("proposed", r.settings.State, 0)
	says("proposed", "", 3)
	r.l1.proxy.Set(rpcfault.Fault{})
	inTurn(won, anchors)(t, r)
	r.finalize(t)
	says("anchored", "", 0)
	for root, want := range map[common.Hash]int{r.checkpoint: 0, {31: 1}: 4} {
		exit, _, errs := runAuditorIn(t, offline(), nil, "verify", "--checkpoint", root.Hex(), kept)
		if exit != want || strings.Contains(errs, ": audited block 0x") != (want == 0) {
			t.Errorf("verify --checkpoint %s exits with %d\n%s", root, exit, errs)
		}
	}
}

// auditOnce audits, verifies the evidence without a network, and returns the report of L2.
func (r *l1Rollup) auditOnce(t testing.TB, s settings, want int, args ...string) (c *audit.Chain, evidence string) {
	t.Helper()
	kept := filepath.Join(t.TempDir(), "evidence.json")
	exit, out, errs := r.asks(t, append([]string{"audit", "--once", "-o", "json", "--evidence", kept, "-c", writeConfig(t, s)}, args...)...)
	if exit != want {
		t.Fatalf("exit code %d, want %d\n%s%s", exit, want, out, errs)
	}
	report := decodeReport(t, out)
	verifies(t, kept, report)
	c = &report.Chains[0]
	if truly := r.l2.header(t, int64(c.Block.Number)).Hash().Hex(); c.Block.Hash != truly {
		t.Errorf("block %d is %s, audited is %s", c.Block.Number, truly, c.Block.Hash)
	}
	return c, kept
}

func (r *l1Rollup) check(t testing.TB, i int, step l1Step) {
	t.Helper()
	c, _ := r.auditOnce(t, r.settings, map[bool]int{true: 3}[step.contradicts])
	if contradicts := strings.Contains(fmt.Sprint(c.Targets[0].Findings), string(audit.BlockContradicted)); contradicts != step.contradicts {
		t.Errorf("step %d: block_contradicted is found: %t", i, contradicts)
	}
	said := fmt.Sprint(c.Errors)
	if c.Block.Trust != step.trust || !strings.Contains(said, step.errors) || (step.errors == "") != (len(c.Errors) == 0) {
		t.Errorf("step %d: the block is %s, want %s, with the errors %q, want %q", i, c.Block.Trust, step.trust, said, step.errors)
	}
	for trust, through := range map[audit.Trust]*audit.Anchored{audit.TrustL1Proposed: c.Anchored, audit.TrustL1Anchored: c.L1Anchored} {
		holds := step.trust == trust || step.trust == audit.TrustL1Anchored
		if (through != nil) != holds || holds && (through.Hash != c.Block.Hash || through.Trust != step.trust) {
			t.Errorf("step %d: through %s stands at %+v, the block is %+v", i, trust, through, c.Block)
		}
	}
	config := writeConfig(t, r.settings)
	exit, out, errs := r.asks(t, "anchor", "status", "-o", "json", "-c", config)
	var status render.Anchors
	must(t, json.Unmarshal([]byte(out), &status))
	l1 := status.Chains[0].L1
	problems := strings.Join(l1.Problems, "\n")
	if (exit == 3) != (step.status != "") || (exit == 0) != (step.status == "") || !strings.Contains(problems, step.status) || (step.status == "") != (problems == "") {
		t.Errorf("step %d: anchor status exits with %d and has the problems %q, want %q\n%s", i, exit, problems, step.status, errs)
	}
	if proposed, anchored := r.newest(t); step.status == "" && (l1.Proposed != proposed || l1.Anchored != anchored) || l1.Proposed > proposed || l1.Anchored > anchored {
		t.Errorf("step %d: anchor status has block %d as proposed and %d as anchored, want %d and %d", i, l1.Proposed, l1.Anchored, proposed, anchored)
	}
	exit, out, _ = r.asks(t, "config", "check", "--online", "-c", config)
	line := map[bool]string{false: "ok      base l1\n", true: "FAILED  base l1: "}[step.cannot]
	if exit != map[bool]int{true: 3}[step.cannot] || !strings.Contains(out, line) {
		t.Errorf("step %d: config check --online exits with %d\n%s", i, exit, out)
	}
}
