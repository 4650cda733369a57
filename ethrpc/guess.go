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
	words   map[common.Hash]common.Hash // by slot
	results []supposed
	wrong   bool // it did not come to the root, or the answers contradict one another
}

// supposed is what a job comes to if the guess is right.
type supposed struct {
	job      *job
	touched  []proof.Slot
	volatile bool
}

// guess returns what a slot that the job reads must hold for the node's answer to be true.
func (r *proving) guess(j *job) (word common.Hash, ok bool) {
	if g := r.guessing[j.contract]; j.said == nil || *j.said > bundleYes || g != nil && g.wrong || !r.world.Fresh(j.contract) {
		return common.Hash{}, false
	}
	return j.word(), true
}

// word is the node's answer as the word of a bool.
func (j *job) word() common.Hash { return common.Hash{31: *j.said} }

// take keeps a result that rests on one slot of the contract holding word, and on it alone, if it is what the node says.
func (g guessing) take(j *job, res proof.Result, word common.Hash) bool {
	m := res.Missing
	if len(m.Slots) != 1 || len(m.Accounts)+len(m.Codes) > 0 || m.Slots[0].Account != j.contract || res.Reverted || !bytes.Equal(res.Output, word[:]) {
		return false
	}
	if g[j.contract] == nil {
		g[j.contract] = &guessed{words: map[common.Hash]common.Hash{}}
	}
	of := g[j.contract]
	if was, guessed := of.words[m.Slots[0].Key]; guessed && was != word {
		of.wrong = true
	}
	of.words[m.Slots[0].Key] = word
	of.results = append(of.results, supposed{j, res.Touched, res.Volatile})
	return true
}

// fill holds the guesses against the storage roots, and returns the jobs whose guess was wrong.
func (r *proving) fill() (left []*job) {
	for addr, g := range r.guessing {
		right := !g.wrong && r.world.Fill(addr, g.words)
		for _, s := range g.results {
			switch {
			case right:
				r.settle(s.job, proof.Result{Output: s.job.word().Bytes(), Touched: s.touched, Volatile: s.volatile})
			case r.sketchy:
				r.sketch = true
			default:
				left = append(left, s.job)
			}
		}
		g.wrong, g.results, g.words = true, nil, nil
	}
	return left
}
