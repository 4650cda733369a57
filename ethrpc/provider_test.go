package ethrpc_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

func TestRequestsPerSecondAreKept(t *testing.T) {
	w := newWorld(t)
	c, err := ethrpc.New(ethrpc.Options{
		ChainID: 1337, Verify: ethrpc.VerifyOff, Tags: []ethrpc.BlockTag{ethrpc.Latest}, BatchSize: 100,
		Providers: []ethrpc.Provider{{Name: "p1", URL: sanitize.NewSecret(w.url), RequestsPerSecond: 0.001}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err = look(ctx, c, w.request())
	if err == nil || !strings.Contains(err.Error(), "waiting for requests_per_second") || w.proxy.Requests() != 1 {
		t.Errorf("Read = %v after %d requests, want the second one to wait for its turn", err, w.proxy.Requests())
	}
}

func TestHeadersGoToTheProvider(t *testing.T) {
	w := newWorld(t)
	var got http.Header
	w.proxy.Set(rpcfault.Fault{HTTP: func(_ http.ResponseWriter, r *http.Request, _ []rpcfault.Call, _ bool) bool {
		got = r.Header.Clone()
		return false
	}})
	url := strings.Replace(w.url, "http://", "http://user:pass@", 1)
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

// observed counts what an Observer is told.
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
		Providers: []ethrpc.Provider{{Name: "p1", URL: sanitize.NewSecret(w.url), Timeout: time.Second}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := look(t.Context(), c, w.request()); err != nil {
		t.Fatal(err)
	}
	// The call at a random hash is meant to fail, and counts as one that went well.
	if o.trips != 2 || o.calls["eth_call ok"] != 4 || o.calls["eth_getCode ok"] != 1 || o.calls["eth_chainId ok"] != 1 || o.head.IsZero() {
		t.Errorf("told of %d round trips and %v", o.trips, o.calls)
	}
	for _, f := range []struct {
		fault  rpcfault.Fault
		counts string
	}{
		{rpcfault.Status(500, ""), "eth_chainId failed"},
		{rpcfault.Hang, "eth_chainId timeout"},
		{rpcfault.Refuse("eth_chainId", -32603, "no"), "eth_chainId error"},
	} {
		w.proxy.Set(f.fault)
		if _, err := look(t.Context(), c, w.request()); err == nil || o.calls[f.counts] != 1 {
			t.Errorf("%s: Read = %v, told of %v", f.fault.Name, err, o.calls)
		}
	}
}

// What passes the check is an answer to every call and to nothing else.
func FuzzAnswer(f *testing.F) {
	f.Add(`[{"jsonrpc":"2.0","id":1,"result":"0x539"},{"jsonrpc":"2.0","id":2,"result":null}]`)
	f.Add(`[{"id":2,"result":1},{"id":1,"error":{"code":-32000,"message":"header not found"}}]`)
	f.Add(`[{"id":1,"result":1},{"id":1,"result":2}]`)
	f.Add(`[{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"batch too large"}}]`)
	f.Add(`{"error":{"code":"x"}}`)
	f.Add("<html>")
	f.Add("null")
	f.Add(`{"id":1,"result":{}}`)
	f.Add(`{"id":"1","result":"\u001b"}`)
	f.Fuzz(func(t *testing.T, body string) {
		if err := ethrpc.CheckSingle([]byte(body), "1"); err != nil {
			fit.Error(t, err, 1000)
		} else {
			var one struct{ ID int }
			if err := json.Unmarshal([]byte(body), &one); err != nil || one.ID != 1 {
				t.Errorf("%q passes for the answer to 1", body)
			}
		}
		err := ethrpc.CheckAnswer([]byte(body), "1", "2")
		if err != nil {
			fit.Error(t, err, 1000)
			return
		}
		var got []struct {
			ID            int
			Result, Error json.RawMessage
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil || len(got) != 2 || got[0].ID+got[1].ID != 3 || got[0].ID*got[1].ID != 2 {
			t.Errorf("%q passes for the answers to 1 and 2", body)
		}
	})
}
