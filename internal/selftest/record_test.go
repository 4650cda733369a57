package selftest_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/selftest"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
	"github.com/kms-auditor/kms-auditor/metrics"
)

var record = flag.Bool("record", false, "write recorded.json anew")

var (
	device, image, refused = id("11"), id("22"), id("33") // the contract allows the first two
	build                  = metrics.Build{Version: "v1.2.3"}
)

func id(b string) common.Hash { return common.HexToHash(strings.Repeat(b, 32)) }

// cases are what an API says of the contract.
func cases(t *testing.T, contract common.Address) []selftest.Case {
	t.Helper()
	row := func(id common.Hash, allowed bool) fakeapi.Device {
		return fakeapi.Device{ID: id.Hex(), Allowed: &allowed}
	}
	yes, hash := true, image.Hex()
	claim := func(devices ...fakeapi.Device) json.RawMessage {
		b, err := json.Marshal(fakeapi.Chain{ChainName: "base", ChainID: selftest.ChainID, Contracts: []fakeapi.Contract{{
			Address: contract.Hex(), ChainID: selftest.ChainID, ChainName: "base", Devices: devices,
			OSImages: []fakeapi.OSImage{{Name: "image", Version: "1", Hash: &hash, Allowed: &yes}},
		}}})
		must(t, err)
		return b
	}
	const proven = "proven answers, proven completeness; "
	return []selftest.Case{
		{"the API tells the truth", claim(row(device, true), row(refused, false)), "consistent; " + proven + "3 match"},
		{"the API claims a device that the contract refuses", claim(row(device, true), row(refused, true)),
			"drift; " + proven + "2 match; 1 mismatch; claim_allowed_chain_denied device " + refused.Hex()},
		{"the API denies a device that the contract allows", claim(row(device, false), row(refused, false)),
			"drift; " + proven + "2 match; 1 mismatch; claim_denied_chain_allowed device " + device.Hex()},
		{"the API hides a device that the contract allows", claim(row(refused, false)),
			"drift; " + proven + "2 match; 1 mismatch; unlisted_chain_allowed device " + device.Hex()},
	}
}

// TestTheRecordIsWhatAChainAnswers records a real chain while it is audited. The blocks of two chains are never the same, but
// what is asked of them is.
func TestTheRecordIsWhatAChainAnswers(t *testing.T) {
	chain, err := testchain.Start(testchain.Options{ChainID: selftest.ChainID})
	must(t, err)
	t.Cleanup(func() { chain.Close() })
	kms, err := chain.Deploy(t.Context(), testchain.DeployOptions{})
	must(t, err)
	must(t, kms.AllowDevice(t.Context(), device))
	must(t, kms.AllowImage(t.Context(), image))

	var mu sync.Mutex
	now := &selftest.Bundle{Cases: cases(t, kms.Address())}
	seen := map[string]bool{}
	proxy := rpcfault.New(chain.URL())
	proxy.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		mu.Lock()
		defer mu.Unlock()
		params, err := json.Marshal(c.Params)
		if key := c.Method + string(params); err == nil && a.Error == nil && !seen[key] {
			seen[key] = true
			now.Calls = append(now.Calls, selftest.Call{Method: c.Method, Params: params, Result: a.Result})
		}
	}})
	rpc := httptest.NewServer(proxy)
	t.Cleanup(rpc.Close)
	for _, c := range now.Cases {
		api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Write(c.Claim)
		}))
		r, err := selftest.Audit(t.Context(), build, api.URL, rpc.URL)
		api.Close()
		must(t, err)
		if d := cmp.Diff(c.Want, selftest.Tell(r)); d != "" {
			t.Fatalf("%s: wanted (-) and found on a real chain (+) differ:\n%s", c.Sentence, d)
		}
	}
	if *record {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetIndent("", " ")
		must(t, enc.Encode(now))
		must(t, os.WriteFile("recorded.json", b.Bytes(), 0o644))
		return
	}
	old, err := selftest.Recorded()
	must(t, err)
	if d := cmp.Diff(asked(now), asked(old)); d != "" {
		t.Errorf("a chain is asked (-) what the record does not answer (+); go generate records anew:\n%s", d)
	}
}

// asked counts the calls by method, and adds the cases but for their contract.
func asked(b *selftest.Bundle) map[string]int {
	out := map[string]int{}
	for _, c := range b.Calls {
		out[c.Method]++
	}
	for _, c := range b.Cases {
		out[c.Sentence+": "+c.Want]++
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
