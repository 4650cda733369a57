package ethrpc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"golang.org/x/sync/errgroup"
)

// group is the calls about one contract.
type group struct {
	contract common.Address
	calls    []*call
	optional []*call // that can be done without
}

// doGroups makes the calls about several contracts in one go. Where that fails though the provider is there, each
// contract's go by themselves, and where that fails too, without the optional ones: a contract that makes the node slow
// costs no other one its answers. The next time it is asked for by itself at once, and has less time.
// There is an error for each group whose calls were not made.
func (p *provider) doGroups(ctx context.Context, groups []group) []error {
	errs := make([]error, len(groups))
	var together, alone []int
	for i, g := range groups {
		if p.slow.has(g.contract) {
			alone = append(alone, i)
		} else {
			together = append(together, i)
		}
	}
	err := p.doTogether(ctx, groups, together)
	switch {
	case err == nil:
	case p.isLost(ctx, err, len(together) > 1):
		for _, i := range together {
			errs[i] = err
		}
	case len(together) == 1:
		errs[together[0]] = p.doWithout(ctx, groups[together[0]], err)
	default:
		alone = append(alone, together...)
	}
	p.doAlone(ctx, groups, alone, errs)
	return errs
}

// doTogether makes the calls of some groups in one go.
func (p *provider) doTogether(ctx context.Context, groups []group, which []int) error {
	some := make([]group, len(which))
	optional := false
	for i, k := range which {
		some[i] = groups[k]
		optional = optional || len(groups[k].optional) > 0
	}
	size := p.batchSize.Load()
	err := p.do(ctx, pending(some))
	if err != nil && optional {
		p.batchSize.Store(size) // that those were refused says nothing of batches
	}
	return err
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

// doAlone makes the calls of each of some groups by themselves, side by side.
func (p *provider) doAlone(ctx context.Context, groups []group, which []int, errs []error) {
	shared := shared(groups, which) // is asked for once, before
	sharedErr := p.do(ctx, shared)
	var g errgroup.Group
	g.SetLimit(parallel)
	late := make([]error, len(groups))
	for _, i := range which {
		g.Go(func() error {
			if errs[i] = sharedErr; sharedErr != nil && anyOf(groups[i].calls, shared) {
				return nil
			}
			calls := pending(groups[i : i+1])
			for _, c := range calls {
				c.quick = true
			}
			if errs[i] = p.do(ctx, calls); errors.Is(errs[i], context.DeadlineExceeded) {
				late[i] = errs[i]
			}
			if errs[i] != nil && !p.isLost(ctx, errs[i], false) {
				errs[i] = p.doWithout(ctx, groups[i], errs[i])
			}
			return nil
		})
	}
	_ = g.Wait()
	// Where all are late it is the provider.
	blame := slices.ContainsFunc(which, func(i int) bool { return late[i] == nil })
	for _, i := range which {
		if late[i] == nil {
			p.slow.remove(groups[i].contract)
		} else if blame && ctx.Err() == nil {
			p.slow.add(groups[i].contract)
		}
	}
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

// shared returns the calls of more than one of some groups that are not answered.
func shared(groups []group, which []int) (out []*call) {
	n := map[*call]int{}
	for _, i := range which {
		for _, c := range groups[i].calls {
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

// slowContracts are those that made a provider's answers late, though it is not slow otherwise.
type slowContracts struct {
	mu    sync.Mutex
	until map[common.Address]time.Time
}

func (s *slowContracts) has(contract common.Address) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.until[contract])
}

func (s *slowContracts) add(contract common.Address) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until == nil {
		s.until = map[common.Address]time.Time{}
	}
	s.until[contract] = time.Now().Add(proofPause)
}

func (s *slowContracts) remove(contract common.Address) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.until, contract)
}

// atBlock says where a request failed.
func atBlock(doing string, at pin, err error) error {
	return fmt.Errorf("%s at block %d: %w", doing, at.block.Number, err)
}
