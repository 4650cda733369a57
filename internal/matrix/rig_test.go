package matrix_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/faults"
	"github.com/kms-auditor/kms-auditor/internal/history"
	"github.com/kms-auditor/kms-auditor/internal/replay"
	"github.com/kms-auditor/kms-auditor/internal/secret"
	"github.com/kms-auditor/kms-auditor/internal/testchain"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// rig is one case put together.
type rig struct {
	plan
	scene   *scene
	auditor *audit.Auditor
	known   baselines
	server  *fakeapi.Server
	step    int // under way

	edits   []edit
	older   fakeapi.Chain // what the API said first
	newest  fakeapi.Chain
	serving sync.Mutex // a fault of fakeapi is for one request

	mu    sync.Mutex      // of edits too
	heard map[string]said // what the API said, by the digest of the body

	close []func()
}

// baselines remembers for one case.
type baselines map[common.Address]audit.Baseline

func (b baselines) Baseline(c common.Address) (audit.Baseline, bool) { v, ok := b[c]; return v, ok }
func (b baselines) Begin(c common.Address, v audit.Baseline) error   { b[c] = v; return nil }

func (b *bench) rig(ctx context.Context, p plan) (*rig, error) {
	n, err := b.chain(ctx)
	if err != nil {
		return nil, err
	}
	s, err := newScene(ctx, n)
	if err != nil {
		return nil, err
	}
	g := &rig{plan: p, scene: s, known: baselines{}, heard: map[string]said{}}
	if err := s.found(ctx); err != nil {
		return nil, err
	}
	for _, ops := range p.Past {
		if err := s.mine(ctx, ops); err != nil {
			return nil, err
		}
	}
	g.server = fakeapi.New()
	g.close = append(g.close, g.server.Close)
	g.edits = p.Steps[0].Before.Edits
	g.say(s.claim(s.now().snapshot, g.edits))
	g.older = g.newest
	g.remember()
	return g, g.wire(b)
}

// say changes what the API says.
func (g *rig) say(c fakeapi.Chain) {
	g.newest = c
	g.server.Set(c)
	var list []fakeapi.KMS
	add := func(id string, at common.Address, chain uint64) {
		list = append(list, fakeapi.KMS{ID: "kc_" + id, Slug: &id, Contract: at.Hex(), ChainID: chain})
	}
	for i, at := range g.scene.at {
		if !g.scene.hushed(g.edits)[at] {
			add(fmt.Sprintf("test-%d", i), at, chainID)
		}
	}
	if slices.ContainsFunc(g.Faults, func(f fault) bool { return strings.HasPrefix(f.Name, "page") }) {
		for i := range 120 {
			add(fmt.Sprintf("more-%d", i), common.Address{1, byte(i)}, chainID+1)
		}
	}
	g.server.SetKMS(list...)
}

// remember makes the baselines that an earlier time left.
func (g *rig) remember() {
	if g.Baseline == "" || g.Baseline == "none" {
		return
	}
	for i, at := range g.scene.at {
		is := g.scene.now().snapshot[i]
		switch g.Baseline {
		case "other owner":
			is.owner = other(is.owner)
		case "other implementation":
			is.impl = map[string]string{toPlain: toMoved, toDoor: toPlain, toMoved: toDoor}[is.impl]
		}
		g.known[at] = audit.Baseline{Since: time.Now(), Control: audit.Control{
			Owner: testchain.Address(is.owner).Hex(), Implementation: g.scene.node.impl[is.impl].Hex(),
			CodeHash: g.scene.node.shell.Hex(), ImplementationCodeHash: g.scene.node.runs[is.impl].Hex(),
		}}
	}
}

// wire puts the auditor together, and the faults between it and the world.
func (g *rig) wire(b *bench) error {
	timeout, whole := 10*time.Second, 30*time.Second
	var at [maxProviders + 1][]faults.Fault
	for _, f := range g.Faults {
		i := f.At
		if i == api {
			i = maxProviders
		}
		at[i] = append(at[i], g.fault(f))
		if menu[f.Name].slow {
			timeout, whole = 80*time.Millisecond, 800*time.Millisecond
		}
	}
	client, err := kmsapi.New(kmsapi.Options{BaseURL: b.ports[maxProviders].URL + "/api/v1", Version: "2026-06-23", Timeout: timeout, RetryDelay: time.Millisecond})
	if err != nil {
		return err
	}
	g.close = append(g.close, client.Close)
	opt := ethrpc.Options{
		ChainID: chainID, Agreement: g.Agreement, BatchSize: 100, RetryDelay: time.Millisecond,
		Verify: map[string]ethrpc.Verify{"auto": ethrpc.VerifyAuto, "required": ethrpc.VerifyRequired, "off": ethrpc.VerifyOff}[g.Verify],
	}
	for p := range strings.SplitSeq(g.Block, " ") {
		policy, err := ethrpc.ParsePolicy(p)
		if err != nil {
			return err
		}
		opt.Policies = append(opt.Policies, policy)
	}
	open := func(i int, p *faults.Proxy, h http.Handler) {
		g.close = append(g.close, p.Close)
		b.doors[i].Store(&h)
	}
	for i := range g.Providers {
		opt.Providers = append(opt.Providers, ethrpc.Provider{Name: fmt.Sprintf("p%d", i), URL: secret.New(b.ports[i].URL), Timeout: timeout})
		p := faults.Node(g.scene.node.URL(), at[i]...)
		open(i, p, p)
	}
	p := faults.API(g.server, at[maxProviders]...)
	open(maxProviders, p, g.overhear(p))

	reader, err := ethrpc.New(opt)
	if err != nil {
		return err
	}
	g.close = append(g.close, reader.Close)
	chain := audit.ChainOptions{
		Name: "test", ChainID: chainID, Policies: opt.Policies, Reader: reader, Contracts: g.namedOf(g.scene.at),
		Eager: g.Eager, Required: g.Verify == "required", Wanted: g.wanted(), Accept: g.accepts(),
	}
	if g.Verify != "off" {
		store, err := history.Open("")
		if err != nil {
			return err
		}
		g.close = append(g.close, func() { store.Close() })
		from := map[common.Address]uint64{}
		for _, a := range g.scene.at {
			from[a] = g.scene.base
		}
		chain.Events = replay.New(replay.Options{ChainID: chainID, Client: reader, Store: store, From: from})
	}
	if g.Baseline != "" {
		chain.Baselines = g.known
	}
	if g.Cross {
		chain.KMS = client
	}
	o := audit.Options{Version: "test", Claims: client, Chains: []audit.ChainOptions{chain}, Timeout: whole, Progress: g.progress}
	if g.Pending {
		o.PendingMax = time.Hour
	}
	g.auditor = audit.New(o)
	return nil
}

func (g *rig) wanted() map[common.Address]audit.Policy {
	var p audit.Policy
	for list, wanted := range [2][]int{g.Devices, g.Images} {
		if wanted == nil {
			continue
		}
		all := []common.Hash{}
		for _, id := range wanted {
			all = append(all, idOf(list, id))
		}
		if list == device {
			p.Devices = all
		} else {
			p.OSImages = all
		}
	}
	if g.Owner != "" {
		owner := testchain.Address(g.Owner)
		p.Owner = &owner
	}
	if g.Impl != "" {
		impl := g.scene.node.impl[g.Impl]
		p.Implementation = &impl
	}
	return map[common.Address]audit.Policy{g.scene.at[0]: p}
}

func (g *rig) accepts() (out []audit.Accept) {
	for _, a := range g.Accepts {
		x := audit.Accept{Chain: "test", Contract: g.scene.at[a.Contract], Kind: audit.Kind(a.Kind), Reason: "so it is", Expires: time.Now().Add(time.Hour)}
		if a.ID >= 0 {
			x.List, x.ID = audit.List(listNames[a.List]), idOf(a.List, a.ID).Hex()
		}
		if a.Expired {
			x.Expires = time.Now().Add(-time.Hour)
		}
		out = append(out, x)
	}
	return out
}

// fault puts a drawn fault together.
func (g *rig) fault(f fault) faults.Fault {
	d, rnd := menu[f.Name], rand.New(rand.NewPCG(f.Seed, 1))
	out := faults.Fault{When: f.When}
	switch {
	case d.wire != nil:
		out.Wire = d.wire(rnd)
	case d.node != nil:
		out.RPC = d.node(rnd, g.scene)
	case d.event != nil:
		var once sync.Once
		out.Wire = faults.First(func() { once.Do(func() { g.scene.meddle(func() error { return d.event(rnd, g.scene) }) }) })
	default:
		out.Wire = d.api(rnd, g)
	}
	return out
}

// done lets go of everything, in the opposite order.
func (g *rig) done() {
	g.scene.end()
	for _, c := range slices.Backward(g.close) {
		c()
	}
}

// progress is told what the auditor does: before a second pass, something may happen.
func (g *rig) progress(_, doing string) {
	if strings.Contains(doing, "looking again") {
		g.scene.meddle(func() error { return g.apply(context.Background(), g.Steps[g.step].Between) })
	}
}

// apply lets a change happen.
func (g *rig) apply(ctx context.Context, c change) error {
	err := g.scene.undo(ctx, c.Undo)
	for _, ops := range c.Blocks {
		err = cmp.Or(err, g.scene.mine(ctx, ops))
	}
	if !c.Still {
		g.mu.Lock()
		g.edits = c.Edits
		g.mu.Unlock()
		g.say(g.scene.claim(g.scene.now().snapshot, c.Edits))
	}
	return errors.Join(err, ctx.Err())
}
