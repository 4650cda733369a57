package evidence_test

import (
	"context"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/logs"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

const (
	chainID = 1337
	canary  = "canary-5e1f" // in the provider's URL, which is a secret
)

var (
	yes, no = true, false
	// trap answers every getter with 0, but for ids that begin like hidden, for which it never ends.
	trap = common.Address{0: 0xdd}
)

// world is a real chain with a KMS, and an API that agrees until a test changes it.
type world struct {
	t      testing.TB
	kms    *testchain.KMS
	proxy  *rpcfault.Proxy
	api    *fakeapi.Server
	intent audit.Intent
	prior  audit.Prior
	tag    string
	verify ethrpc.Verify
	named  names
	key    sanitize.Secret
}

func newWorld(t testing.TB) *world {
	t.Helper()
	loop := "60043560f81c" + "60" + hidden.Hex()[2:4] + "14" + "601357" + "5f5f5260205ff3" + "5b601356"
	chain, err := testchain.Start(testchain.Options{
		Preload: []testchain.Preload{{Address: at, Devices: []common.Hash{dev1}}},
		Alloc:   types.GenesisAlloc{trap: {Code: common.FromHex(loop), Balance: new(big.Int)}},
	})
	must(t, err)
	t.Cleanup(func() { chain.Close() })
	chain.Commit()
	chain.Commit()
	w := &world{
		t: t, kms: chain.KMS(at), proxy: rpcfault.New(chain.URL()), tag: "latest",
		intent: audit.Intent{Chain: "test", ChainID: chainID, Events: true, Baselines: true},
	}
	w.api = fakeapi.New(fakeapi.Chain{ChainName: "test", ChainID: chainID, Contracts: []fakeapi.Contract{{
		Address: at.Hex(), ChainID: chainID, ChainName: "test",
		Devices: []fakeapi.Device{{ID: dev1.Hex(), Allowed: &yes}, {ID: dev2.Hex(), Allowed: &no}},
	}}})
	t.Cleanup(w.api.Close)
	return w
}

func (w *world) claim(f func(*fakeapi.Contract)) {
	w.api.Update("test", func(c *fakeapi.Chain) { f(&c.Contracts[0]) })
}

func (w *world) serve(h http.Handler) string {
	srv := httptest.NewServer(h)
	w.t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return srv.URL
}

// audit audits once.
func (w *world) audit() observe.Result {
	w.t.Helper()
	api, err := kmsapi.New(kmsapi.Options{BaseURL: w.serve(w.api) + "/api/v1", Key: w.key, RetryDelay: time.Millisecond})
	must(w.t, err)
	w.t.Cleanup(api.Close)
	tag, err := ethrpc.ParseBlockTag(w.tag)
	must(w.t, err)
	client, err := ethrpc.New(ethrpc.Options{
		ChainID: chainID, Tags: []ethrpc.BlockTag{tag}, Verify: w.verify, BatchSize: 100, RetryDelay: time.Millisecond,
		Providers: []ethrpc.Provider{{Name: "first", URL: sanitize.NewSecret(w.serve(w.proxy) + "/" + canary)}},
	})
	must(w.t, err)
	w.t.Cleanup(client.Close)
	w.intent.Tags, w.intent.Required = []string{w.tag}, w.verify == ethrpc.VerifyRequired
	chain := observe.Chain{Intent: w.intent, Tags: []ethrpc.BlockTag{tag}, Reader: client, Events: w.named}
	return observe.New(observe.Options{
		Version: "test", Claims: api, Listing: api, Chains: []observe.Chain{chain}, Record: true, ConfirmDelay: time.Millisecond,
	}).Audit(w.t.Context(), "AUDIT", map[string]audit.Prior{"test": w.prior})
}

// evidence audits once and returns the evidence, as it is read again.
func (w *world) evidence() *evidence.File {
	w.t.Helper()
	r := w.audit()
	f, err := evidence.New(r.Report, r.Records)
	must(w.t, err)
	return again(w.t, f)
}

// names are events that named something.
type names map[string][]common.Hash

func (names) Batch(common.Address, bool) *logs.Batch                           { return nil }
func (names) Take(*logs.Batch) error                                           { return nil }
func (names) Update(context.Context, common.Address, bool, ethrpc.Block) error { return nil }
func (names) Reset(common.Address) error                                       { return nil }
func (names) Callers(context.Context, common.Address)                          {}
func (names) Last(common.Address, []audit.ListChange) []audit.ListChange       { return nil }
func (n names) Named(common.Address) map[string][]common.Hash                  { return n }
func (names) Annotate(context.Context, common.Address, []audit.ListChange) bool {
	return true
}
