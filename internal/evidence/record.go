package evidence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// Recorder notes what the sources of an audit give. The zero value is ready.
type Recorder struct {
	opt    audit.Options
	mu     sync.Mutex
	chains map[string]*record
}

// record is the evidence of a chain while it is gathered.
type record struct {
	Chain
	seen    map[common.Hash]bool // nodes and codes that are in it
	changed map[common.Address]map[change]audit.Changed
	err     error // why there can be no evidence
}

type change struct {
	list audit.List
	id   common.Hash
}

// Wrap returns the options of an auditor whose sources are recorded. Its audits must not overlap.
func (r *Recorder) Wrap(o audit.Options) audit.Options {
	r.opt = o
	o.Claims = claims{r, o.Claims}
	o.Chains = make([]audit.ChainOptions, len(o.Chains))
	for i, c := range r.opt.Chains {
		c.Reader = reader{r, c.Name, c.Reader}
		if c.Events != nil {
			c.Events = events{r, c.Name, c.Events}
		}
		if c.Baselines != nil {
			c.Baselines = baselines{r, c.Name, c.Baselines}
		}
		if c.KMS != nil {
			c.KMS = lister{r, c.Name, c.KMS}
		}
		o.Chains[i] = c
	}
	o.Now = func(chain string) (now time.Time) {
		now = time.Now().UTC()
		r.note(chain, func(c *record) { c.Began = now })
		return now
	}
	o.Waited = func(chain string, ask ethrpc.Ask, waited time.Duration) time.Duration {
		r.note(chain, func(c *record) { c.Waited = append(c.Waited, Waited{ask.Contract, ask.Getter, ask.ID, waited}) })
		return waited
	}
	o.Interrupted = func(chain string, cause error) {
		r.note(chain, func(c *record) { c.Interrupted = cause.Error() })
	}
	return o
}

func (r *Recorder) note(chain string, f func(*record)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.chains == nil {
		r.chains = map[string]*record{}
	}
	c := r.chains[chain]
	if c == nil {
		c = &record{seen: map[common.Hash]bool{}, changed: map[common.Address]map[change]audit.Changed{}}
		r.chains[chain] = c
	}
	f(c)
}

// Take returns the evidence of the audit that just ended with the report, and makes room for the next.
func (r *Recorder) Take(report *audit.Report) (*File, error) {
	f := &File{Schema: Schema, Report: report, PendingMax: r.opt.PendingMax, Chains: []Chain{}}
	var failed error
	for _, o := range r.opt.Chains {
		if !slices.ContainsFunc(report.Chains, func(c audit.Chain) bool { return c.Chain == o.Name }) {
			continue // the API names no KMS there
		}
		r.note(o.Name, func(c *record) {
			if c.err != nil {
				failed = fmt.Errorf("keeping evidence of chain %s: %w", o.Name, c.err)
			}
			f.Chains = append(f.Chains, c.finish(o))
		})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.chains = nil
	return f, failed
}

func (c *record) finish(o audit.ChainOptions) Chain {
	c.Chain.Chain, c.ChainID, c.Contracts, c.Required = o.Name, o.ChainID, o.Contracts, o.Required
	for _, p := range o.Policies {
		c.Policies = append(c.Policies, p.String())
	}
	c.operator(o)
	if len(o.Explained) > 0 {
		c.Explained = map[common.Address][]Slot{}
	}
	for addr, slots := range o.Explained {
		for _, s := range slots {
			c.Explained[addr] = append(c.Explained[addr], Slot(s))
		}
	}
	if o.Events != nil && c.Events == nil {
		c.Events = map[common.Address]*Events{}
	}
	for addr, all := range c.changed {
		for k, last := range all {
			c.Events[addr].Changed = append(c.Events[addr].Changed, Changed{k.list, k.id, last})
		}
	}
	return c.Chain
}

// add puts nodes or codes into the evidence that are not in it yet.
func (c *record) add(to *[]hexutil.Bytes, all [][]byte) {
	for _, b := range all {
		if hash := crypto.Keccak256Hash(b); !c.seen[hash] {
			c.seen[hash] = true
			*to = append(*to, b)
		}
	}
}

type claims struct {
	to    *Recorder
	inner audit.Claims
}

func (s claims) OnChainDetail(ctx context.Context, chain string) (*kmsapi.OnChainDetail, error) {
	d, err := s.inner.OnChainDetail(ctx, chain)
	s.to.note(chain, func(c *record) {
		if err != nil {
			f := faultOf("", err)
			c.Claims = append(c.Claims, Claim{Error: &f})
			return
		}
		c.Claims = append(c.Claims, claimOf(d.Source))
		if d.Source.HoldsKey {
			c.err = errHoldsKey
		}
	})
	return d, err
}

var errHoldsKey = errors.New("the API's answer holds the API key, so it cannot be kept")

func claimOf(src kmsapi.Source) Claim {
	return Claim{
		FetchedAt: &src.FetchedAt, APIVersion: src.APIVersion, RequestID: src.RequestID, Headers: src.Header, Body: []byte(src.Body), SHA256: src.SHA256,
	}
}

type reader struct {
	to    *Recorder
	chain string
	inner audit.Reader
}

func (s reader) Read(ctx context.Context, req ethrpc.Request) (*ethrpc.State, error) {
	state, err := s.inner.Read(ctx, req)
	s.to.note(s.chain, func(c *record) {
		if err != nil {
			f := faultOf("", err)
			c.Reads = append(c.Reads, Read{Error: &f})
			return
		}
		block, head := Block(state.Block), Block(state.Head)
		out := Read{
			Policy: state.Policy.String(), Provider: state.Provider, Block: &block, Head: &head, Agreed: state.Agreed, Failed: faultsOf(state.Failed),
		}
		if e := state.Evidence(); e != nil {
			out.Header, out.Sketch = e.Header, state.Sketch
			c.add(&c.Nodes, e.Nodes)
			c.add(&c.Codes, e.Codes)
		} else if state.Answers != nil {
			out.Believed = believed(state)
		}
		c.Reads = append(c.Reads, out)
	})
	return state, err
}

func believed(s *ethrpc.State) *Believed {
	b := &Believed{Code: s.Code, Answers: []Answer{}, Control: controlsOf(s)}
	if s.Unproven != nil {
		b.Why = s.Unproven.Error()
	}
	for ask, a := range s.Answers {
		b.Answers = append(b.Answers, answerOf(ask, a))
	}
	return b
}

type events struct {
	to    *Recorder
	chain string
	audit.Events
}

// Version keeps an audit from leaving out what the one before found: the evidence is to be whole.
func (s events) Version() uint64 { return 0 }

// of returns the contract's part of the record, with what was known when it was first asked for.
func (s events) of(contract common.Address, f func(*record, *Events)) {
	known := s.Events.Known(contract)
	s.to.note(s.chain, func(c *record) {
		if c.Events == nil {
			c.Events = map[common.Address]*Events{}
		}
		if c.Events[contract] == nil {
			c.Events[contract] = &Events{Known: Named(known)}
		}
		f(c, c.Events[contract])
	})
}

func (s events) Known(contract common.Address) audit.Named {
	s.of(contract, func(*record, *Events) {})
	return s.Events.Known(contract)
}

func (s events) Update(ctx context.Context, contract common.Address, to ethrpc.Block) error {
	return s.update(contract, &to.Hash, func() error { return s.Events.Update(ctx, contract, to) })
}

func (s events) Reset(contract common.Address) error {
	return s.update(contract, nil, func() error { return s.Events.Reset(contract) })
}

func (s events) update(contract common.Address, block *common.Hash, do func() error) error {
	s.of(contract, func(*record, *Events) {})
	before := s.Events.Known(contract)
	err := do()
	u := Update{Block: block}
	if err != nil {
		u.Error = err.Error()
	}
	if now := s.Events.Known(contract); !same(before, now) {
		known := Named(now)
		u.Known = &known
	}
	s.of(contract, func(_ *record, e *Events) { e.Updates = append(e.Updates, u) })
	return err
}

func (s events) Last(contract common.Address, list audit.List, id common.Hash) *audit.Changed {
	last := s.Events.Last(contract, list, id)
	if last != nil {
		s.to.note(s.chain, func(c *record) {
			if c.changed[contract] == nil {
				c.changed[contract] = map[change]audit.Changed{}
			}
			c.changed[contract][change{list, id}] = *last
		})
	}
	return last
}
