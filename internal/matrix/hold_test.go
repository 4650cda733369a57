package matrix_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/testchain"
)

// lawful holds a report against the truth at the block and about the claim that it names, whatever failed. Of the API's list
// of KMS it does not say which one it rests on: that is as the edits make it.
func (g *rig) lawful(r *audit.Report, known baselines, edits []edit) string {
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
	truly.hushed = g.scene.hushed(edits)
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
		complaint := g.holds(truly, t, at, real, heads)
		if complaint != "" && g.holds(truly.remembering(g.scene.since(0)), t, at, real, heads) == "" {
			complaint = ""
		}
		if complaint != "" {
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
