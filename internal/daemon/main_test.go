package daemon_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

var (
	contract = testchain.Address("contract")
	device   = common.BigToHash(common.Big1) // the API and the contract allow it
	stranger = common.BigToHash(common.Big2) // the contract does not
)

// world is a chain and an API that agree on one device.
type world struct {
	kms     *testchain.KMS
	api     *fakeapi.Server
	apiHTTP *httptest.Server
	proxy   *rpcfault.Proxy
	rpcHTTP *httptest.Server
	events  chan string // what happened; not all of it, where nobody takes it
}

const (
	calledAPI      = "the API was called"
	calledProvider = "the provider was called"
)

func (w *world) tell(event string) {
	select {
	case w.events <- event:
	default:
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	chain, err := testchain.Start(testchain.Options{
		ChainID: 8453,
		Preload: []testchain.Preload{{Address: contract, Devices: []common.Hash{device}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chain.Close() })
	chain.Commit()
	w := &world{kms: chain.KMS(contract), api: fakeapi.New(), proxy: rpcfault.New(chain.URL()), events: make(chan string, 100)}
	w.claim(device)
	w.proxy.Watch(func(rpcfault.Call) { w.tell(calledProvider) })
	w.rpcHTTP = httptest.NewServer(w.proxy)
	w.apiHTTP = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.tell(calledAPI)
		w.api.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.close)
	return w
}

// close may be called again.
func (w *world) close() {
	w.api.Close()
	w.apiHTTP.Close()
	w.rpcHTTP.Close()
	http.DefaultClient.CloseIdleConnections() // the proxy's to the chain
}

// claim makes the API list just these devices, as allowed.
func (w *world) claim(devices ...common.Hash) {
	yes := true
	row := fakeapi.Contract{Address: contract.Hex(), ChainID: 8453, ChainName: "base"}
	for _, d := range devices {
		row.Devices = append(row.Devices, fakeapi.Device{ID: d.Hex(), Allowed: &yes})
	}
	w.api.Set(fakeapi.Chain{ChainName: "base", ChainID: 8453, Contracts: []fakeapi.Contract{row}})
}

// config audits the world again as soon as an audit is done.
func (w *world) config(t *testing.T) *config.Config {
	t.Helper()
	cfg, err := config.Parse(fmt.Appendf(nil, `
confirm_delay: 0s
pending_max: 0s
api: {base_url: %s/api/v1}
chains:
  - name: base
    chain_id: 8453
    block: latest
    providers: [{name: local, url: %s}]
`, w.apiHTTP.URL, w.rpcHTTP.URL), config.Env{})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Cron = soon{}
	return cfg
}

// soon is a schedule that is always due.
type soon struct{}

func (soon) Next(t time.Time) time.Time { return t.Add(10 * time.Millisecond) }
