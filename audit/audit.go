// Package audit holds what the API claims about dstack KMS contracts against what the contracts say.
//
// One audit looks at every chain side by side: it fetches the claim while a block is pinned, reads every claimed id at
// that block, and compares. What differs is looked at a second time after a pause, and held against the newest block;
// only what stands is drift. Whatever fails on the way makes the verdict unknown. The Report is all that leaves.
package audit

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"golang.org/x/sync/semaphore"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// Claims is where the claim comes from. Its errors carry no secret.
type Claims interface {
	OnChainDetail(ctx context.Context, chain string) (*kmsapi.OnChainDetail, error)
}

// Reader reads one chain at one block. Its errors are *ethrpc.ReadError and carry no secret.
type Reader interface {
	Read(ctx context.Context, req ethrpc.Request) (*ethrpc.State, error)
}

// Events remembers what the events of contracts named, so that ids which the API does not list are found.
type Events interface {
	// Update reads the events that came since, up to a block. What was read before an error is kept.
	Update(ctx context.Context, contract common.Address, to ethrpc.Block) error
	// Reset forgets them all, so that Update reads them anew.
	Reset(contract common.Address) error
	// Known lists what any event ever named.
	Known(contract common.Address) Named
	// Last tells of the last event of an id; nil: none is known.
	Last(contract common.Address, list List, id common.Hash) *Changed
	// Annotate finds out what Last lacks, as far as it can, and reports whether nothing is left to find out.
	Annotate(ctx context.Context, contract common.Address, ids map[List][]common.Hash) bool
	// Version changes whenever Known or Last tell something else; 0: nobody keeps count.
	Version() uint64
}

// Named is what events named: ids of the two lists, measurements and apps.
type Named struct {
	Devices, Images, AggregatedMRs []common.Hash
	Apps                           []common.Address
}

func (n Named) equal(o Named) bool {
	return slices.Equal(n.Devices, o.Devices) && slices.Equal(n.Images, o.Images) &&
		slices.Equal(n.AggregatedMRs, o.AggregatedMRs) && slices.Equal(n.Apps, o.Apps)
}

// Options configure an Auditor.
type Options struct {
	Version      string // of the program, for the report
	Claims       Claims
	Chains       []ChainOptions
	Timeout      time.Duration // of one audit; zero: none
	ConfirmDelay time.Duration // between the two passes
	PendingMax   time.Duration // how long the pinned block may lag behind a head that agrees; zero: not at all

	Started  func(auditID string)                    // nil: nobody is told
	Progress func(chain, doing string)               // nil: nobody is told; called from several goroutines
	Panicked func(chain string, v any, stack []byte) // nil: nobody is told of a bug beyond the report

	// What a verdict rests on beside the sources, to be recorded, or to be as it was. Nil changes nothing.
	Now         func(chain string) time.Time                                           // when the audit of a chain begins
	Waited      func(chain string, ask ethrpc.Ask, waited time.Duration) time.Duration // how long an entry is pending
	Interrupted func(chain string, cause error)                                        // told that there was no second pass
}

// ChainOptions name one chain to audit.
type ChainOptions struct {
	Name      string // as the API knows it
	ChainID   uint64
	Policies  []ethrpc.Policy // in order of preference
	Reader    Reader
	Contracts []common.Address // empty: all that the API lists
	Events    Events           // nil: ids that the API does not list are not looked for
	Eager     bool             // read events even where the storage is proven without them, to tell when and by whom
	Required  bool             // what is not proven is unknown
	Explained map[common.Address][]ExplainedSlot
	Wanted    map[common.Address]Policy // what the operator wants, by contract
	Accept    []Accept                  // of any chain
	Baselines Baselines                 // nil: control is shown and not held against anything but Wanted

	Forget func() // told that nothing more is asked of the chain, and nothing to be kept for a next audit; nil: there may be one

	KMS        Lister // held against the on-chain detail and the contracts; nil: no cross-checks
	Discovered bool   // a chain on which the API names no KMS is left out of the report; it needs KMS
}

// ExplainedSlot is a slot of which the operator says why it is in use.
type ExplainedSlot struct {
	Slot   common.Hash
	Reason string
}

// Auditor audits. It remembers between audits since when an entry is pending, which storage it read events for, and the
// judgement on what has not changed since.
type Auditor struct {
	opt Options

	mu      sync.Mutex
	pending map[late]time.Time
	scanned map[late]common.Hash // the storage root for which the events were read, by contract
	resync  map[late]common.Hash // the storage root for which they were read anew in vain
	memos   map[string]*memo     // by chain
	room    *semaphore.Weighted  // for large claims
}

// New returns an Auditor.
func New(opt Options) *Auditor {
	if opt.Started == nil {
		opt.Started = func(string) {}
	}
	if opt.Progress == nil {
		opt.Progress = func(string, string) {}
	}
	if opt.Panicked == nil {
		opt.Panicked = func(string, any, []byte) {}
	}
	if opt.Now == nil {
		opt.Now = func(string) time.Time { return now() }
	}
	if opt.Waited == nil {
		opt.Waited = func(_ string, _ ethrpc.Ask, waited time.Duration) time.Duration { return waited }
	}
	if opt.Interrupted == nil {
		opt.Interrupted = func(string, error) {}
	}
	return &Auditor{opt: opt, pending: map[late]time.Time{}, scanned: map[late]common.Hash{}, resync: map[late]common.Hash{}, memos: map[string]*memo{}, room: newRoom()}
}

// Continue takes over since when entries are pending on the chains that from audited too, which audits no more.
func (a *Auditor) Continue(from *Auditor) {
	for k, since := range from.pending {
		if slices.ContainsFunc(a.opt.Chains, func(c ChainOptions) bool { return c.Name == k.chain }) {
			a.pending[k] = since
		}
	}
}

// Audit audits every chain once. It has no error: what fails is in the report, and makes it unknown.
func (a *Auditor) Audit(ctx context.Context) *Report {
	if a.opt.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, a.opt.Timeout, fmt.Errorf("the audit's timeout of %s passed: %w", a.opt.Timeout, context.DeadlineExceeded))
		defer cancel()
	}
	r := &Report{
		Schema:    Schema,
		AuditID:   rand.Text(),
		Version:   a.opt.Version,
		StartedAt: now(),
		Chains:    make([]Chain, len(a.opt.Chains)),
	}
	a.opt.Started(r.AuditID)
	var wg sync.WaitGroup
	absent := make([]bool, len(r.Chains))
	for i, c := range a.opt.Chains {
		wg.Go(func() { r.Chains[i], absent[i] = a.chain(ctx, c) })
	}
	wg.Wait()
	for i := len(absent) - 1; i >= 0; i-- {
		if absent[i] {
			r.Chains = slices.Delete(r.Chains, i, i+1)
		}
	}
	r.Verdict = worstOf(r.Chains, func(c *Chain) Verdict { return c.Verdict })
	r.FinishedAt = now()
	return r
}

func now() time.Time { return time.Now().UTC() }

// chain audits one chain, and tells whether it is absent from the report. A bug in here costs this chain its verdict, and
// no other.
func (a *Auditor) chain(ctx context.Context, c ChainOptions) (out Chain, absent bool) {
	start := time.Now()
	turn := &turn{room: a.room}
	defer func() {
		turn.end()
		if v := recover(); v != nil {
			p := &pass{chain: c, errors: []SourceError{{StageInternal, self, bug(a.opt.Panicked, c.Name, v).Error()}}}
			out, absent = p.report(), false
		}
		out.Duration = time.Since(start)
	}()
	a.opt.Progress(c.Name, "reading the API and the chain")
	p := a.look(ctx, c, turn, &pass{began: a.opt.Now(c.Name)})
	settled := !p.drifts()
	if !settled {
		turn.end() // others need not wait for the pause
		p = a.again(ctx, p, turn)
		a.askHead(ctx, p)
	}
	p.begin()
	if settled && c.Forget == nil {
		a.keep(p)
	}
	a.forget(p)
	out, absent = p.report(), p.absent()
	if c.Forget != nil {
		a.mu.Lock()
		delete(a.memos, c.Name)
		a.mu.Unlock()
		c.Forget()
	}
	return out, absent
}
