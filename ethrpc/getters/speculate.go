package getters

import (
	"bytes"
	"maps"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// guess is what a contract's storage must hold for the node's answers to be true. Where that, with what is proven, is all
// that the contract stores, its storage root proves it at once: no slot of it has to be proven by itself.
type guess struct {
	words map[common.Hash]common.Hash // by slot
	jobs  []*Job                      // whose answers these are
	apps  map[proof.Slot]bool         // what passing jobs about apps read, if it is true
	tried bool                        // against the root: no more is guessed
}

// guessFor returns what the node answers to the job, and what the slots that the job reads must hold for that to be true;
// nil: nothing is guessed.
func (c *Run) guessFor(j *Job) (want []byte, assume proof.Assumption) {
	if c.guess.tried || !c.State.Fresh(c.Query.Contract) {
		return nil, nil
	}
	if j.Node != nil && j.Node.Err == nil {
		var word common.Hash
		if j.Node.Allowed {
			word[31] = 1
		}
		return word[:], func(proof.Slot) common.Hash { return word }
	}
	for i, said := range c.said {
		if said != nil && j == c.coverage[i] {
			layout := kms.Layout(i, said)
			return said, func(s proof.Slot) common.Hash { return layout(s.Key) }
		}
	}
	return nil, nil
}

// take keeps a guess if the job came to what the node says, and rests on slots of the contract that hold what was assumed.
// The answer is not kept: the run may have wanted more than it told of.
func (g *guess) take(contract common.Address, j *Job, res proof.Result, want []byte, assume proof.Assumption) bool {
	m := res.Missing
	if len(m.Slots) == 0 || len(m.Accounts)+len(m.Codes) > 0 || res.Reverted || !bytes.Equal(res.Output, want) {
		return false
	}
	for _, s := range m.Slots {
		if s.Account != contract {
			return false
		}
	}
	if g.words == nil {
		g.words, g.apps = map[common.Hash]common.Hash{}, map[proof.Slot]bool{}
	}
	for _, s := range m.Slots {
		g.words[s.Key] = assume(s)
	}
	if !j.passing {
		g.jobs = append(g.jobs, j)
	}
	return true
}

// settleGuess compares the guess with the storage root, and returns the jobs that guessed: they are to be run again, over
// the storage that is proven by now or, where the guess was wrong, without one.
func (c *Run) settleGuess() (left []*Job) {
	g := &c.guess
	if len(g.jobs) == 0 && len(g.apps) == 0 {
		return nil
	}
	switch proven := !g.tried && c.State.ProveBySpeculation(c.Query.Contract, g.words); {
	case proven:
		left = g.jobs
		maps.Copy(c.appSlots, g.apps)
	case c.partial:
		c.Reading.Partial = true
	default:
		left = g.jobs
		c.apps.done = c.apps.first // the others once more, without a guess
	}
	*g = guess{tried: true}
	return left
}
