package evidence_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/history"
	"github.com/kms-auditor/kms-auditor/internal/replay"
	"github.com/kms-auditor/kms-auditor/internal/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/secret"
	"github.com/kms-auditor/kms-auditor/internal/testchain"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

const chainID = 1337

var (
	dev1, dev2, hidden = id("d1"), id("d2"), id("ee")
	yes, no            = true, false
)

func id(b string) common.Hash { return common.HexToHash(strings.Repeat(b, 32)) }

// world is a real chain with the contract and an API that agree, until a test changes one of them.
type world struct {
	t      testing.TB
	chain  *testchain.Chain
	kms    *testchain.KMS
	proxy  *rpcfault.Proxy
	api    *fakeapi.Server
	verify ethrpc.Verify
	key    secret.String
	opt    audit.Options
	policy string
	more   func(o *audit.ChainOptions, api *kmsapi.Client)
	record evidence.Recorder
}

func newWorld(t testing.TB) *world {
	t.Helper()
	chain, err := testchain.Start(testchain.Options{})
	must(t, err)
	t.Cleanup(func() { chain.Close() })
	kms, err := chain.Deploy(t.Context(), testchain.DeployOptions{})
	must(t, err)
	must(t, kms.Seed(t.Context(), []common.Hash{dev1}, nil))
	w := &world{t: t, chain: chain, kms: kms, proxy: rpcfault.New(chain.URL()), policy: "latest"}
	w.api = fakeapi.New(fakeapi.Chain{ChainName: "test", ChainID: chainID, Contracts: []fakeapi.Contract{{
		Address: kms.Address().Hex(), ChainID: chainID, ChainName: "test",
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

// auditor returns one whose sources are recorded.
func (w *world) auditor() *audit.Auditor {
	w.t.Helper()
	api, err := kmsapi.New(kmsapi.Options{BaseURL: w.serve(w.api) + "/api/v1", Key: w.key, RetryDelay: time.Millisecond})
	must(w.t, err)
	w.t.Cleanup(api.Close)
	policy, err := ethrpc.ParsePolicy(w.policy)
	must(w.t, err)
	client, err := ethrpc.New(ethrpc.Options{
		ChainID: chainID, Policies: []ethrpc.Policy{policy}, Verify: w.verify, BatchSize: 100, RetryDelay: time.Millisecond,
		Providers: []ethrpc.Provider{{Name: "first", URL: secret.New(w.serve(w.proxy) + "/" + canary)}},
	})
	must(w.t, err)
	w.t.Cleanup(client.Close)
	store, err := history.Open("")
	must(w.t, err)
	w.t.Cleanup(func() { store.Close() })
	o := w.opt
	o.Version, o.Claims = "test", api
	chain := audit.ChainOptions{Name: "test", ChainID: chainID, Policies: []ethrpc.Policy{policy}, Reader: client, Required: w.verify == ethrpc.VerifyRequired}
	if w.verify != ethrpc.VerifyOff {
		chain.Events = replay.New(replay.Options{ChainID: chainID, Client: client, Store: store})
	}
	if w.more != nil {
		w.more(&chain, api)
	}
	o.Chains = []audit.ChainOptions{chain}
	return audit.New(w.record.Wrap(o))
}

const canary = "canary-5e1f"

// audit audits and returns the evidence, as it is written.
func (w *world) audit(a *audit.Auditor) []byte {
	w.t.Helper()
	f, err := w.record.Take(a.Audit(w.t.Context()))
	must(w.t, err)
	b, err := f.Encode()
	must(w.t, err)
	return b
}

func decode(t testing.TB, b []byte) *evidence.File {
	t.Helper()
	f, err := evidence.Decode(bytes.NewReader(b))
	must(t, err)
	return f
}

func kinds(r *audit.Report) string {
	var out []string
	for _, c := range r.Chains {
		for _, target := range c.Targets {
			for _, f := range target.Findings {
				out = append(out, string(f.Kind))
			}
		}
	}
	return strings.Join(out, " ")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
