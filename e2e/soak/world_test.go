//go:build e2e

package soak_test

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// world is some chains and the API that makes claims about them.
type world struct {
	chains []*chain
	api    *flaky
	url    string // of the API

	timeout string // of a request to a source
}

// chain is a chain with one contract, and the whole history of the truth about it.
type chain struct {
	name      string
	id        uint64
	node      *testchain.Chain
	kms       *testchain.KMS
	providers []*provider
	api       *fakeapi.Server

	first   uint64 // first block with a known truth: the contract is deployed and filled
	mu      sync.Mutex
	head    uint64
	devices []common.Hash
	allowed map[common.Hash]bool
	blocks  map[uint64]map[common.Hash]bool // what the contract allowed at the end of a block
	claim   map[common.Hash]bool            // the API's claim for each listed id
	claims  map[string]map[common.Hash]bool // by the SHA-256 of the API's answer
	gaps    map[finding]*gap                // current differences
	closed  []*gap
}

// provider is one URL of the node.
type provider struct {
	*flaky
	rpc *rpcfault.Proxy
	url string
}

// finding is a difference, with the log's names.
type finding struct {
	Chain string
	Kind  audit.Kind
	ID    string
}

// gap is the time in which a difference was true.
type gap struct {
	finding
	from, to time.Time
}

// newWorld returns chains with that many devices each. Half of them are allowed and listed by the API.
func newWorld(t testing.TB, chains, devices, providers int) *world {
	t.Helper()
	api := fakeapi.New()
	w := &world{api: &flaky{inner: api}, timeout: "10s"}
	w.url = serve(t, w.api) + "/api/v1"
	t.Cleanup(api.Close)
	for i := range chains {
		c := &chain{name: fmt.Sprintf("chain-%d", i+1), id: uint64(1001 + i), api: api,
			allowed: map[common.Hash]bool{}, claim: map[common.Hash]bool{}, gaps: map[finding]*gap{},
			blocks: map[uint64]map[common.Hash]bool{}, claims: map[string]map[common.Hash]bool{}}
		var err error
		c.node, err = testchain.Start(testchain.Options{ChainID: c.id})
		must(t, err)
		t.Cleanup(func() { c.node.Close() })
		c.kms, err = c.node.Deploy(t.Context(), testchain.DeployOptions{})
		must(t, err)
		for n := range devices {
			id := crypto.Keccak256Hash(fmt.Appendf(nil, "device %d", n))
			c.devices = append(c.devices, id)
			c.allowed[id], c.claim[id] = n%2 == 0, n%2 == 0
		}
		must(t, c.kms.Seed(t.Context(), c.trusted(), nil))
		must(t, c.seal(t, true))
		c.first = c.head
		c.put()
		for range providers {
			p := &provider{rpc: rpcfault.New(c.node.URL())}
			p.flaky = &flaky{inner: p.rpc}
			p.url = serve(t, p.flaky)
			c.providers = append(c.providers, p)
		}
		w.chains = append(w.chains, c)
	}
	return w
}

// trusted returns the devices that are allowed now.
func (c *chain) trusted() (ids []common.Hash) {
	for id, yes := range c.allowed {
		if yes {
			ids = append(ids, id)
		}
	}
	return ids
}

func serve(t testing.TB, h *flaky) string {
	srv := httptest.NewServer(h)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv.URL
}

// seal records the truth at the head. It may seal an empty block first.
func (c *chain) seal(t testing.TB, more bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if more {
		c.node.Commit()
	}
	head, err := c.node.Client().BlockNumber(t.Context())
	if err != nil {
		return err
	}
	for n := c.head + 1; n < head; n++ {
		c.blocks[n] = c.blocks[c.head]
	}
	c.blocks[head], c.head = maps.Clone(c.allowed), head
	return nil
}

// allow changes the contract.
func (c *chain) allow(t testing.TB, id common.Hash, yes bool) error {
	method := map[bool]string{true: "addKmsDevice", false: "removeKmsDevice"}[yes]
	c.mu.Lock()
	defer c.mu.Unlock()
	receipt, err := c.kms.Send(t.Context(), method, id)
	if err != nil {
		return err
	}
	head, at := c.head, receipt.BlockNumber.Uint64()
	for n := head + 1; n < at; n++ {
		c.blocks[n] = c.blocks[head]
	}
	c.allowed[id] = yes
	c.blocks[at], c.head = maps.Clone(c.allowed), at
	c.differ()
	return nil
}

// say changes the claim about an id. With nil the API does not list it.
func (c *chain) say(id common.Hash, yes *bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if yes == nil {
		delete(c.claim, id)
	} else {
		c.claim[id] = *yes
	}
	c.differ()
	c.put()
}

// deny makes the API claim that some devices are denied.
func (c *chain) deny(ids []common.Hash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		c.claim[id] = false
	}
	c.differ()
	c.put()
}

// saysAll makes the API claim the truth about every device, or the opposite.
func (c *chain) saysAll(contrary bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, yes := range c.allowed {
		c.claim[id] = yes != contrary
	}
	c.differ()
	c.put()
}

// put sets the API's answer to the claim.
func (c *chain) put() {
	row := fakeapi.Contract{Address: c.kms.Address().Hex(), ChainID: c.id, ChainName: c.name, Devices: []fakeapi.Device{}, OSImages: []fakeapi.OSImage{}}
	for _, id := range c.devices {
		if yes, listed := c.claim[id]; listed {
			row.Devices = append(row.Devices, fakeapi.Device{ID: id.Hex(), Allowed: &yes})
		}
	}
	says := fakeapi.Chain{ChainName: c.name, ChainID: c.id, Contracts: []fakeapi.Contract{row}}
	body, err := json.Marshal(says)
	if err != nil {
		panic(err) // the API's own types
	}
	c.claims[fmt.Sprintf("%x", sha256.Sum256(body))] = maps.Clone(c.claim)
	c.api.Set(says)
}

// differ records which differences began and which ended.
func (c *chain) differ() {
	now, is := time.Now(), map[finding]bool{}
	for _, f := range c.differences(c.allowed, c.claim) {
		if is[f] = true; c.gaps[f] == nil {
			c.gaps[f] = &gap{finding: f, from: now}
		}
	}
	for f, g := range c.gaps {
		if !is[f] {
			g.to = now
			c.closed = append(c.closed, g)
			delete(c.gaps, f)
		}
	}
}

// differences returns what the auditor must find.
func (c *chain) differences(allowed, claim map[common.Hash]bool) (out []finding) {
	for _, id := range c.devices {
		says, listed := claim[id]
		switch yes := allowed[id]; {
		case !listed && yes:
			out = append(out, finding{c.name, audit.UnlistedChainAllowed, id.Hex()})
		case listed && yes && !says:
			out = append(out, finding{c.name, audit.ClaimDeniedChainAllowed, id.Hex()})
		case listed && !yes && says:
			out = append(out, finding{c.name, audit.ClaimAllowedChainDenied, id.Hex()})
		}
	}
	return out
}

// truth returns the truth for a block and an answer of the API, or false if there were no such block and answer.
func (c *chain) truth(block uint64, answer string) ([]finding, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	allowed, claim := c.blocks[block], c.claims[answer]
	return c.differences(allowed, claim), allowed != nil && claim != nil
}

// over reports whether the block or the answer, one of which may be missing, makes a difference untrue.
func (c *chain) over(f finding, block uint64, answer string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	allowed, claim, id := c.blocks[block], c.claims[answer], common.HexToHash(f.ID)
	if f.Kind == audit.ClaimAllowedChainDenied {
		return claim != nil && !claim[id] || allowed[id]
	}
	return allowed != nil && !allowed[id] || claim[id]
}

// now returns the current truth.
func (c *chain) now() []finding {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.differences(c.allowed, c.claim)
}

// lasted returns the ended differences that were true for a given time.
func (w *world) lasted(least time.Duration) (out []gap) {
	for _, c := range w.chains {
		c.mu.Lock()
		for _, g := range c.closed {
			if g.to.Sub(g.from) >= least {
				out = append(out, *g)
			}
		}
		c.mu.Unlock()
	}
	slices.SortFunc(out, func(a, b gap) int { return a.from.Compare(b.from) })
	return out
}

func (w *world) chain(name string) *chain {
	i := slices.IndexFunc(w.chains, func(c *chain) bool { return c.name == name })
	return w.chains[i]
}

func sorted(fs []finding) []finding {
	return slices.SortedFunc(slices.Values(fs), func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.Chain, b.Chain), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Kind, b.Kind))
	})
}

// events returns the changes of the contract's lists, including repeated ones.
func (c *chain) events(t testing.TB) []types.Log {
	t.Helper()
	logs, err := c.node.Client().FilterLogs(t.Context(), ethereum.FilterQuery{Addresses: []common.Address{c.kms.Address()}})
	must(t, err)
	return logs
}
