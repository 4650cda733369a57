package ethrpc

import (
	"context"
	"errors"
	"slices"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// compareWithNode has the node asked what the job asks.
func (c *proving) compareWithNode(j *job) {
	if c.compares && len(j.Data) == inputLen && !j.compared {
		j.compared = true
		c.waiting = append(c.waiting, j)
	}
}

// compareNew has the node asked what was not asked of the same code before.
func (c *proving) compareNew() {
	standing := c.old.unchangedIn(c.verified, false)
	for _, j := range c.jobs {
		known := standing
		if standing && j.Getter != "" {
			_, known = c.old.reading.answers(j.Getter)[j.ID]
		}
		if !known {
			c.compareWithNode(j)
		}
	}
}

// compareChanged has the node asked what is answered otherwise than before.
func (c *proving) compareChanged() {
	for i := range c.all {
		if j := &c.all[i]; c.old != nil && j.Getter != "" && c.reading.answer(j.Call) != c.old.reading.answer(j.Call) {
			c.compareWithNode(j)
		}
	}
}

// guessable reports whether guesses about the contract can be tried at once: nothing is likely to be missing but its slots.
func (c *proving) guessable() bool {
	if !c.verified.Fresh(c.query.Contract) {
		return false
	}
	impl := c.implementation()
	if impl == nil {
		return true
	}
	_, known := c.verified.Account(*impl)
	return known
}

// multicalls makes multicalls of the jobs that wait, for each contract its own; none where the provider takes none.
func (r *prover) multicalls(all []*proving) [][]*multicall {
	out := make([][]*multicall, len(all))
	if r.p.cannotMulticall() != nil {
		return out
	}
	for i, c := range all {
		for jobs := range slices.Chunk(c.waiting, maxCalls) {
			out[i] = append(out[i], newMulticall(r.at, c.query.Contract, jobs))
		}
		c.waiting = nil
	}
	return out
}

// collect decodes what the multicalls were answered. What cannot be had in one is asked call by call, in the end.
func (r *prover) collect(all []*proving, made [][]*multicall) {
	var refused error
	taken := false
	for i, c := range all {
		for _, m := range made[i] {
			if c.err != nil {
				break
			}
			out, err := m.answers()
			if gone := providerError(r.at, m.Err); isGone(gone) {
				c.err = gone
				break
			}
			if err != nil {
				refused = err
				c.waiting = append(c.waiting, m.jobs...)
				continue
			}
			taken = true
			for k, j := range m.jobs {
				j.node = &Answer{Allowed: out[k] == callTrue}
				if out[k] > callTrue {
					j.node.Err = errReverted
				}
			}
		}
	}
	if refused != nil && !taken { // else it is the contract's matter
		r.p.noMulticall.Store(newRefusal(refused))
	}
}

// checkNode compares what the node says with what is proven. Where a multicall says something else, or nothing, the node is
// asked once more in a call of its own: a contract may answer another contract otherwise.
func (r *prover) checkNode(ctx context.Context, all []*proving) {
	all = slices.DeleteFunc(slices.Clone(all), func(c *proving) bool { return c.err != nil || c.fault != nil })
	for _, c := range all {
		c.compareChanged()
	}
	if slices.ContainsFunc(all, func(c *proving) bool { return len(c.waiting) > 0 }) {
		r.fetch(ctx, all)
	}
	groups, jobs := make([]group, len(all)), make([][]*job, len(all))
	for i, c := range all {
		groups[i].contract = c.query.Contract
		for k := range c.all {
			j := &c.all[k]
			if !j.compared || j.Getter == "" {
				continue
			}
			proven, ok := c.reading.answers(j.Getter)[j.ID]
			if ok && !errors.Is(proven.Err, proof.ErrWrites) && (j.node == nil || proven.Err != nil || *j.node != proven) {
				groups[i].calls, jobs[i] = append(groups[i].calls, ethCall(r.at, c.query.Contract, j.Data)), append(jobs[i], j)
			}
		}
	}
	r.failed("calling getters", all, r.p.doGroups(ctx, groups))
	for i, c := range all {
		for k, j := range jobs[i] {
			if c.err == nil {
				c.err = providerError(r.at, groups[i].calls[k].Err)
			}
			if c.err != nil {
				break
			}
			answer, proven := answerOf(groups[i].calls[k]), c.reading.answer(j.Call)
			if (answer.Err != nil) != (proven.Err != nil) || answer.Allowed != proven.Allowed {
				c.err = &GetterError{c.query.Contract, j.Getter, j.ID, answer, proven}
				break
			}
		}
	}
}
