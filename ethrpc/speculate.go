//go:build ignore

package ethrpc

import (
	"bytes"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// guessing is what storage must hold for the node's answers to be true, by contract. Where that, with what is proven, is
// all that the contract stores, its storage root proves it at once: no slot of the lists has to be proven by itself.
type guessing map[common.Address]*guessed

// guessed is the guess about one contract.
type guessed struct {
	words map[common.Hash]common.Hash // by slot
	jobs  []*job                      // whose answers these are
	tried bool                        // against the root: no more is guessed
}

// guess returns what a slot that the job reads must hold for the node's answer to be true.
func (r *proving) guess(j *job) (word common.Hash, ok bool) {
	if g := r.guessing[j.contract]; j.said == nil || *j.said > bundleYes || g != nil && g.tried || !r.world.Fresh(j.contract) {
		return common.Hash{}, false
	}
	return common.Hash{31: *j.said}, true
}

// take keeps a guess if what the job came to is what the node says, and rests on one slot of the contract holding word. The
// answer is not kept: the run may have wanted more than it told of.
func (g guessing) take(j *job, res proof.Result, word common.Hash) bool {
	m := res.Missing
	if len(m.Slots) != 1 || len(m.Accounts)+len(m.Codes) > 0 || m.Slots[0].Account != j.contract || res.Reverted || !bytes.Equal(res.Output, word[:]) {
		return false
	}
	if g[j.contract] == nil {
		g[j.contract] = &guessed{words: map[common.Hash]common.Hash{}}
	}
	of := g[j.contract]
	of.words[m.Slots[0].Key] = word
	of.jobs = append(of.jobs, j)
	return true
}

// fill holds the guesses against the storage roots, and returns the jobs that guessed: they are to be run again, over the
// storage that is proven by now or, where the guess was wrong, without one.
func (r *proving) fill() (left []*job) {
	for addr, g := range r.guessing {
		right := !g.tried && r.world.Fill(addr, g.words)
		if !right && r.sketchy {
			r.sketch = r.sketch || len(g.jobs) > 0
		} else {
			left = append(left, g.jobs...)
		}
		g.tried, g.jobs, g.words = true, nil, nil
	}
	return left
}
