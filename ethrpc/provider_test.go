package ethrpc_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/logs"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

func TestRequestsPerSecondAreKept(t *testing.T) {
	w := newWorld(t)
	c, err := ethrpc.New(ethrpc.Options{
		ChainID: 1337, Verify: ethrpc.VerifyOff, Tags: []ethrpc.BlockTag{ethrpc.Latest}, BatchSize: 100,
		Providers: []ethrpc.Provider{{Name: "p1", URL: sanitize.NewSecret(w.URL), RequestsPerSecond: 0.001}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err = look(ctx, c, w.request())
	if err == nil || !strings.Contains(err.Error(), "waiting for requests_per_second") || w.Proxy.Requests() != 1 {
		t.Errorf("Read = %v after %d requests, want the second one to wait for its turn", err, w.Proxy.Requests())
	}
}

func TestHeadersGoToTheProvider(t *testing.T) {
	w := newWorld(t)
	var got http.Header
	w.Proxy.Set(rpcfault.Fault{HTTP: func(_ http.ResponseWriter, r *http.Request, _ []rpcfault.Call, _ bool) bool {
		got = r.Header.Clone()
		return false
	}})
	url := strings.Replace(w.URL, "http://", "http://user:pass@", 1)
	c, err := ethrpc.New(ethrpc.Options{
		ChainID: 1337, Verify: ethrpc.VerifyOff, Tags: []ethrpc.BlockTag{ethrpc.Latest}, BatchSize: 100, UserAgent: "kms-auditor/test",
		Providers: []ethrpc.Provider{{Name: "p1", URL: sanitize.NewSecret(url), Headers: map[string]sanitize.Secret{"X-Key": sanitize.NewSecret("k")}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := look(t.Context(), c, w.request()); err != nil {
		t.Fatal(err)
	}
	if got.Get("X-Key") != "k" || got.Get("User-Agent") != "kms-auditor/test" || got.Get("Authorization") == "" {
		t.Errorf("the provider got %v", got)
	}
}

// observed counts the events of an Observer.
type observed struct {
	mu    sync.Mutex
	trips int
	calls map[string]int
	head  time.Time
}

func (o *observed) RoundTrip(string, time.Duration) { o.mu.Lock(); o.trips++; o.mu.Unlock() }
func (o *observed) Call(_, method, result string) {
	o.mu.Lock()
	o.calls[method+" "+result]++
	o.mu.Unlock()
}
func (o *observed) Head(_ string, at time.Time) { o.head = at }

func TestWhatAnObserverIsTold(t *testing.T) {
	w := newWorld(t)
	o := &observed{calls: map[string]int{}}
	c, err := ethrpc.New(ethrpc.Options{
		ChainID: 1337, Verify: ethrpc.VerifyOff, Tags: []ethrpc.BlockTag{ethrpc.Latest}, BatchSize: 100, Observer: o, RetryDelay: time.Millisecond,
		Providers: []ethrpc.Provider{{Name: "p1", URL: sanitize.NewSecret(w.URL), Timeout: time.Second}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := look(t.Context(), c, w.request()); err != nil {
		t.Fatal(err)
	}
	// The probe at a random hash is meant to fail, and counts as ok.
	if o.trips != 2 || o.calls["eth_call ok"] != 4 || o.calls["eth_getCode ok"] != 1 || o.calls["eth_chainId ok"] != 1 || o.head.IsZero() {
		t.Errorf("the Observer got %d round trips and %v", o.trips, o.calls)
	}
	for _, f := range []struct {
		fault  rpcfault.Fault
		counts string
	}{
		{rpcfault.Status(500, ""), "eth_chainId failed"},
		{rpcfault.Hang, "eth_chainId timeout"},
		{rpcfault.Refuse("eth_chainId", -32603, "no"), "eth_chainId error"},
	} {
		w.Proxy.Set(f.fault)
		if _, err := look(t.Context(), c, w.request()); err == nil || o.calls[f.counts] != 1 {
			t.Errorf("%s: Read = %v, told of %v", f.fault.Name, err, o.calls)
		}
	}
}

func TestEveryMethodThatIsSentIsListed(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	sent := map[string]bool{}
	w.Proxy.Watch(func(c rpcfault.Call) { mu.Lock(); sent[c.Method] = true; mu.Unlock() })
	c := prover(t, ethrpc.VerifyAuto, 1, w.URL)
	if _, err := look(t.Context(), c, w.request()); err != nil {
		t.Fatal(err)
	}
	believed := w.request()
	believed.queries[0].Control = true
	if _, err := look(t.Context(), newClient(t, "latest", w.URL), believed); err != nil {
		t.Fatal(err)
	}
	head, err := w.Chain.Client().HeaderByNumber(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Scan(t.Context(), logs.Request{
		Contract: w.KMS.Address(), Filters: []logs.Filter{{{{1}}}}, To: head.Number.Uint64(), ToHash: head.Hash(),
		OnBatch: func(uint64, uint64, common.Hash, []types.Log) error { return nil },
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeploymentBlock(t.Context(), w.KMS.Address(), head.Number.Uint64()); err != nil {
		t.Fatal(err)
	}
	c.TxInfo(context.Background(), []logs.Ref{{Block: head.Hash(), Tx: common.Hash{1}}})
	if len(sent) < 8 {
		t.Errorf("only %v were sent", sent)
	}
	for _, m := range transport.Methods {
		delete(sent, m)
	}
	if len(sent) > 0 {
		t.Errorf("%v are not among the Methods", sent)
	}
}
