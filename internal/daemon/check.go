package daemon

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/l1"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/state"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// Check connects to every source in the order of the configuration, and calls tell with the result for each: err is nil if the
// source can be used. The API and each chain's providers get the timeout of one audit. Light clients resume from past.
func (d *Daemon) Check(ctx context.Context, past *state.State, tell func(chain, source string, err error)) error {
	var failed error
	say := func(chain, source string, err error) {
		tell(chain, source, err)
		failed = errors.Join(failed, err)
	}
	r := d.running.Load()
	list, err := r.checkList(ctx)
	absent := 0
	for _, c := range r.cfg.Chains {
		if c.Claims != config.NoClaims {
			out, err := r.checkAPI(ctx, c, list)
			if out {
				absent++
			}
			say(c.Name, "api", err)
		}
		wrong := r.checkProviders(ctx, r.clients[c.Name])
		for _, p := range c.Providers {
			say(c.Name, p.Name, wrong[p.Name])
		}
		if c.Anchor != nil {
			d.checkAnchor(ctx, r, c, past.Prior(c.Name), say)
		}
	}
	if absent == len(r.cfg.Chains) {
		err = errors.New("the API names no KMS on any of these chains, so there is nothing to audit")
	}
	if r.listed() {
		say("api", "kms", err)
	}
	return failed
}

func (d *Daemon) checkAnchor(ctx context.Context, r *runtime, c config.Chain, prior audit.Prior, say func(chain, source string, err error)) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	agent, of := "kms-auditor/"+d.opt.Build.Version, c.Anchor
	if of.L1 != nil {
		of = of.L1.Anchor
	}
	for _, e := range AskAnchor(ctx, of, prior, agent) {
		say(c.Name, e.Endpoint, e.Err)
	}
	if l1 := c.Anchor.L1; l1 != nil {
		if client, err := d.client(*l1, agent); err == nil && r.clients[l1.Name] == nil { // otherwise it is checked as a chain
			wrong := r.checkProviders(ctx, client)
			for _, p := range l1.Providers {
				say(c.Name, p.Name, wrong[p.Name])
			}
			client.Close()
		}
		holds, err := AskL1(ctx, c, prior, agent)
		if err == nil && len(holds.Points) == 0 {
			err = errors.Join(append(holds.Lacks, errors.New("L1 holds no block of the chain"))...)
		}
		say(c.Name, "l1", err)
	}
}

// listed reports whether audits read the list of KMS.
func (r *runtime) listed() bool {
	return r.cfg.CrossChecks && slices.ContainsFunc(r.cfg.Chains, func(c config.Chain) bool { return c.Claims != config.NoClaims })
}

// checkList fetches the list of KMS if the configuration needs it.
func (r *runtime) checkList(ctx context.Context) (*kmsapi.List, error) {
	if !r.listed() {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	return r.api.List(ctx, kmsapi.Filter{OnChain: true})
}

// checkAPI fetches the claim about a chain. With discovery, a chain is absent if the API does not know it or names no KMS on it. That
// is not an error.
func (r *runtime) checkAPI(ctx context.Context, c config.Chain, list *kmsapi.List) (absent bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	detail, err := r.api.OnChainDetail(ctx, c.Name)
	refusal, refused := errors.AsType[*kmsapi.StatusError](err)
	switch {
	case !r.cfg.Discover || list == nil ||
		slices.ContainsFunc(list.KMS, func(k kmsapi.KMS) bool { return k.Contract != nil && k.ChainID == c.ChainID }):
		return false, err
	case refused && refusal.Unknown():
		return true, nil
	case err != nil:
		return false, err
	}
	return len(detail.Contracts) == 0, nil
}

func (r *runtime) checkProviders(ctx context.Context, client *ethrpc.Client) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	wrong := map[string]error{}
	for _, p := range client.Check(ctx) {
		wrong[p.Provider] = p.Err
	}
	return wrong
}

// EndpointHead is what a single beacon endpoint proved.
type EndpointHead struct {
	Endpoint string
	Head     *anchor.Head // nil if it proved none
	Err      error        // why it is not up to date
}

// AskAnchor asks each beacon endpoint of a chain separately.
func AskAnchor(ctx context.Context, a *config.Anchor, prior audit.Prior, agent string) (out []EndpointHead) {
	for _, e := range a.Beacon {
		one := EndpointHead{Endpoint: e.Name}
		client, err := anchor.New(anchor.Options{Network: a.Network, Endpoints: []anchor.Endpoint{e}, Checkpoint: a.Checkpoint, UserAgent: agent})
		if one.Err = err; err == nil {
			var failed []ethrpc.ProviderError
			one.Head, failed = client.Sync(ctx, prior.VerifiedFrom(a.Checkpoint), time.Now())
			for _, f := range failed {
				one.Err = errors.Join(one.Err, f.Err)
			}
			client.Close()
		}
		out = append(out, one)
	}
	return out
}

// AskL1 reads what L1 says about a chain's newest blocks.
func AskL1(ctx context.Context, c config.Chain, prior audit.Prior, agent string) (*l1.Reading, error) {
	of := c.Anchor.L1
	light, err := anchor.New(anchor.Options{Network: of.Anchor.Network, Endpoints: of.Anchor.Beacon, Checkpoint: of.Anchor.Checkpoint, UserAgent: agent})
	if err != nil {
		return nil, err
	}
	defer light.Close()
	client, err := ethrpc.New(ethrpc.Options{ChainID: of.ChainID, Tags: of.Block, BatchSize: of.BatchSize, Providers: of.Providers, UserAgent: agent})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	head, failed := light.Sync(ctx, prior.VerifiedFrom(of.Anchor.Checkpoint), time.Now())
	if head == nil {
		return nil, &ethrpc.ReadError{Failures: failed}
	}
	calls, err := observe.ProvenL1(ctx, client, head, nil)
	if err != nil {
		return nil, err
	}
	return l1.Read(ctx, calls, l1.Chain{ID: c.ChainID, SystemConfig: c.Anchor.SystemConfig}, math.MaxUint64)
}
