package ethrpc

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// compareWithNode has the node asked what the job asks.
func (c *proving) compareWithNode(j *job) {
	if c.compares && len(j.data) == inputLen && !j.compared {
		j.compared = true
		c.compare, c.waiting = append(c.compare, j), append(c.waiting, j)
	}
}

// countWaiting counts the jobs that the node was not asked yet.
func countWaiting(all []*proving) (n int) {
	for _, c := range all {
		n += len(c.waiting)
	}
	return n
}

// multicalls makes multicalls of the jobs that wait, for each contract its own; nil where the provider takes none.
func (r *prover) multicalls(all []*proving) [][]*multicall {
	if r.p.cannotMulticall() != nil || countWaiting(all) == 0 {
		return nil
	}
	out := make([][]*multicall, len(all))
	for i, c := range all {
		for jobs := range slices.Chunk(c.waiting, maxCalls) {
			out[i] = append(out[i], newMulticall(r.at, c.query.Contract, jobs))
		}
		c.waiting = nil
	}
	return out
}

func callsOf(multicalls []*multicall) (out []*call) {
	for _, m := range multicalls {
		out = append(out, &m.call)
	}
	return out
}

// sendMulticalls asks all that waits in multicalls. One that the provider does not take is no fault.
func (r *prover) sendMulticalls(ctx context.Context, all []*proving) {
	made := r.multicalls(all)
	if made == nil {
		return
	}
	groups := make([]group, len(made))
	for i := range made {
		groups[i] = group{contract: all[i].query.Contract, optional: callsOf(made[i])}
	}
	r.failed("calling getters", all, r.p.doGroups(ctx, groups))
	r.collect(all, made)
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
			if gone := providerError(r.at, m.err); isGone(gone) {
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
				j.node = &out[k]
			}
		}
	}
	if refused != nil && !taken { // else it is the contract's matter
		r.p.noMulticall.Store(&refusal{refused, time.Now().Add(proofPause)})
	}
}

// checkNode compares what the node says with what is proven. Where a multicall says something else, or nothing, the node is
// asked once more in a call of its own: a contract may answer another contract otherwise.
func (r *prover) checkNode(ctx context.Context, all []*proving) {
	all = slices.DeleteFunc(slices.Clone(all), func(c *proving) bool { return c.err != nil || c.fault != nil })
	r.sendMulticalls(ctx, all)
	groups, jobs := make([]group, len(all)), make([][]*job, len(all))
	for i, c := range all {
		groups[i].contract = c.query.Contract
		for _, j := range c.compare {
			if j.list == nil {
				continue
			}
			proven, ok := c.reading.answers(j.list.getter)[j.list.id]
			if ok && !errors.Is(proven.Err, proof.ErrWrites) && (j.node == nil || proven.Err != nil || *j.node != inMulticall(proven.Allowed)) {
				groups[i].calls, jobs[i] = append(groups[i].calls, ethCall(r.at, c.query.Contract, j.data)), append(jobs[i], j)
			}
		}
	}
	r.failed("calling getters", all, r.p.doGroups(ctx, groups))
	for i, c := range all {
		for k, j := range jobs[i] {
			if c.err == nil {
				c.err = providerError(r.at, groups[i].calls[k].err)
			}
			if c.err != nil {
				break
			}
			answer, proven := groups[i].calls[k].answer(), c.reading.answers(j.list.getter)[j.list.id]
			if (answer.Err != nil) != (proven.Err != nil) || answer.Allowed != proven.Allowed {
				c.err = &GetterError{c.query.Contract, j.list.getter, j.list.id, answer, proven}
				break
			}
		}
	}
}

// inMulticall is what a multicall says of an answer.
func inMulticall(allowed bool) byte {
	if allowed {
		return callTrue
	}
	return callFalse
}
