package getters

import (
	"iter"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
)

// InputLen is the length of a call's input that is a selector and a word: one that a multicall can make.
const InputLen = 4 + common.HashLength

// compare has the node asked what the jobs ask that are wanted, once.
func (c *Run) compare(wanted func(j *Job) bool) {
	for _, j := range c.all {
		if len(j.Data) == InputLen && j.Old == "" && !j.compared && wanted(j) {
			j.compared = true
			c.Waiting = append(c.Waiting, j)
		}
	}
}

// CompareNew has the node asked what was not asked of the same code before.
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

// Guessable reports whether guesses about the contract can be tried at once: nothing is likely to be missing but its slots.
func (c *Run) Guessable() bool {
	if !c.State.Fresh(c.Query.Contract) {
		return false
	}
	impl, ok := c.implementation()
	_, known := c.State.Account(impl)
	return known || !ok
}

// CompareChanged has the node asked what is answered otherwise than before.
func (c *Run) CompareChanged() {
	if c.old != nil {
		c.compare(func(j *Job) bool { return j.Getter != "" && c.Reading.answer(j.Call) != c.old.Reading.answer(j.Call) })
	}
}

// Doubts are the calls of lists' getters that the node was asked for and did not answer as is proven, with what is proven.
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
