package observe_test

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

var mr1, mr2 = id("31"), id("32")

// kmsInfo is the argument of setKmsInfo.
type kmsInfo struct{ K256Pubkey, CaPubkey, Quote, Eventlog []byte }

// watchedWorld has a measurement, keys, a gateway and an implementation of apps.
func watchedWorld(t *testing.T) *world {
	t.Helper()
	w := provenWorld(t)
	w.intent.Baselines = true
	w.send("addKmsAggregatedMr", mr1)
	w.send("setKmsInfo", kmsInfo{[]byte{2, 0xab}, []byte{0x30, 0xcd}, make([]byte, 2000), nil})
	w.send("setGatewayAppId", "0xAB")
	w.send("setAppImplementation", common.Address{7})
	return w
}

// control is the one of the only target.
func control(t *testing.T, r *audit.Report) *audit.Control {
	t.Helper()
	c := r.Chains[0].Targets[0].Control
	if c == nil {
		t.Fatal("control was not read")
	}
	return c
}

func TestWhatAContractSaysOfItsKMSIsWatched(t *testing.T) {
	for name, row := range map[string]struct {
		kind, says string
		do, undo   func(*world)
	}{
		"a measurement is added": {
			"measurements_changed", "the contract has " + mr2.Hex() + ", but the baseline has none",
			func(w *world) { w.send("addKmsAggregatedMr", mr2) }, func(w *world) { w.send("removeKmsAggregatedMr", mr2) },
		},
		"the only measurement is removed": {
			"measurements_changed", "the contract has none, but the baseline has " + mr1.Hex(),
			func(w *world) { w.send("removeKmsAggregatedMr", mr1) }, func(w *world) { w.send("addKmsAggregatedMr", mr1) },
		},
		"the CA has another key": {
			"kms_keys_changed", "the contract has 02ab, 30ce, but the baseline has 02ab, 30cd",
			func(w *world) { w.send("setKmsInfo", kmsInfo{[]byte{2, 0xab}, []byte{0x30, 0xce}, nil, nil}) },
			func(w *world) { w.send("setKmsInfo", kmsInfo{[]byte{2, 0xab}, []byte{0x30, 0xcd}, nil, nil}) },
		},
		"the keys are gone": {
			"kms_keys_changed", "the contract has none", func(w *world) { w.send("setKmsInfo", kmsInfo{}) },
			func(w *world) { w.send("setKmsInfo", kmsInfo{[]byte{2, 0xab}, []byte{0x30, 0xcd}, nil, nil}) },
		},
		"there is another gateway": {
			"gateway_changed", "the contract has cd, but the baseline has 0xAB",
			func(w *world) { w.send("setGatewayAppId", "cd") }, func(w *world) { w.send("setGatewayAppId", "ab") },
		},
		"the gateway is rubbish": {
			"gateway_changed", "keccak-256", func(w *world) { w.send("setGatewayAppId", "\xff"+strings.Repeat("x", 1500)) },
			func(w *world) { w.send("setGatewayAppId", "0xAB") },
		},
		"apps get another implementation": {
			"app_implementation_changed", common.Address{8}.Hex(),
			func(w *world) { w.send("setAppImplementation", common.Address{8}) }, func(w *world) { w.send("setAppImplementation", common.Address{7}) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := watchedWorld(t)
			a := w.auditor()
			c := control(t, a.says(audit.Consistent, ""))
			if want := (audit.Control{
				Owner: c.Owner, Implementation: c.Implementation, Code: c.Code,
				KMSPubkeys: []string{"02ab", "30cd"}, GatewayAppID: "0xAB", AppImplementation: common.Address{7}.Hex(), AggregatedMRs: []string{mr1.Hex()},
				Read: []string{"kms_pubkeys", "gateway_app_id", "app_implementation", "aggregated_mrs"},
			}); !slices.Equal(c.KMSPubkeys, want.KMSPubkeys) || !slices.Equal(c.AggregatedMRs, want.AggregatedMRs) || !slices.Equal(c.Read, want.Read) ||
				c.GatewayAppID != want.GatewayAppID || c.AppImplementation != want.AppImplementation {
				t.Errorf("%+v, want %+v", c, want)
			}
			before := w.proxy.Requests()
			if a.says(audit.Consistent, ""); w.proxy.Requests()-before != 1 {
				t.Errorf("an unchanged audit takes %d round trips", w.proxy.Requests()-before)
			}
			row.do(w)
			r := a.says(audit.Drift, row.kind)
			if f := r.Chains[0].Targets[0].Findings[0]; !strings.Contains(f.Message, row.says) {
				t.Errorf("%q does not say %q", f.Message, row.says)
			}
			row.undo(w)
			a.says(audit.Consistent, "")
		})
	}
}

// TestAMeasurementIsReadLikeAnyEntry: proven, with who changed it, and its list's failure is its own.
func TestAMeasurementIsReadLikeAnyEntry(t *testing.T) {
	w := watchedWorld(t)
	w.eager = true
	e := entry(t, w.auditor().says(audit.Consistent, ""), mr1.Hex())
	if e.List != audit.AggregatedMR || e.Claim != audit.ClaimNone || e.OnChain != audit.ChainAllowed || e.Verdict != audit.Unclaimed || e.Assurance != audit.Proven {
		t.Errorf("%+v", e)
	}
	if e.Changed == nil || e.Changed.Actor != testchain.Address("owner").Hex() || e.Changed.Time == nil {
		t.Errorf("who allowed it, and when, is not told: %+v", e.Changed)
	}
	w.want(audit.Policy{AggregatedMRs: []common.Hash{mr1}})
	if e := entry(t, w.auditor().says(audit.Consistent, ""), mr1.Hex()); e.Verdict != audit.Match {
		t.Errorf("%+v", e)
	}
	w.want(audit.Policy{AggregatedMRs: []common.Hash{mr2}})
	w.auditor().says(audit.Drift, "policy_denied_chain_allowed policy_allowed_chain_denied")
	// Without proofs and events the policy alone names it.
	w.verify = ethrpc.VerifyOff
	w.auditor().says(audit.Drift, "policy_allowed_chain_denied")
	w.want(audit.Policy{AggregatedMRs: []common.Hash{mr1}})
	if e := entry(t, w.auditor().says(audit.Consistent, ""), mr1.Hex()); e.Assurance != audit.Single {
		t.Errorf("%+v", e)
	}
}

// TestAMeasurementThatAProviderHides is not a change when another provider shows it.
func TestAMeasurementThatAProviderHides(t *testing.T) {
	w := watchedWorld(t)
	w.proxy.Set(rpcfault.Join(
		rpcfault.Refuse("eth_getProof", -32601, "the method eth_getProof does not exist/is not available"),
		rpcfault.Fault{Name: "no logs", Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
			if c.Method == "eth_getLogs" && a.Error == nil {
				a.Result = []byte("[]")
			}
		}}))
	a := w.auditor()
	if r := a.says(audit.Consistent, ""); r.Chains[0].Targets[0].Completeness != audit.EventsOnly || len(control(t, r).AggregatedMRs) != 0 {
		t.Fatalf("it is not hidden: %s", text(t, r))
	}
	w.proxy.Set(rpcfault.Fault{})
	b := w.auditor() // as after a restart
	b.prior = a.prior
	if r := b.says(audit.Consistent, ""); len(control(t, r).AggregatedMRs) != 1 {
		t.Errorf("it is hidden still: %s", text(t, r))
	}
	w.send("addKmsAggregatedMr", mr2)
	b.says(audit.Drift, "measurements_changed")
}

// lacking is the code of an implementation like another one, but for a getter, which reverts.
func lacking(like common.Address, getter string) string {
	code := rubbish(like)
	selector := func(getter string) string { return hex.EncodeToString(crypto.Keccak256([]byte(getter))[:4]) }
	code = strings.Replace(code, selector("gatewayAppId()"), selector(getter), 1)
	return strings.Replace(code, "5b60ff5f5360015ff3", "5b5f5ffd5b5b5b5b5b", 1)
}

// TestAContractWithoutMeasurements has two lists that are judged, and is unknown, proven or believed.
func TestAContractWithoutMeasurements(t *testing.T) {
	for name, verify := range map[string]ethrpc.Verify{"proven": ethrpc.VerifyAuto, "believed": ethrpc.VerifyOff} {
		t.Run(name, func(t *testing.T) {
			w := watchedWorld(t)
			a := w.auditor()
			a.says(audit.Consistent, "")
			is := control(t, a.result.Report)
			less := w.deploy(lacking(common.HexToAddress(is.Implementation), "kmsAllowedAggregatedMrs(bytes32)"))
			w.send("upgradeToAndCall", less, []byte{})
			w.verify = verify
			r := w.auditor().says(audit.Unknown, "")
			if !strings.Contains(text(t, r), "the contract does not answer kmsAllowedAggregatedMrs(bytes32)") {
				t.Errorf("the report does not say why: %s", text(t, r))
			}
			for _, id := range []common.Hash{dev1, dev2, img1, img2} {
				if e := entry(t, r, id.Hex()); e.Verdict != audit.Match {
					t.Errorf("%+v", e)
				}
			}
			w.send("removeKmsDevice", dev1)
			w.auditor().says(audit.Drift, "claim_allowed_chain_denied")
		})
	}
}

// TestTheOlderNameOfTheImplementationOfApps uses the getter of June 2025.
func TestTheOlderNameOfTheImplementationOfApps(t *testing.T) {
	for name, verify := range map[string]ethrpc.Verify{"proven": ethrpc.VerifyAuto, "believed": ethrpc.VerifyOff} {
		t.Run(name, func(t *testing.T) {
			w := may(t)
			w.intent.Baselines, w.verify = true, verify
			a := w.auditor()
			if is := control(t, a.says(audit.Consistent, "")).AppImplementation; is != (common.Address{1}).Hex() {
				t.Errorf("the implementation of apps is %q", is)
			}
			w.send("setAppAuthImplementation", common.Address{2})
			a.says(audit.Drift, "app_implementation_changed")
		})
	}
}
