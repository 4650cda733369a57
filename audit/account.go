package audit

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/hexid"
)

// scan is how far the search for ids that the API does not list has come.
type scan struct {
	read bool  // the events were read up to the pinned block, and what they named was asked for
	err  error // why they were not
}

// account accounts for everything that the contracts store: where the proven state of a contract holds more than is
// asked for, its events are read for what they name, and what is new is asked for at the same block; where that is not
// enough, the events are read anew, once for every state of the storage. Where nothing can be read but a sketch, that
// is no state, and lies are what providers were caught at.
func (a *Auditor) account(ctx context.Context, p *pass) (lies []fault) {
	scans := map[common.Address]*scan{}
	p.scans = scans
	if p.chain.Events == nil || !p.compared() {
		return nil
	}
	for _, anew := range []bool{false, true} {
		read := p.state.Sketch
		for addr, deployed := range p.state.Code {
			if !deployed || !a.wantsEvents(p, addr, scans[addr], anew) {
				continue
			}
			before := p.chain.Events.Known(addr)
			scans[addr] = a.scan(ctx, p, addr, anew)
			read = read || !p.chain.Events.Known(addr).equal(before)
		}
		if !read {
			continue
		}
		if err := a.readAgain(ctx, p); err != nil {
			for _, s := range scans {
				s.read = false // what they named was not asked for
			}
			if p.state.Sketch {
				p.state, lies = nil, liesOf(err)
			}
			break
		}
	}
	for addr, s := range scans {
		if s.err != nil {
			p.errors = append(p.errors, SourceError{StageRPC, "events", s.err.Error()})
		}
		// Where the proof needs no events they are for show: what cannot be had is not asked for in every audit.
		if p.state == nil {
			continue
		}
		if c, proven := p.state.Contracts[addr]; proven && (s.err == nil || c.Complete) {
			a.note(a.scanned, p, addr, c.StorageRoot)
		}
	}
	return lies
}

// wantsEvents tells whether events may explain what is not explained, or tell of what is.
func (a *Auditor) wantsEvents(p *pass, addr common.Address, s *scan, anew bool) bool {
	c, proven := p.state.Contracts[addr]
	a.mu.Lock()
	defer a.mu.Unlock()
	k := late{p.chain.Name, ethrpc.Ask{Contract: addr}}
	switch {
	case anew:
		// Only a proof tells that something is missing, and only once for each state.
		return proven && !c.Complete && s != nil && s.err == nil && a.resync[k] != c.StorageRoot
	case proven && c.Complete:
		root, known := a.scanned[k]
		return p.chain.Eager && !known || known && root != c.StorageRoot
	default:
		return true
	}
}

func (a *Auditor) note(in map[late]common.Hash, p *pass, addr common.Address, root common.Hash) {
	a.mu.Lock()
	defer a.mu.Unlock()
	in[late{p.chain.Name, ethrpc.Ask{Contract: addr}}] = root
}

// scan reads the events of a contract. It takes half of the time that is left, so that a long history, whose
// reading goes on in the next audit, leaves this one its answers.
func (a *Auditor) scan(ctx context.Context, p *pass, addr common.Address, anew bool) *scan {
	a.opt.Progress(p.chain.Name, "reading the events of "+addr.Hex())
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Until(end)/2, fmt.Errorf("the time for events in one audit is over, the next one goes on: %w", context.DeadlineExceeded))
		defer cancel()
	}
	if anew {
		a.note(a.resync, p, addr, p.state.Contracts[addr].StorageRoot)
		if err := p.chain.Events.Reset(addr); err != nil {
			return &scan{err: err}
		}
	}
	err := p.chain.Events.Update(ctx, addr, p.state.Block)
	return &scan{read: err == nil, err: err}
}

// readAgain asks at the same block what is asked now that more is known. Where that fails, what was read stands.
func (a *Auditor) readAgain(ctx context.Context, p *pass) error {
	a.opt.Progress(p.chain.Name, "reading what the events named")
	s, err := p.chain.Reader.Read(ctx, ethrpc.Request{
		Policies:  []ethrpc.Policy{ethrpc.AtHash(p.state.Block.Hash)},
		First:     p.state.Provider,
		Questions: func(context.Context, ethrpc.Block) ethrpc.Questions { return a.questions(p.chain, p.detail) },
	})
	if err != nil {
		p.errors = append(p.errors, readFailures(err)...)
		return err
	}
	for _, f := range providerFailures(s.Failed) {
		if !slices.Contains(p.errors, f) {
			p.errors = append(p.errors, f)
		}
	}
	s.Policy, s.Head = p.state.Policy, p.state.Head
	p.state = s
	return nil
}

// annotate writes into the targets what is proven of each contract as a whole, which ids the API does not list, and
// when and by whom an id was changed.
func (a *Auditor) annotate(ctx context.Context, p *pass) {
	if !p.compared() {
		return
	}
	for _, t := range p.targets {
		if !t.audited() || t.faulty(ChainMismatch) || !p.state.Code[t.address] {
			continue
		}
		var named Named
		if p.chain.Events != nil {
			named = p.chain.Events.Known(t.address)
		}
		t.unlisted(named, p.chain.Wanted[t.address], p.state)
		if p.chain.Events == nil {
			continue
		}
		t.judgeStorage(p.state, p.scans[t.address])
		for _, e := range p.chain.Explained[t.address] {
			t.explained = append(t.explained, Explained{e.Slot.Hex(), e.Reason})
		}
		if p.chain.Required && t.completeness != Complete {
			t.reasons = append(t.reasons, "verify is required, and the contract's storage is not proven to be all accounted for")
		}
		p.tellChanges(ctx, t)
	}
}

// judgeStorage tells how complete the search was, and whether the contract stores what nothing explains.
func (t *target) judgeStorage(state *ethrpc.State, s *scan) {
	c, proven := state.Contracts[t.address]
	if proven {
		t.storage = &Storage{c.StorageRoot.Hex(), c.CodeHash.Hex(), c.Slots}
	}
	switch {
	case proven && c.Complete:
		t.completeness = Complete
	case proven && (s == nil || !s.read):
		t.completeness = Incomplete
		t.reasons = append(t.reasons, fmt.Sprintf("the contract stores more than the %d slots that are accounted for, and the events that may explain the rest could not be read", c.Slots))
	case s == nil || !s.read:
		t.completeness = Incomplete
	case proven:
		t.completeness = Incomplete
		t.fault(StorageUnaccounted, "the contract stores more than the %d slots that getters, events, well-known places and explained_slots account for", c.Slots)
	default:
		t.completeness = EventsOnly
	}
}

// tellChanges adds to each entry what its last event says.
func (p *pass) tellChanges(ctx context.Context, t *target) {
	ids := map[List][]common.Hash{}
	for _, e := range t.entries {
		if e.ask.Getter != "" {
			ids[e.List] = append(ids[e.List], e.ask.ID)
		}
	}
	p.untold = !p.chain.Events.Annotate(ctx, t.address, ids) || p.untold
	for i := range t.entries {
		e := &t.entries[i]
		if id, err := hexid.ParseID(e.ID); err == nil {
			e.Changed = p.chain.Events.Last(t.address, e.List, id)
		}
	}
}
