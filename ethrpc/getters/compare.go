package getters

import (
	"iter"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
)

// InputLen is the input length of a call that a multicall can make: a selector and one word.
const InputLen = 4 + common.HashLength

// compare puts the wanted jobs into Waiting, each once, so that the node is asked for their answers.
func (c *Run) compare(wanted func(j *Job) bool) {
	for _, j := range c.all {
		if len(j.Data) == InputLen && j.Old == "" && !j.compared && wanted(j) {
			j.compared = true
			c.Waiting = append(c.Waiting, j)
		}
	}
}

// CompareNew has the node asked for answers that the same code was not asked for before.
func (c *Run) CompareNew() {
	standing := c.old.UnchangedIn(c.State, false)
	c.compare(func(j *Job) bool {
		if !standing || j.Getter == "" {
			return !standing || c.old.Reading.Partial
		}
		_, known := c.old.Reading.answers(j.Getter)[j.ID]
		return !known
	})
}

// Guessable reports whether the node's answers can be tried as a guess now: only slots of the contract are likely to be missing.
func (c *Run) Guessable() bool {
	if !c.State.Fresh(c.Query.Contract) {
		return false
	}
	impl, ok := c.implementation()
	_, known := c.State.Account(impl)
	return known || !ok
}

// CompareChanged has the node asked for answers that changed since the previous Run.
func (c *Run) CompareChanged() {
	if c.old != nil {
		c.compare(func(j *Job) bool { return j.Getter != "" && c.Reading.answer(j.Call) != c.old.Reading.answer(j.Call) })
	}
}

// Doubts returns the allowlist calls to which the node did not give the proven answer, each with that answer.
func (c *Run) Doubts() iter.Seq2[*Job, kms.Answer] {
	return func(yield func(*Job, kms.Answer) bool) {
		for _, j := range c.all {
			if !j.compared || j.Getter == "" || j.Err != nil {
				continue
			}
			proven, ok := c.Reading.answers(j.Getter)[j.ID]
			if ok && (j.Node == nil || proven.Err != nil || *j.Node != proven) && !yield(j, proven) {
				return
			}
		}
	}
}
