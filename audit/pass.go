package audit

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// pass is one look at one chain. detail or state is nil where its source failed, and errors says why.
type pass struct {
	chain   ChainOptions
	began   time.Time // the chain's audit
	detail  *kmsapi.OnChainDetail
	nowhere bool         // the API refuses the chain, as one that it does not know
	list    *kmsapi.List // nil: not asked for, or not had
	crossed bool         // the claim was held against it
	state   *ethrpc.State
	errors  []SourceError
	targets []*target
	scans   map[common.Address]*scan // of events, by contract
	untold  bool                     // events do not tell everything about every entry
}

// look fetches the claim while the block is pinned, reads every claimed id there, and compares. The block is none
// before that of an earlier look: what was seen there is not undone by going back.
func (a *Auditor) look(ctx context.Context, c ChainOptions, turn *turn, before *pass) *pass {
	p := &pass{chain: c, began: before.began}
	policies, notBefore := c.Policies, uint64(0)
	if before.state != nil {
		// A policy that is preferred to the one that was used could name an older block.
		policies = policies[max(slices.Index(policies, before.state.Policy), 0):]
		notBefore = before.state.Block.Number
	}
	fetched := make(chan error, 1)
	go func() {
		var err error
		defer func() {
			if v := recover(); v != nil {
				err = bug(a.opt.Panicked, c.Name, v)
			}
			fetched <- err
		}()
		p.detail, err = a.opt.Claims.OnChainDetail(ctx, c.Name)
	}()
	var claimErr error
	waited := false
	listed := make(chan error, 1)
	go func() {
		var err error
		defer func() {
			if v := recover(); v != nil {
				err = bug(a.opt.Panicked, c.Name, v)
			}
			listed <- err
		}()
		if c.KMS != nil {
			p.list, err = c.KMS.List(ctx, kmsapi.Filter{OnChain: true})
		}
	}()
	claim := func() *kmsapi.OnChainDetail {
		if !waited {
			claimErr, waited = <-fetched, true
		}
		return p.detail
	}

	state, readErr := c.Reader.Read(ctx, ethrpc.Request{
		Policies:  policies,
		NotBefore: notBefore,
		Likely:    c.Contracts,
		Sketch:    c.Events != nil,
		Questions: func(ctx context.Context, _ ethrpc.Block) ethrpc.Questions {
			detail := claim()
			if detail != nil && !a.memoOf(c).of(c, detail) {
				turn.take(ctx, detail)
			}
			return a.questions(c, detail)
		},
	})
	claim()
	listErr := <-listed
	var lies []fault
	if claimErr != nil {
		var refused *kmsapi.StatusError
		p.nowhere = errors.As(claimErr, &refused) && refused.Unknown()
		p.errors = append(p.errors, claimFailure(claimErr))
	}
	if listErr != nil {
		p.errors = append(p.errors, claimFailure(listErr))
	}
	if readErr != nil {
		lies = liesOf(readErr)
		p.errors = append(p.errors, readFailures(readErr)...)
	} else {
		p.state = state
		p.errors = append(p.errors, providerFailures(state.Failed)...)
		p.stale("newest", state.Head)
		if !state.Policy.Fixed() && state.Policy.Behind() == 0 && state.Block.Number < state.Head.Number {
			p.stale("audited", state.Block)
		}
	}
	lies = append(lies, a.account(ctx, p)...)
	if p.targets = a.recall(p); p.targets == nil {
		p.targets = diff(c, p.detail, p.state, lies)
		a.annotate(ctx, p)
		p.crossCheck()
		p.accept()
	}
	return p
}

// stale notes a block that is too old to be what the provider calls it.
func (p *pass) stale(which string, b ethrpc.Block) {
	if age := p.began.Sub(b.Time); age > maxHeadAge {
		p.errors = append(p.errors, SourceError{StageRPC, p.state.Provider, fmt.Sprintf(
			"warning: the %s block %d is %s old: the node may be out of sync", which, b.Number, age.Truncate(time.Second))})
	}
}

// liesOf names what providers were caught at.
func liesOf(err error) []fault {
	var lies []fault
	var foreign *ethrpc.ChainIDError
	if errors.As(err, &foreign) {
		lies = append(lies, fault{kind: ChainMismatch, message: fmt.Sprintf("the provider's eth_chainId is %d, but chain_id is configured as %d", foreign.Got, foreign.Want)})
	}
	var disagreement *ethrpc.DisagreementError
	if errors.As(err, &disagreement) {
		lies = append(lies, fault{kind: ProviderDisagreement, message: disagreement.Error()})
	}
	var getter *ethrpc.GetterError
	if errors.As(err, &getter) {
		lies = append(lies, fault{kind: GetterDisagrees, message: getter.Error()})
	}
	if errors.Is(err, proof.ErrInvalid) {
		lies = append(lies, fault{kind: ProofInvalid, message: "a provider's proof does not verify against the block's header; errors names it"})
	}
	return lies
}

// maxHeadAge is the age of the newest block, and of a finalized one, from which on a provider is suspected to be out of sync.
const maxHeadAge = time.Hour

// self is the source of what is this program's own doing.
const self = "kms-auditor"

func bug(tell func(string, any, []byte), chain string, v any) error {
	tell(chain, v, debug.Stack())
	return fmt.Errorf("a bug in kms-auditor: %v", v)
}

func claimFailure(err error) SourceError {
	stage := StageAPI
	var invalid *kmsapi.InvalidError
	if errors.As(err, &invalid) {
		stage = StageDecode
	}
	return SourceError{stage, "api", err.Error()}
}

func readFailures(err error) []SourceError {
	var all *ethrpc.ReadError
	if errors.As(err, &all) {
		return providerFailures(all.Failures)
	}
	return []SourceError{{StageRPC, "rpc", err.Error()}}
}

func providerFailures(failed []ethrpc.ProviderError) []SourceError {
	var out []SourceError
	for _, f := range failed {
		out = append(out, SourceError{StageRPC, f.Provider, f.Err.Error()})
	}
	return out
}

// compared tells whether both sources were read.
func (p *pass) compared() bool { return p.detail != nil && p.state != nil }

// drifts tells whether the pass would report drift.
func (p *pass) drifts() bool {
	for _, t := range p.targets {
		if t.verdict() == Drift {
			return true
		}
	}
	return false
}

// report makes the chain's part of the report.
func (p *pass) report() Chain {
	out := Chain{
		Chain:   p.chain.Name,
		ChainID: p.chain.ChainID,
		Errors:  orEmpty(p.errors),
		Targets: []Target{},

		Elsewhere: p.detail != nil && p.detail.ChainID != p.chain.ChainID,
		Crossed:   p.crossed,
	}
	if len(p.chain.Policies) > 0 {
		out.Policy = p.chain.Policies[0].String()
	}
	if s := p.state; s != nil {
		out.Policy = s.Policy.String()
		out.Block = &Block{s.Block.Number, s.Block.Hash.Hex(), s.Block.Time}
	}
	if d := p.detail; d != nil {
		out.Claim = &Claim{d.Source.FetchedAt.UTC(), d.Source.SHA256, d.Source.APIVersion, d.Source.RequestID}
		if len(p.targets) == 0 {
			out.Errors = append(out.Errors, SourceError{StageAPI, "api", "it lists no contract on this chain, and none is configured: nothing was compared"})
		}
	}
	for _, t := range p.targets {
		out.Targets = append(out.Targets, t.report())
	}
	out.Verdict = worstOf(out.Targets, func(t *Target) Verdict { return t.Verdict })
	return out
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
