package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"time"
)

// plan is what to measure.
type plan struct {
	sizes   []size // audited once, by every contender
	daemons []size // audited again and again, by kms-auditor
	delays  []time.Duration
	runs    int
	who     *regexp.Regexp // names of contenders
	patient bool           // nothing is calculated
}

// The sizes that tell most, and all of them.
var (
	byEntries   = []size{{1, 10, 1}, {1, 100, 1}, {1, 1000, 1}, {1, 10_000, 1}}
	byContracts = []size{{1, 100, 1}, {10, 100, 1}, {100, 100, 1}}
	byChains    = []size{{8, 100, 1}, {8, 100, 8}}
	few         = size{3, 100, 1}
	large       = size{100, 1000, 8} // its claims would not fit into one answer of the API
	watched     = []size{{1, 10, 1}, few, {1, 1000, 1}, {1, 10_000, 1}, large}
)

const steadyDelay = 50 * time.Millisecond

// product is every size that there can be: not more chains than contracts, and no claim that is too long for the API.
func product() (all []size) {
	for _, contracts := range []int{1, 10, 100} {
		for _, entries := range []int{10, 100, 1000, 10_000} {
			for _, chains := range []int{1, 8} {
				if chains <= contracts && contracts*entries <= 40_000*chains && contracts*entries <= 100_000 {
					all = append(all, size{contracts, entries, chains})
				}
			}
		}
	}
	return append(all, byChains[0], byChains[1], few)
}

// results are what was measured.
type results struct {
	samples []sample
	watches []steady
}

// carryOut measures what is planned, world by world.
func (p *programs) carryOut(ctx context.Context, plan plan) (r results, err error) {
	contenders := append([]contender{once(proven), once(searched), once(believed)}, others...)
	for _, s := range distinct(plan.sizes, plan.daemons) {
		w, err := p.newWorld(s)
		if err != nil {
			return r, err
		}
		err = w.carryOut(ctx, plan, contenders, &r)
		w.close()
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

func (w *world) carryOut(ctx context.Context, plan plan, contenders []contender, r *results) error {
	for _, c := range contenders {
		if !has(plan.sizes, w.size) || !plan.who.MatchString(c.name) || c.most > 0 && w.size.contracts*w.size.entries > c.most {
			continue
		}
		progress("%s: %s", w.size, c.name)
		got, err := w.sample(ctx, c, plan.delays, plan.runs, plan.patient)
		if err != nil {
			return err
		}
		r.samples = append(r.samples, got...)
	}
	if has(plan.daemons, w.size) {
		progress("%s: daemon", w.size)
		got, err := w.watch(ctx, steadyDelay, max(plan.runs, 5))
		if err != nil {
			return err
		}
		r.watches = append(r.watches, got)
	}
	return nil
}

// progress tells whoever waits what is done now.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
}
