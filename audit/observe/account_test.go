package observe_test

import (
	"context"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

var hidden = id("ee")

// provenWorld is a world whose contract was deployed by transactions, so that it has an event for every entry.
func provenWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	kms, err := w.chain.Deploy(t.Context(), testchain.DeployOptions{})
	must(t, err)
	must(t, kms.Seed(t.Context(), []common.Hash{dev1}, []common.Hash{img1}))
	w.kms = kms
	w.contract(func(c *fakeapi.Contract) { c.Address = kms.Address().Hex() })
	w.verify = ethrpc.VerifyAuto
	return w
}

func (w *world) backdoor() {
	_, err := w.kms.Upgrade(context.Background(), testchain.Backdoor)
	must(w.t, err)
	must(w.t, w.kms.SneakImage(context.Background(), hidden, true))
}

func TestNothingCanHide(t *testing.T) {
	noProof := rpcfault.Refuse("eth_getProof", -32601, "the method eth_getProof does not exist/is not available")
	noLogs := rpcfault.Fault{Name: "no logs", Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if c.Method == "eth_getLogs" && a.Error == nil {
			a.Result = []byte("[]")
		}
	}}
	for _, tt := range []struct {
		sentence     string
		change       func(*world)
		verdict      audit.Verdict
		kinds        string
		assurance    audit.Assurance
		completeness audit.Completeness
	}{
		{"all is proven, and nothing else is stored", func(*world) {}, audit.Consistent, "", audit.Proven, audit.Complete},
		{"the contract trusts a device that the API does not list", func(w *world) {
			must(w.t, w.kms.AllowDevice(context.Background(), hidden))
		}, audit.Drift, "unlisted_chain_allowed", audit.Proven, audit.Complete},
		{"a device was trusted once, and is no more", func(w *world) {
			must(w.t, w.kms.AllowDevice(context.Background(), hidden))
			must(w.t, w.kms.RemoveDevice(context.Background(), hidden))
		}, audit.Consistent, "", audit.Proven, audit.Complete},
		{"an app is registered, by anyone", func(w *world) {
			_, err := w.kms.As(testchain.Key("stranger")).Send(context.Background(), "registerApp", common.Address{1})
			must(w.t, err)
		}, audit.Consistent, "", audit.Proven, audit.Complete},
		{"an image is trusted without an event", (*world).backdoor, audit.Drift, "storage_unaccounted", audit.Proven, audit.Incomplete},
		{"the lists move, and leave what they were behind", func(w *world) {
			_, err := w.kms.Upgrade(context.Background(), testchain.Moved)
			must(w.t, err)
			must(w.t, w.kms.Seed(context.Background(), []common.Hash{dev1}, []common.Hash{img1}))
		}, audit.Drift, "storage_unaccounted", audit.Proven, audit.Incomplete},
		{"the provider hides every log of a hidden device", func(w *world) {
			must(w.t, w.kms.AllowDevice(context.Background(), hidden))
			w.proxy.Set(noLogs)
		}, audit.Drift, "storage_unaccounted", audit.Proven, audit.Incomplete},
		{"the provider cannot prove, but tells of events", func(w *world) {
			must(w.t, w.kms.AllowDevice(context.Background(), hidden))
			w.proxy.Set(noProof)
		}, audit.Drift, "unlisted_chain_allowed", audit.Single, audit.EventsOnly},
		{"the provider neither proves nor tells of events", func(w *world) {
			w.proxy.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
				if c.Method == "eth_getProof" || c.Method == "eth_getLogs" {
					a.Result, a.Error = nil, &rpcfault.Error{Code: -32601, Message: "not on this plan"}
				}
			}})
		}, audit.Consistent, "", audit.Single, audit.Incomplete},
		{"the storage holds more than is known, and the events cannot be had", func(w *world) {
			must(w.t, w.kms.AllowDevice(context.Background(), hidden))
			w.proxy.Set(rpcfault.Refuse("eth_getLogs", -32601, "not on this plan"))
		}, audit.Unknown, "", audit.Proven, audit.Incomplete},
		{"proof is required, and cannot be had", func(w *world) {
			w.verify = ethrpc.VerifyRequired
			w.proxy.Set(noProof)
		}, audit.Unknown, "", "", audit.Unchecked},
		{"the provider lies in a call", func(w *world) {
			w.proxy.Set(rpcfault.Result("true", `"0x`+strings.Repeat("00", 31)+`01"`))
		}, audit.Unknown, "getter_disagrees_with_proof", "", audit.Unchecked},
		{"the provider lies in code", func(w *world) {
			w.proxy.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
				if c.Method == "eth_getCode" {
					a.Result = []byte(`"0x6001"`)
				}
			}})
		}, audit.Unknown, "proof_invalid", "", audit.Unchecked},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			w := provenWorld(t)
			tt.change(w)
			r := w.audit()
			target := r.Chains[0].Targets[0]
			if r.Verdict != tt.verdict || kindsOf(r) != tt.kinds || target.Assurance != tt.assurance || target.Completeness != tt.completeness {
				t.Errorf("%s with %q, assurance %q, completeness %q; want %s with %q, %q, %q\n%s", r.Verdict, kindsOf(r),
					target.Assurance, target.Completeness, tt.verdict, tt.kinds, tt.assurance, tt.completeness, text(t, r))
			}
		})
	}
}

func TestExplainedSlots(t *testing.T) {
	w := provenWorld(t)
	w.backdoor()
	slot := common.HexToHash("0x" + strings.Repeat("00", 31) + "08")
	place := crypto.Keccak256Hash(hidden[:], slot[:])
	w.want(audit.Policy{})
	w.intent.Contracts[0].Explained = []audit.ExplainedSlot{{Slot: place, Reason: "left by the migration of May"}}
	r := w.audit()
	if r.Verdict != audit.Consistent || r.Chains[0].Targets[0].Completeness != audit.Complete || !strings.Contains(text(t, r), "left by the migration of May") {
		t.Errorf("%s, want consistent, and the reason told\n%s", r.Verdict, text(t, r))
	}
}

func TestWhenAndByWhom(t *testing.T) {
	w := provenWorld(t)
	w.eager = true
	e := entry(t, w.audit(), dev1.Hex())
	if e.Changed == nil || e.Changed.Actor != testchain.Address("owner").Hex() || e.Changed.Time == nil || e.Changed.Block == 0 {
		t.Errorf("changed %+v, want the block, its time and the owner", e.Changed)
	}
}

func TestTheBackDoorOpensWhileTheDaemonRuns(t *testing.T) {
	w := provenWorld(t)
	w.eager = true
	a := w.auditor()
	if r := a.audit(); r.Verdict != audit.Consistent {
		t.Fatalf("%s at first", r.Verdict)
	}
	before := w.proxy.Requests()
	if r := a.audit(); r.Verdict != audit.Consistent || w.proxy.Requests()-before != 1 {
		t.Errorf("%s in %d round trips, want consistent in one: nothing changed", r.Verdict, w.proxy.Requests()-before)
	}
	w.backdoor()
	if r := a.audit(); r.Verdict != audit.Drift || kindsOf(r) != "storage_unaccounted" {
		t.Errorf("%s with %q, want the back door", r.Verdict, kindsOf(r))
	}
	must(t, w.kms.SneakImage(t.Context(), hidden, false))
	if r := a.audit(); r.Verdict != audit.Consistent {
		t.Errorf("%s after the back door was shut\n%s", r.Verdict, text(t, r))
	}
}

func TestEventsThatAreOnlyForShowAreNotAskedForInEveryAudit(t *testing.T) {
	w := provenWorld(t)
	w.eager = true
	w.proxy.Set(rpcfault.Refuse("eth_getLogs", -32601, "not on this plan"))
	a := w.auditor()
	for i, failures := range []int{1, 0, 0} {
		r := a.audit()
		if r.Verdict != audit.Consistent || len(r.Chains[0].Errors) != failures {
			t.Errorf("audit %d: %s with errors %+v, want consistent and %d errors", i, r.Verdict, r.Chains[0].Errors, failures)
		}
	}
}

// TestAContractWithoutTheListsIsUnknown, whatever it stores: its storage layout is unknown.
func TestAContractWithoutTheListsIsUnknown(t *testing.T) {
	for sentence, row := range map[string]struct {
		code   string
		claims bool
	}{
		"every call reverts, and the API claims nothing":       {"5f5ffd", false},
		"every call reverts, and the API claims something":     {"5f5ffd", true},
		"every call returns nothing, and the API claims less":  {"00", false},
		"every call writes, and the API claims nothing":        {"60015f5560015f5260205ff3", false},
		"a call returns two words, and the API claims nothing": {"60405ff3", false},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := provenWorld(t)
			other := w.deploy(row.code, "602a600755") // which stores something
			w.contract(func(c *fakeapi.Contract) {
				if c.Address = other.Hex(); !row.claims {
					c.Devices, c.OSImages = nil, nil
				}
			})
			r := w.audit()
			if target := of(t, r, other); target.Verdict != audit.Unknown || len(target.Findings) > 0 || !strings.Contains(text(t, r), "kmsAllowedDeviceIds(bytes32)") {
				t.Errorf("%s", text(t, r))
			}
		})
	}
}
