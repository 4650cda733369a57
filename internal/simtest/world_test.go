package simtest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
	"github.com/kms-auditor/kms-auditor/internal/events"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/state"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// world is the environment of a plan.
type world struct {
	config
	*node
	at      []common.Address   // the contracts, the enemy last
	helpers [][]common.Address // for each contract, what its form may point at
	born    uint64             // a block before them
	base    uint64             // the newest block that is never reorganised away
	doors   []*rpcfault.Proxy  // of the providers
	ills    []string           // the fault of each provider
	api     *api
	urls    []string // of the providers, and of the API
	file    string   // of the state

	auditor *observe.Auditor
	state   *state.State
	closers []func()

	beacon *anchored // nil if no sync committee signs the chain
	rollup *rollup   // nil without L1
	mem    *memory
	alerts *alerts

	between []act // acts left for the time before the second look
	faulty  bool  // something failed, or may have, during the audit
	liar    bool  // a provider lied and was believed by design
	invents bool  // a provider served an invented chain
	unreal  bool  // the invented chain was believed by design
	current bool  // a beacon endpoint was always up to date
	wasIll  bool  // a provider failed since the auditor started, so it may not be asked for proofs for a while
	err     error
}

// enemies are runtime codes of contracts that answer every call in the same way.
var enemies = map[string]string{
	"asks the block":  "0x6001430340151560005260206000f3",
	"returns rubbish": "0x60206000f3",
	"writes":          "0x600160005560206000f3",
	"never ends":      "0x5b600056",
	"logs":            "0x60006000a060206000f3",
}

func (b *bench) world(ctx context.Context, c config, dir string) (*world, error) {
	n, err := b.chain(ctx)
	if err != nil {
		return nil, err
	}
	w := &world{config: c, node: n, api: newAPI(), file: filepath.Join(dir, "state"), ills: make([]string, c.Providers)}
	if err := w.deploy(ctx); err != nil {
		return nil, err
	}
	w.mem, w.alerts = newMemory(len(w.at)), newAlerts()
	for i := range c.Providers {
		behind := w.URL()
		if c.Limit != "" {
			limit := rpcfault.New(behind)
			limit.Set(limited(c.Limit))
			behind = w.serve(limit)
		}
		door := rpcfault.New(behind)
		w.doors = append(w.doors, door)
		w.urls = append(w.urls, w.serve(door))
		w.spoil(ctx, act{What: "well", N: i})
	}
	w.urls = append(w.urls, w.serve(w.api))
	w.closers = append(w.closers, w.api.close)
	if err := w.act(ctx, act{What: "follow"}); err != nil {
		return nil, err
	}
	if err := w.anchor(ctx); err != nil {
		return nil, err
	}
	return w, w.start()
}

func (w *world) serve(h http.Handler) string {
	s := httptest.NewServer(h)
	w.closers = append(w.closers, func() { s.CloseClientConnections(); s.Close() })
	return s.URL
}

func (w *world) close() {
	for _, c := range slices.Backward(w.closers) {
		c()
	}
	_ = w.state.Close()
}

// deploy deploys the contracts in one block. Worlds of one configuration start at the same distance from a finalized block.
func (w *world) deploy(ctx context.Context) error {
	if err := w.finalize(ctx); err != nil {
		return err
	}
	nonce, err := w.nonce(ctx, "owner")
	if err != nil {
		return err
	}
	if w.born, err = w.head(ctx); err != nil {
		return err
	}
	var txs []tx
	for n := range w.Contracts {
		more, at, helpers, err := w.birth(w.form(n), nonce+uint64(len(txs)))
		if err != nil {
			return err
		}
		txs, w.at, w.helpers = append(txs, more...), append(w.at, at), append(w.helpers, helpers)
	}
	if w.Enemy != "" {
		w.at = append(w.at, crypto.CreateAddress(testchain.Address("owner"), nonce+uint64(len(txs))))
		txs = append(txs, tx{from: "owner", data: creation(common.FromHex(enemies[w.Enemy]))})
	}
	if err := w.mine(ctx, txs...); err != nil {
		return err
	}
	if w.base, err = w.head(ctx); err != nil || w.Young {
		return err
	}
	return w.finalize(ctx)
}

// start starts an auditor with the saved state.
func (w *world) start() (err error) {
	if w.state, err = state.Open(w.file); err != nil {
		return err
	}
	api, err := kmsapi.New(kmsapi.Options{BaseURL: w.urls[w.Providers] + "/api/v1", Version: "2026-06-23", Timeout: 10 * time.Second, RetryDelay: time.Millisecond})
	if err != nil {
		return err
	}
	opt := ethrpc.Options{
		ChainID: chainID, Agreement: w.Agreement, BatchSize: 100, RetryDelay: time.Millisecond,
		Verify: map[string]ethrpc.Verify{"auto": ethrpc.VerifyAuto, "required": ethrpc.VerifyRequired, "off": ethrpc.VerifyOff}[w.Verify],
	}
	for i := range w.Providers {
		opt.Providers = append(opt.Providers, ethrpc.Provider{Name: fmt.Sprintf("p%d", i), URL: sanitize.NewSecret(w.urls[i]), Timeout: 10 * time.Second})
	}
	intent := w.intent()
	for _, t := range intent.Tags {
		tag, err := ethrpc.ParseBlockTag(t)
		if err != nil {
			return err
		}
		opt.Tags = append(opt.Tags, tag)
	}
	client, err := ethrpc.New(opt)
	if err != nil {
		return err
	}
	w.closers = append(w.closers, client.Close, api.Close)
	chain := observe.Chain{Intent: intent, Tags: opt.Tags, Reader: client}
	if w.beacon != nil {
		anchor, err := anchor.New(w.beacon.opt)
		if err != nil {
			return err
		}
		w.closers = append(w.closers, anchor.Close)
		chain.Anchor = clocked{anchor, w.node.Chain}
	}
	if w.rollup != nil {
		if chain.L1, err = w.l1(); err != nil {
			return err
		}
	}
	if intent.Events {
		// The node does not keep state old enough to find this.
		from := map[common.Address]uint64{}
		for _, at := range w.at {
			from[at] = w.born
		}
		chain.Events = events.New(events.Options{Chain: "test", Client: client, State: w.state, From: from})
	}
	w.auditor = observe.New(observe.Options{Version: "test", Claims: api, Chains: []observe.Chain{chain}, Timeout: time.Minute, Record: true, Progress: w.progress})
	return nil
}

func (w *world) intent() audit.Intent {
	i := audit.Intent{
		Chain: "test", ChainID: chainID, Tags: strings.Fields(w.Block), Agreement: w.Agreement, Events: w.Verify != "off",
		Required: w.Verify == "required", Baselines: w.Baselines, NoClaims: w.Unclaimed,
		Anchored: w.beacon != nil, AnchorMust: w.Anchor == "required",
	}
	if w.rollup != nil {
		i.L1 = &audit.L1Intent{Chain: "l1", ChainID: chainID, SystemConfig: w.rollup.contracts.At[testchain.RollupConfig]}
	}
	if w.Pending {
		i.PendingMax = time.Hour
	}
	for n, at := range w.configured() {
		c := audit.ContractIntent{Address: at}
		if n == 0 {
			c.Policy = w.policy()
		}
		i.Contracts = append(i.Contracts, c)
	}
	for n, a := range w.Accepts {
		x := audit.Exception{Index: n, Contract: w.at[a.N], Kind: audit.Kind(a.Kind), Reason: "so it is", Expires: time.Now().Add(time.Hour)}
		if a.ID >= 0 {
			x.List, x.ID = lists[a.List], idOf(a.List, a.ID).Hex()
		}
		if a.Expired {
			x.Expires = time.Now().Add(-time.Hour)
		}
		i.Exceptions = append(i.Exceptions, x)
	}
	return i
}

func (w *world) configured() []common.Address {
	return map[string][]common.Address{"all": w.at, "first": w.at[:1]}[w.Named]
}

func (w *world) policy() (p audit.Policy) {
	for list, wanted := range [][]int{w.Devices, w.Images} {
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
	if w.Owner != "" {
		owner := testchain.Address(w.Owner)
		p.Owner = &owner
	}
	if w.Runs != "" {
		impl := w.impl[w.Runs]
		p.Implementation = &impl
	}
	return p
}

// progress is called before a second look, and performs the acts left for it.
func (w *world) progress(_, doing string) {
	if strings.Contains(doing, "looking again") {
		w.err = errors.Join(w.err, w.acts(context.Background(), w.between))
		w.between = nil
	}
}

// acts performs acts.
func (w *world) acts(ctx context.Context, all []act) error {
	for _, a := range all {
		if err := w.act(ctx, a); err != nil {
			return fmt.Errorf("%+v: %w", a, err)
		}
	}
	if err := w.sign(ctx); err != nil {
		return err
	}
	w.heal()
	w.current = w.current && w.upToDate()
	w.invents = w.invents || slices.Contains(w.ills, "invents")
	ill := slices.ContainsFunc(w.ills, func(ill string) bool { return ill != "" })
	believed := func(ill string) bool {
		return ill == "lies without proof" || w.wasIll && w.Verify == "auto" && strings.HasPrefix(ill, "lies") // it may not be asked for proofs
	}
	w.liar = w.liar || slices.ContainsFunc(w.ills, believed)
	w.wasIll, w.mem.ill = w.wasIll || ill, w.mem.ill || ill
	w.faulty = w.faulty || w.api.failing() && !w.Unclaimed || ill || w.beacon != nil && slices.ContainsFunc(w.beacon.ills, func(ill string) bool { return ill != "" })
	return nil
}

func (w *world) act(ctx context.Context, a act) error {
	switch {
	case a.What == "restart" || a.What == "forget":
		err := w.state.Close()
		if a.What == "forget" {
			err = errors.Join(err, os.RemoveAll(w.file))
			w.mem = newMemory(len(w.at))
		}
		w.wasIll = false
		return errors.Join(err, w.start())
	case slices.Contains(onL1, a.What):
		return w.onL1(ctx, a)
	case slices.Contains(atBeacon, a.What):
		return w.ail(ctx, a)
	case a.What == "invents":
		return w.invent(ctx, a)
	case slices.Contains(atProvider, a.What):
		if a.N < w.Providers {
			w.spoil(ctx, a)
		}
		return nil
	case slices.Contains(atAPI, a.What):
		return w.edit(ctx, a)
	case a.What == "acknowledge":
		return w.acknowledge(ctx, a.N)
	case a.What == "block":
		return w.mine(ctx)
	case a.What == "finalize":
		w.Commit()
		return w.finalize(ctx)
	case a.What == "reorganise":
		head, err := w.head(ctx)
		if blocks := min(uint64(a.N), head-w.base); err == nil && blocks > 0 {
			err = w.undo(ctx, blocks)
			if w.rollup != nil {
				w.rollup.undone = true
			}
		}
		return err
	default:
		return w.operate(ctx, a)
	}
}

// operate performs an act of the owner.
func (w *world) operate(ctx context.Context, a act) error {
	newest, err := w.Client().HeaderByNumber(ctx, nil)
	if err != nil {
		return err
	}
	is, err := w.contract(ctx, newest.Hash(), w.at[a.N])
	if err != nil {
		return err
	}
	owner, other := "owner", "stranger"
	if is.owner == testchain.Address("stranger") {
		owner, other = other, owner
	}
	var txs []tx
	call := func(from, method string, args ...any) {
		data, e := w.abi.Pack(method, args...)
		err = errors.Join(err, e)
		txs = append(txs, tx{from, &w.at[a.N], data})
	}
	also := func(t tx, e error) { txs, err = append(txs, t), errors.Join(err, e) }
	upgrade := func(name string) { also(w.upgrade(a.N, &is, owner, w.impl[name])) }
	id := idOf(a.List, a.ID)
	switch a.What {
	case "add":
		call(owner, [...]string{"addKmsDevice", "addOsImageHash"}[a.List], id)
	case "remove":
		call(owner, [...]string{"removeKmsDevice", "removeOsImageHash"}[a.List], id)
	case "sneak in", "sneak out":
		if is.name != testchain.Backdoor && w.form(a.N) != dispatch { // dispatch has the method in its other code
			upgrade(testchain.Backdoor)
		}
		call(owner, [...]string{"sneakDevice", "sneakImage"}[a.List], id, a.What == "sneak in")
	case "register app":
		call("stranger", "registerApp", common.Address{1, byte(a.ID)})
	case "add measurement":
		call(owner, "addKmsAggregatedMr", measurement(byte(a.ID)))
	case "set info":
		call(owner, "setGatewayAppId", fmt.Sprintf("0x%040x, and so on, so that it is long", a.ID))
	case "set app code": // by the current or the older name
		call(owner, "setAppImplementation", common.Address{2, byte(a.ID)})
		also(callOf(testchain.May, owner, w.at[a.N], "setAppAuthImplementation", common.Address{2, byte(a.ID)}))
	case "hand over":
		call(owner, "transferOwnership", testchain.Address(other))
		call(other, "acceptOwnership")
	case testchain.Plain, testchain.Moved:
		upgrade(a.What)
	default:
		also(w.reshape(a, &is, owner))
	}
	if err != nil {
		return err
	}
	return w.mine(ctx, txs...)
}

var lists = [2]audit.List{audit.Device, audit.OSImage}

// idOf returns the id for a number.
func idOf(list, id int) common.Hash {
	return crypto.Keccak256Hash(fmt.Appendf(nil, "list %d, id %d", list, id))
}
