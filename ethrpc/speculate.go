package ethrpc

import (
	"bytes"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// guess is what a contract's storage must hold for the node's answers to be true. Where that, with what is proven, is all
// that the contract stores, its storage root proves it at once: no slot of the lists has to be proven by itself.
type guess struct {
	words map[common.Hash]common.Hash // by slot
	jobs  []*job                      // whose answers these are
	tried bool                        // against the root: no more is guessed
}

// guessFor returns what a slot that the job reads must hold for the node's answer to be true.
func (c *proving) guessFor(j *job) (word common.Hash, ok bool) {
	if j.node == nil || j.node.Err != nil || c.guess.tried || !c.verified.Fresh(c.query.Contract) {
		return common.Hash{}, false
	}
	if j.node.Allowed {
		word[31] = 1
	}
	return word, true
}

// take keeps a guess if what the job came to is what the node says, and rests on one slot of the contract holding word. The
// answer is not kept: the run may have wanted more than it told of.
func (g *guess) take(contract common.Address, j *job, res proof.Result, word common.Hash) bool {
	m := res.Missing
	if len(m.Slots) != 1 || len(m.Accounts)+len(m.Codes) > 0 || m.Slots[0].Account != contract || res.Reverted || !bytes.Equal(res.Output, word[:]) {
		return false
	}
	if g.words == nil {
		g.words = map[common.Hash]common.Hash{}
	}
	g.words[m.Slots[0].Key] = word
	g.jobs = append(g.jobs, j)
	return true
}

// settleGuess compares the guess with the storage root, and returns the jobs that guessed: they are to be run again, over
// the storage that is proven by now or, where the guess was wrong, without one.
func (c *proving) settleGuess() (left []*job) {
	g := &c.guess
	if len(g.jobs) == 0 {
		return nil
	}
	if !g.tried && c.verified.ProveBySpeculation(c.query.Contract, g.words) || !c.partial {
		left = g.jobs
	} else {
		c.reading.Partial = true
	}
	*g = guess{tried: true}
	return left
}
