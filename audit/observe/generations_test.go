package observe_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// generation is a world whose contract is of a generation, and has a measurement and two apps beside the lists.
func generation(t *testing.T, implementation string) *world {
	t.Helper()
	w := provenWorld(t)
	kms, err := w.chain.Deploy(t.Context(), testchain.DeployOptions{Implementation: implementation})
	must(t, err)
	w.kms = kms
	must(t, kms.AllowDevice(t.Context(), dev1))
	must(t, kms.AllowImage(t.Context(), img1))
	w.contract(func(c *fakeapi.Contract) { c.Address = kms.Address().Hex() })
	return w
}

func (w *world) send(method string, args ...any) {
	w.t.Helper()
	_, err := w.kms.Send(w.t.Context(), method, args...)
	must(w.t, err)
}

// may is a contract of May 2025 with all that it may store.
func may(t *testing.T) *world {
	w := generation(t, testchain.May)
	w.send("addKmsAggregatedMr", id("b1"))
	w.send("setGatewayAppId", "gateway")
	w.send("setAppAuthImplementation", common.Address{1})
	w.send("registerApp", common.Address{2}) // by the owner
	_, err := w.kms.As(testchain.Key("stranger")).Send(t.Context(), "registerApp", common.Address{3})
	must(t, err)
	must(t, w.kms.RegisterThrough(t.Context(), common.Address{4}))
	return w
}

func TestAGenerationIsExplained(t *testing.T) {
	for sentence, row := range map[string]struct {
		change  func(*world)
		verdict audit.Verdict
		kinds   string
	}{
		"all that is stored is explained": {func(*world) {}, audit.Consistent, ""},
		"one more app": {func(w *world) {
			w.send("registerApp", common.Address{5})
		}, audit.Consistent, ""},
		"an entry is hidden": {func(w *world) {
			w.backdoor()
			_, err := w.kms.Upgrade(t.Context(), testchain.May)
			must(w.t, err)
		}, audit.Drift, "storage_unaccounted"},
		"the generation before left an image": {func(w *world) {
			w.send("addAppImageMr", hidden)
		}, audit.Drift, "unlisted_chain_allowed"},
		"no provider has the transactions that registered the apps": {func(w *world) {
			w.proxy.Set(rpcfault.Refuse("eth_getTransactionByHash", -32601, "not available"))
		}, audit.Unknown, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := may(t)
			row.change(w)
			a := w.auditor()
			for range 2 {
				if r := a.audit(); r.Verdict != row.verdict || kindsOf(r) != row.kinds || r.Chains[0].Targets[0].Assurance != audit.Proven {
					t.Errorf("%s with %q, want %s with %q\n%s", r.Verdict, kindsOf(r), row.verdict, row.kinds, text(t, r))
				}
			}
			if row.verdict != audit.Consistent {
				return
			}
			before := w.proxy.Requests()
			if a.audit(); w.proxy.Requests()-before != 1 {
				t.Errorf("an unchanged audit takes %d round trips", w.proxy.Requests()-before)
			}
			w.send("registerApp", common.Address{6})
			if r := a.audit(); r.Verdict != audit.Consistent {
				t.Errorf("after one more app: %s", text(t, r))
			}
		})
	}
}

// TestAFloodHidesNothing: somebody registers one app so often in one block that no provider serves its logs.
func TestAFloodHidesNothing(t *testing.T) {
	const served = 10 // logs in one answer
	few := rpcfault.Fault{Name: "few logs", Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		var logs []json.RawMessage
		if c.Method == "eth_getLogs" && json.Unmarshal(a.Result, &logs) == nil && len(logs) > served {
			rpcfault.Refuse("eth_getLogs", -32005, "query returned more than 10 results").Reply(c, a)
		}
	}}
	for sentence, refused := range map[string]string{
		"its receipts are served at once":    "",
		"its receipts are served one by one": "eth_getBlockReceipts",
	} {
		t.Run(sentence, func(t *testing.T) {
			w := provenWorld(t)
			a := w.auditor()
			if r := a.audit(); r.Verdict != audit.Consistent {
				t.Fatalf("before: %s", text(t, r))
			}
			must(t, w.kms.As(testchain.Key("stranger")).Flood(t.Context(), common.Address{9}, 4*served))
			must(t, w.kms.AllowDevice(t.Context(), hidden))
			fault := few
			if refused != "" {
				fault = rpcfault.Join(few, rpcfault.Refuse(refused, -32601, "not available"))
			}
			w.proxy.Set(fault)
			r := a.audit()
			if target := r.Chains[0].Targets[0]; r.Verdict != audit.Drift || kindsOf(r) != "unlisted_chain_allowed" || target.Completeness != audit.Complete {
				t.Errorf("%s", text(t, r))
			}
		})
	}
	t.Run("nobody serves its receipts", func(t *testing.T) {
		w := provenWorld(t)
		must(t, w.kms.As(testchain.Key("stranger")).Flood(t.Context(), common.Address{9}, 4*served))
		w.proxy.Set(rpcfault.Join(few, rpcfault.Refuse("eth_getBlockReceipts", -32601, "no"), rpcfault.Refuse("eth_getTransactionReceipt", -32601, "no")))
		if r := w.audit(); r.Verdict != audit.Consistent || kindsOf(r) != "" || r.Chains[0].Targets[0].Completeness != audit.Incomplete || !strings.Contains(r.Chains[0].Targets[0].Incomplete, "by the block's receipts") {
			t.Errorf("%s", text(t, r))
		}
		must(t, w.kms.AllowDevice(t.Context(), hidden))
		if r := w.audit(); r.Verdict != audit.Drift || kindsOf(r) != "unlisted_chain_allowed" {
			t.Errorf("with a device that the owner allowed after it: %s", text(t, r))
		}
		w.verify = ethrpc.VerifyRequired
		if r := w.audit(); r.Verdict != audit.Drift || !strings.Contains(text(t, r), "verify is required") {
			t.Errorf("where all has to be proven: %s", text(t, r))
		}
	})
}
