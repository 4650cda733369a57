// Package observe reads the API and the chains, and passes what it saw to audit.Judge, which makes the verdict.
//
// A look pins a block while it fetches the API's claim. It then reads every contract that is configured, known to an earlier
// audit, or listed by the API, and asks about every known id. If a contract's storage is not accounted for, its events are
// read, and the contract is asked about new ids in them at the same block. The result is an audit.Observation. If
// something new is wrong, there is a second look after a pause, and a look at the newest block.
package observe

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/logs"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// Claims fetches claims. Its errors contain no secret.
type Claims interface {
	OnChainDetail(ctx context.Context, chain string) (*kmsapi.OnChainDetail, error)
}

// Lister fetches the API's list of KMS. Its errors contain no secret.
type Lister interface {
	List(ctx context.Context, f kmsapi.Filter) (*kmsapi.List, error)
}

// Reader reads one chain. Its errors contain no secret.
type Reader interface {
	Pin(ctx context.Context, req ethrpc.PinRequest) (*ethrpc.Pinned, error)
	Read(ctx context.Context, at *ethrpc.Pinned, queries []ethrpc.Query, opt ethrpc.ReadOptions) (*ethrpc.State, error)
	Headers(ctx context.Context, first string, high, low uint64, accept func([][]byte) error) ([][]byte, error)
}

// Events remembers the ids in contracts' events, so that ids are found which the API does not list.
type Events interface {
	// Batch returns the calls that read all events at once, or nil if some were read before. Public events, which anyone can
	// emit, are read separately: there may be too many to read.
	Batch(contract common.Address, public bool) *logs.Batch
	// Take stores the answers to a Batch.
	Take(b *logs.Batch) error
	// Update reads new events up to a block. If it fails, it keeps the events read so far.
	Update(ctx context.Context, contract common.Address, public bool, to ethrpc.Block) error
	// Reset forgets all events, so that Update reads them again.
	Reset(contract common.Address) error
	// Named returns every id that an event named, by list: audit.Lists, Apps and Implementations, sorted, and Callers, in
	// the order in which they first registered an app.
	Named(contract common.Address) map[string][]common.Hash
	// Last fills in the last events of ids. It removes, in place, ids without a known event.
	Last(contract common.Address, of []audit.ListChange) []audit.ListChange
	// Callers fetches as many of the accounts that registered apps as it can. Named returns them.
	Callers(ctx context.Context, contract common.Address)
	// Annotate fetches times and senders of the last events of ids, as many as it can. It reports whether all are known now.
	Annotate(ctx context.Context, contract common.Address, of []audit.ListChange) bool
}

// Lists that are not audited but account for storage. Their ids are addresses, padded on the left.
const (
	Apps            = "app"
	Callers         = "caller"         // who registered apps
	Implementations = "implementation" // current and former
)

// Options configure an Auditor.
type Options struct {
	Version      string // of the program, for the report
	Claims       Claims
	Listing      Lister // used for chains whose Intent has CrossChecks or Discover
	Chains       []Chain
	Timeout      time.Duration // of one audit; zero for none
	ConfirmDelay time.Duration // before the second look
	Record       bool          // keep the proofs of observations, for evidence

	// Progress reports what an audit is doing; "" ends the audit of the chain. It is optional, and called from several goroutines.
	Progress func(chain, doing string)
	// Panicked reports a panic with its stack. It is optional.
	Panicked func(chain string, v any, stack []byte)
}

// Chain is one chain to audit.
type Chain struct {
	Intent audit.Intent
	Tags   []ethrpc.BlockTag // Intent.Tags
	Reader Reader
	Events Events // nil if ids that the API does not list are not searched for
	Anchor Anchor // optional; see Intent.Anchored
	L1     *L1    // optional; see Intent.L1
	Eager  bool   // read events even if storage is proven without them, to show who changed what and when
}

// Auditor audits chains. Its state only saves requests.
type Auditor struct {
	opt    Options
	chains []*observer
}

// New returns an Auditor.
func New(opt Options) *Auditor {
	if opt.Progress == nil {
		opt.Progress = func(string, string) {}
	}
	if opt.Panicked == nil {
		opt.Panicked = func(string, any, []byte) {}
	}
	a := &Auditor{opt: opt}
	for _, c := range opt.Chains {
		a.chains = append(a.chains, &observer{
			Chain: c, opt: &a.opt, scanned: map[common.Address]common.Hash{}, rescanned: map[common.Address]common.Hash{},
			withoutApps: map[common.Address]pause{}, annotated: map[common.Address]annotation{},
		})
	}
	return a
}

// Result is the outcome of an audit.
type Result struct {
	Report  *audit.Report
	Next    map[string]audit.Prior // by chain, for chains in the report
	Changes []audit.Change
	Records []Record // for chains in the report; empty without Options.Record
}

// Audit audits every chain once. prior is what earlier audits remember, by chain. Failures are in the report and make verdicts
// unknown.
func (a *Auditor) Audit(ctx context.Context, id string, prior map[string]audit.Prior) Result {
	if a.opt.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, a.opt.Timeout, fmt.Errorf("the audit's timeout of %s passed: %w", a.opt.Timeout, context.DeadlineExceeded))
		defer cancel()
	}
	started := now()
	outcomes, records := make([]audit.Outcome, len(a.chains)), make([]Record, len(a.chains))
	var wg sync.WaitGroup
	for i, c := range a.chains {
		wg.Go(func() { outcomes[i], records[i] = c.audit(ctx, prior[c.Intent.Chain]) })
	}
	wg.Wait()
	out := Result{Next: map[string]audit.Prior{}}
	var chains []audit.Chain
	for i, o := range outcomes {
		if o.Absent {
			continue
		}
		chains = append(chains, o.Chain)
		out.Next[o.Chain.Chain] = o.Next
		out.Changes = append(out.Changes, o.Changes...)
		if a.opt.Record {
			out.Records = append(out.Records, records[i])
		}
	}
	out.Report = audit.NewReport(id, a.opt.Version, started, now(), chains)
	return out
}

var now = func() time.Time { return time.Now().UTC() }

// audit audits the chain. A panic makes this chain unknown, and no other.
func (c *observer) audit(ctx context.Context, prior audit.Prior) (out audit.Outcome, rec Record) {
	start := now()
	rec = Record{Intent: c.Intent, Prior: prior}
	defer func() {
		if v := recover(); v != nil {
			c.opt.Panicked(c.Intent.Chain, v, debug.Stack())
			rec.Looks = audit.Looks{First: audit.Observation{At: start, Failures: []audit.Failure{bug(v)}}}
			out = audit.Judge(c.Intent, prior, rec.Looks)
		}
		out.Chain.Duration = time.Since(start)
		c.opt.Progress(c.Intent.Chain, "")
	}()
	c.opt.Progress(c.Intent.Chain, "reading the API and the chain")
	first := c.look(ctx, prior, nil)
	c.askL1(ctx, prior, first)
	refused := append(first.refused(), prior.Contradicted()...)
	rec.Looks.First, rec.Raw.First = first.Observation, first.raw
	if out = audit.Judge(c.Intent, prior, rec.Looks); out.LookAgain {
		refused = append(refused, c.secondLook(ctx, prior, first, &rec)...)
		out = audit.Judge(c.Intent, prior, rec.Looks)
	}
	if out.AskHead != nil {
		c.opt.Progress(c.Intent.Chain, "reading the newest block")
		head := c.lookAtHead(ctx, out.AskHead, rec.Looks, refused)
		rec.Looks.Head, rec.Raw.Head = &head.Observation, head.raw
		out = audit.Judge(c.Intent, prior, rec.Looks)
	}
	if c.Events != nil && !c.Eager && c.annotateFindings(ctx, out.Chain, &rec.Looks) {
		out = audit.Judge(c.Intent, prior, rec.Looks)
	}
	return out, rec
}

// secondLook looks again after the pause. It returns the providers that it refused.
func (c *observer) secondLook(ctx context.Context, prior audit.Prior, first *look, rec *Record) []string {
	c.opt.Progress(c.Intent.Chain, fmt.Sprintf("found a difference, looking again in %s", c.opt.ConfirmDelay))
	select {
	case <-time.After(c.opt.ConfirmDelay):
	case <-ctx.Done():
		rec.Looks.Interrupted = context.Cause(ctx).Error()
		return nil
	}
	c.opt.Progress(c.Intent.Chain, "reading the API and the chain a second time")
	second := c.look(ctx, prior, first)
	rec.Looks.Second, rec.Raw.Second = &second.Observation, second.raw
	return second.refused()
}

// refused lists the providers that failed or lied before another one pinned the block.
func (l *look) refused() []string {
	if l.pinned == nil {
		return nil
	}
	return failedOf(l.pinned)
}

func failedOf(at *ethrpc.Pinned) (names []string) {
	for _, p := range at.Failed {
		names = append(names, p.Provider)
	}
	return names
}

func bug(v any) audit.Failure {
	return failed(audit.StageInternal, audit.Self, fmt.Errorf("a bug in kms-auditor: %v", v))
}

func failed(stage audit.Stage, source string, err error) audit.Failure {
	return audit.Failure{SourceError: audit.SourceError{Stage: stage, Source: source, Message: err.Error()}}
}
