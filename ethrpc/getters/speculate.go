package getters

import (
	"bytes"
	"maps"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// guess is the storage that a contract must have if the node's answers are true. If the guess and the proven slots together give
// the contract's storage root, that proves the guess: no slot has to be proven by itself.
type guess struct {
	words map[common.Hash]common.Hash // by slot
	jobs  []*Job                      // to run again after the comparison
	apps  map[proof.Slot]bool         // slots that jobs about apps read, if the guess is true
	tried bool                        // compared with the root; no further guesses
}

// guessFor returns the node's answer to the job, and the contents of the slots that the job reads if the answer is true. It
// returns nil if there is no guess.
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

// take adds a job's slots to the guess if, with them, the job gives the node's answer, and if only slots of the contract are
// missing. It does not keep the answer, since the run may not have reported all that it misses.
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

// settleGuess compares the guess with the storage root. It returns the guess's jobs, which must run again: over the proven
// storage if the guess was right, and without a guess if it was wrong.
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
		c.apps.done = c.apps.first // run the other apps again, without a guess
	}
	*g = guess{tried: true}
	return left
}
