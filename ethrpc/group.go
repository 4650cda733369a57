package ethrpc

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
)

// group is the calls about one contract.
type group struct {
	calls    []*call
	optional []*call // that can be done without
}

// doGroups makes the calls about several contracts in one go. Where that fails though the provider is there, each
// contract's go by themselves, and where that fails too, without the optional ones: a contract that makes the node slow
// costs no other contract its answers. There is an error for each group whose calls were not made.
func (p *provider) doGroups(ctx context.Context, groups []group) []error {
	errs := make([]error, len(groups))
	size := p.batchSize.Load()
	err := p.do(ctx, pending(groups))
	if err == nil {
		return errs
	}
	if slices.ContainsFunc(groups, func(g group) bool { return len(g.optional) > 0 }) {
		p.batchSize.Store(size) // that those were refused says nothing of batches
	}
	if p.isLost(ctx, err, len(groups) > 1) {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	if len(groups) == 1 {
		errs[0] = p.doWithout(ctx, groups[0], err)
		return errs
	}
	// What several ask for is asked for once, before they ask side by side.
	shared := shared(groups)
	sharedErr := p.do(ctx, shared)
	var g errgroup.Group
	g.SetLimit(parallel)
	for i := range groups {
		g.Go(func() error {
			if errs[i] = sharedErr; sharedErr == nil || !anyOf(groups[i].calls, shared) {
				errs[i] = p.doAlone(ctx, groups[i])
			}
			return nil
		})
	}
	_ = g.Wait()
	return errs
}

// isLost reports whether calls that failed with err need not be tried in smaller parts.
func (p *provider) isLost(ctx context.Context, err error, check bool) bool {
	if _, again := isTransient(err); again || ctx.Err() != nil {
		return true
	}
	if !check {
		return false
	}
	id := &call{method: "eth_chainId"}
	return p.do(ctx, []*call{id}) != nil || id.err != nil
}

func (p *provider) doAlone(ctx context.Context, g group) error {
	err := p.do(ctx, pending([]group{g}))
	if err == nil || p.isLost(ctx, err, false) {
		return err
	}
	return p.doWithout(ctx, g, err)
}

// doWithout makes the calls without the optional ones, which failed with err.
func (p *provider) doWithout(ctx context.Context, g group, err error) error {
	runsCode := func(c *call) bool { return c.method == "eth_call" || c.method == "eth_createAccessList" }
	if len(g.optional) == 0 || errors.Is(err, context.DeadlineExceeded) && !slices.ContainsFunc(g.optional, runsCode) {
		return err
	}
	for _, c := range g.optional {
		if !c.answered() {
			c.err = err
		}
	}
	return p.do(ctx, pending([]group{{calls: g.calls}}))
}

// pending returns the calls that are not answered, each once, and the optional ones last.
func pending(groups []group) (out []*call) {
	seen := map[*call]bool{}
	add := func(calls []*call) {
		for _, c := range calls {
			if !seen[c] && !c.answered() {
				seen[c] = true
				out = append(out, c)
			}
		}
	}
	for _, g := range groups {
		add(g.calls)
	}
	for _, g := range groups {
		add(g.optional)
	}
	return out
}

// shared returns the calls of more than one group that are not answered.
func shared(groups []group) (out []*call) {
	n := map[*call]int{}
	for _, g := range groups {
		for _, c := range g.calls {
			if n[c]++; n[c] == 2 && !c.answered() {
				out = append(out, c)
			}
		}
	}
	return out
}

func anyOf(calls, of []*call) bool {
	return slices.ContainsFunc(of, func(c *call) bool { return slices.Contains(calls, c) })
}

func (c *call) answered() bool { return c.result != nil || c.err != nil }

// atBlock says where a request failed.
func atBlock(doing string, at pin, err error) error {
	return fmt.Errorf("%s at block %d: %w", doing, at.block.Number, err)
}
