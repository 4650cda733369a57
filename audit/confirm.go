package audit

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/kms-auditor/kms-auditor/ethrpc"
)

// again looks a second time after the pause, and keeps as drift what stands in both passes.
func (a *Auditor) again(ctx context.Context, first *pass, turn *turn) *pass {
	a.opt.Progress(first.chain.Name, fmt.Sprintf("something differs, looking again in %s", a.opt.ConfirmDelay))
	pause := time.NewTimer(a.opt.ConfirmDelay)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		a.opt.Interrupted(first.chain.Name, context.Cause(ctx))
		first.errors = append(first.errors, SourceError{StageInternal, self, fmt.Sprintf("the audit ended before its second pass: %v", context.Cause(ctx))})
		first.confirm(nil)
		return first
	}
	a.opt.Progress(first.chain.Name, "reading the API and the chain a second time")
	second := a.look(ctx, first.chain, turn, first)
	if !second.compared() && first.compared() {
		first.errors = append(first.errors, second.errors...)
		first.confirm(nil)
		return first
	}
	for _, e := range first.errors {
		if !slices.Contains(second.errors, e) {
			second.errors = append(second.errors, e)
		}
	}
	second.confirm(first)
	return second
}

// confirm takes back every difference of p that other has not seen too; nil has seen none.
func (p *pass) confirm(other *pass) {
	for _, t := range p.targets {
		o := &target{}
		if other != nil {
			for _, c := range other.targets {
				if c.address == t.address {
					o = c
				}
			}
		}
		seen := map[ethrpc.Ask][]Kind{}
		for _, e := range o.entries {
			if e.Verdict == Mismatch {
				seen[e.ask] = e.kinds()
			}
		}
		for i := range t.entries {
			e := &t.entries[i]
			kinds, differed := seen[e.ask]
			if e.Verdict == Mismatch && !slices.Equal(kinds, e.kinds()) || e.Reason == ReasonNotRead && differed {
				e.unconfirmed()
			}
		}
		t.faults = slices.DeleteFunc(t.faults, func(f fault) bool {
			if kinds[f.kind].makes != Drift || o.faulty(f.kind) {
				return false
			}
			t.reasons = append(t.reasons, fmt.Sprintf("%s was seen in one of two passes only: %s", f.kind, f.message))
			t.judged, t.crossed = false, nil
			return true
		})
	}
}

// askHead asks at the newest block for what differs at the pinned one. Where the head agrees with the claim already, the
// entry is pending, for as long as PendingMax allows; where the head cannot be asked, or not be believed as the pinned
// block is, nothing is confirmed.
func (a *Auditor) askHead(ctx context.Context, p *pass) {
	if a.opt.PendingMax == 0 || p.state == nil || p.state.Policy.Fixed() || p.state.Policy == ethrpc.Latest {
		return
	}
	var asks []ethrpc.Ask
	for _, t := range p.targets {
		if t.faulty(NoCode) {
			asks = append(asks, ethrpc.Ask{Contract: t.address})
		}
		for _, e := range t.entries {
			if e.mayBeLate(t.faulty(NoCode)) {
				asks = append(asks, e.ask)
			}
		}
	}
	if len(asks) == 0 {
		return
	}
	a.opt.Progress(p.chain.Name, "asking the newest block")
	head, err := p.chain.Reader.Read(ctx, ethrpc.Request{
		Policies:  []ethrpc.Policy{ethrpc.Latest},
		NotBefore: p.state.Block.Number,
		Aside:     true,
		Questions: func(context.Context, ethrpc.Block) ethrpc.Questions { return ethrpc.Questions{Asks: asks} },
	})
	if err != nil {
		p.errors = append(p.errors, readFailures(err)...)
		head = &ethrpc.State{}
	}
	for _, t := range p.targets {
		a.settle(p, t, head)
	}
}

// settle holds a target's differences against the head. A contract that was deployed after the pinned block has none
// of its entries there, so all of them may be late.
func (a *Auditor) settle(p *pass, t *target, head *ethrpc.State) {
	young := false
	if t.faulty(NoCode) {
		deployed, asked := head.Code[t.address]
		asked = asked && (p.state.Contracts == nil || head.Contracts != nil)
		young = asked && deployed && a.stillPending(p, ethrpc.Ask{Contract: t.address})
		if !asked || young {
			t.faults = slices.DeleteFunc(t.faults, func(f fault) bool { return f.kind == NoCode })
		}
		if !asked {
			t.reasons = append(t.reasons, "nothing is deployed at the pinned block, and the newest could not be asked")
		}
	}
	for i := range t.entries {
		e := &t.entries[i]
		if !e.mayBeLate(young) {
			continue
		}
		answer, ok := head.Answers[e.ask]
		switch {
		case !ok || answer.Err != nil || e.Assurance == Proven && !answer.Proven:
			e.unconfirmed()
		case e.at(answer).Verdict == Match && a.stillPending(p, e.ask):
			e.Verdict, e.Kind, e.policy, e.Reason = Pending, "", "", ReasonHeadAgrees
		}
	}
}

// at is the entry as it would be judged by another answer of the chain.
func (e *entry) at(a ethrpc.Answer) *entry {
	then := *e
	then.OnChain, then.Verdict, then.Kind, then.Reason = chainState(a.Allowed), Unverifiable, "", ""
	then.judge()
	return &then
}

func (t *target) faulty(k Kind) bool {
	return slices.ContainsFunc(t.faults, func(f fault) bool { return f.kind == k })
}

// mayBeLate tells whether the head may already say what the claim says. young: the contract is newer than the pin.
func (e *entry) mayBeLate(young bool) bool {
	return !e.conflict && e.ask.Getter != "" && (e.Verdict == Mismatch || young && e.Claim != ClaimUnknown)
}

// late names what a chain is asked.
type late struct {
	chain string
	ask   ethrpc.Ask
}

func (a *Auditor) stillPending(p *pass, ask ethrpc.Ask) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := late{p.chain.Name, ask}
	if _, ok := a.pending[k]; !ok {
		a.pending[k] = time.Now()
	}
	return a.opt.Waited(k.chain, ask, time.Since(a.pending[k])) <= a.opt.PendingMax
}

// forget drops the memory of what is late no more, or listed no more.
func (a *Auditor) forget(p *pass) {
	if !p.compared() || !a.anyPending(p.chain.Name) {
		return
	}
	open := map[late]bool{}
	for _, t := range p.targets {
		if t.done != nil {
			return // as the audit before found it
		}
		open[late{p.chain.Name, ethrpc.Ask{Contract: t.address}}] = !p.state.Code[t.address]
		for i := range t.entries {
			e := &t.entries[i]
			open[late{p.chain.Name, e.ask}] = e.Verdict != Match
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for k := range a.pending {
		if k.chain == p.chain.Name && !open[k] {
			delete(a.pending, k)
		}
	}
}

func (a *Auditor) anyPending(chain string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k := range a.pending {
		if k.chain == chain {
			return true
		}
	}
	return false
}
