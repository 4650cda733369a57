package evidence

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// offline is the sources of a chain's audit as the evidence has them. What is wrong with the evidence itself is
// remembered, for an audit takes it for the failure of a source. One goroutine asks for claims, one for lists and another for the rest.
type offline struct {
	c        *Chain
	prove    func(common.Hash, ethrpc.Evidence, ethrpc.Questions, bool) (*ethrpc.State, error)
	claims   int // that were asked for
	reads    int
	waits    int
	lists    int
	listErr  error
	claimErr error
	readErr  error
}

var errOver = errors.New("the evidence has no more")

func (o *offline) OnChainDetail(context.Context, string) (*kmsapi.OnChainDetail, error) {
	d, err := o.claim()
	if err != nil && o.claimErr == nil {
		if _, theirs := errors.AsType[*replayed](err); !theirs {
			o.claimErr = err
		}
	}
	return d, err
}

func (o *offline) claim() (*kmsapi.OnChainDetail, error) {
	if o.claims == len(o.c.Claims) {
		return nil, fmt.Errorf("asking for the claim: %w", errOver)
	}
	c := o.c.Claims[o.claims]
	o.claims++
	if c.Error != nil {
		return nil, c.Error.err()
	}
	src, err := c.source()
	if err != nil {
		return nil, err
	}
	d, err := kmsapi.Decode(c.Body)
	if err != nil {
		return nil, fmt.Errorf("decoding the API's answer: %w", err)
	}
	d.Source = src
	return d, nil
}

func (c *Claim) source() (kmsapi.Source, error) {
	if sum := sha256.Sum256(c.Body); hex.EncodeToString(sum[:]) != c.SHA256 || c.FetchedAt == nil {
		return kmsapi.Source{}, errors.New("the API's answer is not the one of its SHA-256 and time")
	}
	return kmsapi.Source{FetchedAt: *c.FetchedAt, SHA256: c.SHA256, APIVersion: c.APIVersion, RequestID: c.RequestID, Body: string(c.Body)}, nil
}

func (o *offline) Read(ctx context.Context, req ethrpc.Request) (*ethrpc.State, error) {
	s, err := o.read(ctx, req)
	if err != nil && o.readErr == nil {
		_, theirs := errors.AsType[*replayed](err)
		if _, all := errors.AsType[*ethrpc.ReadError](err); !theirs && !all {
			o.readErr = err
		}
	}
	return s, err
}

func (o *offline) read(ctx context.Context, req ethrpc.Request) (*ethrpc.State, error) {
	if o.reads == len(o.c.Reads) {
		return nil, fmt.Errorf("reading the chain: %w", errOver)
	}
	r := o.c.Reads[o.reads]
	o.reads++
	switch {
	case r.Error != nil && (len(r.Header) > 0 || r.Believed != nil) || len(r.Header) > 0 && r.Believed != nil:
		return nil, errors.New("a reading is more than one of failed, proven and believed")
	case r.Error != nil:
		return nil, r.Error.err()
	}
	policy, err := ethrpc.ParsePolicy(r.Policy)
	switch asked := func(p ethrpc.Policy) bool { return p.String() == r.Policy }; {
	case err != nil:
		return nil, err
	case r.Block == nil || r.Head == nil:
		return nil, errors.New("a reading names no block")
	case !slices.ContainsFunc(req.Policies, asked) || r.Block.Number < req.NotBefore:
		return nil, fmt.Errorf("the audit does not read at block %d by policy %s there", r.Block.Number, policy)
	}
	at := ethrpc.Block(*r.Block)
	if err := policy.Fits(at, ethrpc.Block(*r.Head)); err != nil {
		return nil, fmt.Errorf("reading by policy %s: %w", policy, err)
	}
	q := req.Questions(ctx, at)
	s := &ethrpc.State{Block: at}
	switch {
	case len(r.Header) > 0:
		if s, err = o.prove(at.Hash, ethrpc.Evidence{Header: r.Header, Nodes: plain(o.c.Nodes), Codes: plain(o.c.Codes)}, q, r.Sketch); err != nil {
			return nil, fmt.Errorf("proving what the contracts say at block %d: %w", at.Number, err)
		}
		if s.Block.Number != at.Number || !s.Block.Time.Equal(at.Time) {
			return nil, fmt.Errorf("block %s is block %d of %s, not %d of %s", at.Hash, s.Block.Number, s.Block.Time, at.Number, at.Time)
		}
	case r.Believed != nil:
		r.Believed.fill(s)
	case len(q.Asks) > 0:
		return nil, fmt.Errorf("nothing tells what the contracts say at block %d", at.Number)
	}
	if err := answered(s, q.Asks); err != nil && !s.Sketch {
		return nil, fmt.Errorf("reading at block %d: %w", at.Number, err)
	}
	s.Policy, s.Provider, s.Head, s.Agreed, s.Failed = policy, r.Provider, ethrpc.Block(*r.Head), r.Agreed, providerErrors(r.Failed)
	return s, nil
}

// answered tells which question a contract with code did not answer: an audit has an answer to each, or an error.
func answered(s *ethrpc.State, asks []ethrpc.Ask) error {
	for _, ask := range asks {
		if _, ok := s.Answers[ask]; ask.Getter != "" && s.Code[ask.Contract] && !ok {
			return fmt.Errorf("nothing tells what %s of %s of contract %s is", ask.Getter, ask.ID, ask.Contract)
		}
	}
	return nil
}

func plain(in []hexutil.Bytes) [][]byte {
	out := make([][]byte, len(in))
	for i, b := range in {
		out[i] = b
	}
	return out
}

func (b *Believed) fill(s *ethrpc.State) {
	s.Code, s.Answers, s.Control = b.Code, map[ethrpc.Ask]ethrpc.Answer{}, map[common.Address]ethrpc.Control{}
	for addr, c := range b.Control {
		s.Control[addr] = c.control()
	}
	if b.Why != "" {
		s.Unproven = errors.New(b.Why)
	}
	for _, a := range b.Answers {
		s.Answers[a.ask()] = a.answer()
	}
}

// waited answers in the order in which it was asked.
func (o *offline) waited(_ string, ask ethrpc.Ask, _ time.Duration) time.Duration {
	if o.waits == len(o.c.Waited) {
		o.readErr = errors.Join(o.readErr, fmt.Errorf("asking how long %s is pending: %w", ask.ID, errOver))
		return 0
	}
	w := o.c.Waited[o.waits]
	o.waits++
	if w.Contract != ask.Contract || w.Getter != ask.Getter || w.ID != ask.ID {
		o.readErr = errors.Join(o.readErr, fmt.Errorf("the evidence does not say how long %s is pending", ask.ID))
	}
	return w.Waited
}

// over tells what is wrong with the evidence after the audit.
func (o *offline) over() error {
	err := errors.Join(o.claimErr, o.readErr, o.listErr)
	if err == nil && (o.claims < len(o.c.Claims) || o.lists < len(o.c.Lists) || o.reads < len(o.c.Reads) || o.waits < len(o.c.Waited)) {
		err = errors.New("there is more of it than the audit asks for")
	}
	return err
}

// replay is an audit.Events of one contract. An auditor that remembers earlier audits reads events less often than one
// that does not: where the evidence tells of no reading, nothing new came.
type replay struct {
	known   audit.Named
	updates []Update
	changed map[change]*audit.Changed
}

func (r *replay) next(block *common.Hash) error {
	if len(r.updates) == 0 {
		return nil
	}
	u := r.updates[0]
	if (u.Block == nil) != (block == nil) || block != nil && *u.Block != *block {
		return nil
	}
	r.updates = r.updates[1:]
	if u.Known != nil {
		r.known = audit.Named(*u.Known)
	}
	if u.Error != "" {
		return errors.New(u.Error)
	}
	return nil
}

// logs is an audit.Events of all contracts of a chain.
type logs map[common.Address]*replay

func logsOf(all map[common.Address]*Events) logs {
	out := logs{}
	for addr, e := range all {
		if e == nil {
			continue
		}
		r := &replay{known: audit.Named(e.Known), updates: e.Updates, changed: map[change]*audit.Changed{}}
		for i := range e.Changed {
			c := &e.Changed[i]
			r.changed[change{c.List, c.ID}] = &c.Last
		}
		out[addr] = r
	}
	return out
}

func (l logs) of(addr common.Address) *replay {
	if r := l[addr]; r != nil {
		return r
	}
	return &replay{}
}

func (l logs) Update(_ context.Context, contract common.Address, to ethrpc.Block) error {
	return l.of(contract).next(&to.Hash)
}
func (l logs) Reset(contract common.Address) error       { return l.of(contract).next(nil) }
func (l logs) Known(contract common.Address) audit.Named { return l.of(contract).known }
func (l logs) Version() uint64                           { return 0 }
func (l logs) Annotate(context.Context, common.Address, map[audit.List][]common.Hash) bool {
	return true
}
func (l logs) Last(contract common.Address, list audit.List, id common.Hash) *audit.Changed {
	return l.of(contract).changed[change{list, id}]
}

// over tells of readings that the audit did not ask for.
func (l logs) over() error {
	for addr, r := range l {
		if len(r.updates) > 0 {
			return fmt.Errorf("the audit does not read the events of %s as often, or up to another block", addr)
		}
	}
	return nil
}

func same(a, b audit.Named) bool {
	return slices.Equal(a.Devices, b.Devices) && slices.Equal(a.Images, b.Images) &&
		slices.Equal(a.AggregatedMRs, b.AggregatedMRs) && slices.Equal(a.Apps, b.Apps)
}
