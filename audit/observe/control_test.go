package observe_test

import (
	"context"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// TestWhoControlsTheContract changes the owner and code of a contract, with and without proofs.
func TestWhoControlsTheContract(t *testing.T) {
	for name, verify := range map[string]ethrpc.Verify{"proven": ethrpc.VerifyAuto, "believed": ethrpc.VerifyOff} {
		t.Run(name, func(t *testing.T) {
			w := provenWorld(t)
			w.verify = verify
			w.intent.Baselines = true
			ctx := context.Background()
			heir := testchain.Key("stranger")
			var first common.Address
			a := w.auditor()
			known := func() *audit.Baseline { return a.prior["test"].Contracts[0].Baseline }
			for _, row := range []struct {
				sentence string
				change   func()
				kinds    string
			}{
				{"seen for the first time", func() {}, ""},
				{"nothing changed", func() {}, ""},
				{"ownership is offered, which is shown before it happens", func() {
					_, err := w.kms.Send(ctx, "transferOwnership", testchain.Address("stranger"))
					must(t, err)
				}, ""},
				{"ownership is taken", func() {
					_, err := w.kms.As(heir).Send(ctx, "acceptOwnership")
					must(t, err)
				}, "owner_changed"},
				{"it is still another owner's", func() {}, "owner_changed"},
				{"it is given back", func() { must(t, w.kms.As(heir).TransferOwnership(ctx, testchain.Key("owner"))) }, ""},
				{"it is upgraded", func() {
					first = common.HexToAddress(known().Control.Implementation)
					_, err := w.kms.Upgrade(ctx, testchain.Backdoor)
					must(t, err)
				}, "implementation_changed"},
				{"the upgrade is taken back", func() {
					_, err := w.kms.Send(ctx, "upgradeToAndCall", first, []byte{})
					must(t, err)
				}, ""},
				{"it is upgraded for good, and the operator accepts that", func() {
					_, err := w.kms.Upgrade(ctx, testchain.Backdoor)
					must(t, err)
					r := a.audit()
					*known() = audit.Baseline{Control: *r.Chains[0].Targets[0].Control, Accepted: true}
				}, ""},
			} {
				row.change()
				r := a.audit()
				if got := kindsOf(r); got != row.kinds || (r.Verdict == audit.Drift) != (row.kinds != "") {
					t.Fatalf("%s: %s with %q, want %q\n%s", row.sentence, r.Verdict, got, row.kinds, text(t, r))
				}
				target := r.Chains[0].Targets[0]
				if target.Control == nil || target.Baseline == nil || len(target.Control.In(footprint.Implementation)) != 1 || target.Control.Complete != (verify != ethrpc.VerifyOff) {
					t.Fatalf("%s: control %+v against %+v", row.sentence, target.Control, target.Baseline)
				}
				if offered := strings.Contains(row.sentence, "offered"); (target.Control.PendingOwner == testchain.Address("stranger").Hex()) != offered {
					t.Errorf("%s: it is offered to %q", row.sentence, target.Control.PendingOwner)
				}
			}
		})
	}
}

// TestABaselineThatIsAcceptedShowsAtOnce, although nothing on the chain changed.
func TestABaselineThatIsAcceptedShowsAtOnce(t *testing.T) {
	w := provenWorld(t)
	w.eager = true
	w.intent.Baselines = true
	a := w.auditor()
	for range 3 {
		a.audit()
	}
	a.prior["test"].Contracts[0].Baseline.Accepted = true
	if r := a.audit(); !r.Chains[0].Targets[0].Baseline.Accepted {
		t.Error("the report shows the baseline as it was before")
	}
}

func TestControlIsHeldAgainstThePolicyFirst(t *testing.T) {
	w := provenWorld(t)
	w.intent.Baselines = true
	is := *w.audit().Chains[0].Targets[0].Control
	stranger, code := common.Address{9}, common.Hash{9}
	owner, impl, runs := common.HexToAddress(is.Owner), common.HexToAddress(is.Implementation), common.HexToHash(is.In(footprint.Implementation)[0].CodeHash)
	for _, row := range []struct {
		sentence string
		policy   audit.Policy
		kinds    string
	}{
		{"as the policy says", audit.Policy{Owner: &owner, Implementation: &impl, CodeHash: &runs}, ""},
		{"another owner", audit.Policy{Owner: &stranger}, "owner_changed"},
		{"another implementation", audit.Policy{Implementation: &stranger}, "implementation_changed"},
		{"other code", audit.Policy{CodeHash: &code}, "code_changed"},
	} {
		w.want(row.policy)
		if r := w.audit(); kindsOf(r) != row.kinds {
			t.Errorf("%s: %q, want %q\n%s", row.sentence, kindsOf(r), row.kinds, text(t, r))
		}
	}
}

func TestControlThatCannotBeReadIsUnknown(t *testing.T) {
	w := newWorld(t)
	w.intent.Baselines = true
	w.proxy.Set(rpcfault.Refuse("eth_getStorageAt", -32601, "the method eth_getStorageAt does not exist/is not available"))
	r := w.audit()
	if r.Verdict != audit.Unknown || !strings.Contains(text(t, r), "the implementation could not be read") {
		t.Errorf("%s\n%s", r.Verdict, text(t, r))
	}
}

// TestNoAnswerIsNoChangeOfHands: a provider that does not answer, or answers that calls revert, makes no drift.
func TestNoAnswerIsNoChangeOfHands(t *testing.T) {
	for sentence, spoil := range map[string]func(*rpcfault.Answer){
		"no bytes": func(a *rpcfault.Answer) { a.Result = []byte(`"0x"`) },
		"a revert": func(a *rpcfault.Answer) {
			a.Result, a.Error = nil, &rpcfault.Error{Code: 3, Message: "execution reverted"}
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := provenWorld(t)
			w.verify = ethrpc.VerifyOff
			w.intent.Baselines = true
			a := w.auditor()
			a.says(audit.Consistent, "")
			owner := "0x" + hex.EncodeToString(crypto.Keccak256([]byte("owner()"))[:4])
			w.proxy.Set(rpcfault.Fault{Name: sentence, Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
				if c.Method == "eth_call" && a.Error == nil && strings.Contains(string(c.Params[0]), owner) {
					spoil(a)
				}
			}})
			a.says(audit.Unknown, "")
		})
	}
}

func TestPolicy(t *testing.T) {
	other := common.Hash{0x77}
	for _, row := range []struct {
		sentence string
		policy   audit.Policy
		change   func(*world)
		verdict  audit.Verdict
		kinds    string
		id       common.Hash
		state    audit.PolicyState
	}{
		{"nothing is said", audit.Policy{}, nil, audit.Consistent, "", dev1, ""},
		{"all is as it is wanted", audit.Policy{Devices: []common.Hash{dev1}, OSImages: []common.Hash{img1}}, nil, audit.Consistent, "", dev1, audit.PolicyAllowed},
		{"a device is denied as it is wanted", audit.Policy{Devices: []common.Hash{dev1}}, nil, audit.Consistent, "", dev2, audit.PolicyDenied},
		{"a device is allowed that is not wanted", audit.Policy{Devices: []common.Hash{}}, nil, audit.Drift, "policy_denied_chain_allowed", dev1, audit.PolicyDenied},
		{"an image is wanted that is refused", audit.Policy{OSImages: []common.Hash{img1, img2}}, nil, audit.Drift, "policy_allowed_chain_denied", img2, audit.PolicyAllowed},
		{"an image is wanted that nobody lists", audit.Policy{OSImages: []common.Hash{img1, other}}, nil, audit.Drift, "policy_allowed_chain_denied", other, audit.PolicyAllowed},
		{"a wanted device is allowed that the API does not list", audit.Policy{Devices: []common.Hash{dev1, hidden}}, func(w *world) {
			must(t, w.kms.AllowDevice(context.Background(), hidden))
		}, audit.Drift, "unlisted_chain_allowed", hidden, audit.PolicyAllowed},
		{"a device is allowed that neither the API lists nor the policy wants", audit.Policy{Devices: []common.Hash{dev1}}, func(w *world) {
			must(t, w.kms.AllowDevice(context.Background(), hidden))
		}, audit.Drift, "unlisted_chain_allowed policy_denied_chain_allowed", hidden, audit.PolicyDenied},
		{"the API cannot tell, and the policy is not met", audit.Policy{Devices: []common.Hash{}}, func(w *world) {
			w.contract(func(c *fakeapi.Contract) { c.Devices[0].Allowed = nil })
		}, audit.Drift, "policy_denied_chain_allowed claim_unknown", dev1, audit.PolicyDenied},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			w := provenWorld(t)
			w.want(row.policy)
			if row.change != nil {
				row.change(w)
			}
			r := w.audit()
			if r.Verdict != row.verdict || kindsOf(r) != row.kinds {
				t.Errorf("%s with %q, want %s with %q\n%s", r.Verdict, kindsOf(r), row.verdict, row.kinds, text(t, r))
			}
			if e := entry(t, r, row.id.Hex()); e.Policy != row.state {
				t.Errorf("policy %q, want %q", e.Policy, row.state)
			}
		})
	}
}

// TestPolicyAtTheHead: a difference that is gone at the newest block is pending.
func TestPolicyAtTheHead(t *testing.T) {
	w := provenWorld(t)
	w.tags, w.intent.PendingMax = "latest-1", 1e12
	w.contract(func(c *fakeapi.Contract) { c.OSImages[1].Allowed = &yes })
	w.want(audit.Policy{OSImages: []common.Hash{img1, img2}})
	must(t, w.kms.AllowImage(t.Context(), img2))
	if r := w.audit(); r.Verdict != audit.Consistent || entry(t, r, img2.Hex()).Verdict != audit.Pending {
		t.Errorf("%s\n%s", r.Verdict, text(t, r))
	}
}

func TestCrossChecks(t *testing.T) {
	text256 := func(b string) *string { s := "0x" + strings.Repeat(b, 33); return &s }
	stranger := common.Address{0x55}.Hex()
	for _, row := range []struct {
		sentence string
		change   func(*world)
		version  string
		verdict  audit.Verdict
		kinds    string
	}{
		{"all agree", func(*world) {}, "", audit.Consistent, ""},
		{"the list does not name the contract", func(w *world) {
			w.api.UpdateKMS(func(k *[]fakeapi.KMS) { *k = (*k)[:1] })
		}, "", audit.Drift, "kms_contract_mismatch"},
		{"the list names one more contract", func(w *world) {
			w.api.UpdateKMS(func(k *[]fakeapi.KMS) {
				more := (*k)[1]
				more.ID, more.Contract = "kc_more", stranger
				*k = append(*k, more)
			})
		}, "", audit.Drift, "kms_contract_mismatch"},
		{"the list names a contract of another chain", func(w *world) {
			w.api.UpdateKMS(func(k *[]fakeapi.KMS) {
				more := (*k)[1]
				more.ID, more.Contract, more.ChainID = "kc_more", stranger, 1
				*k = append(*k, more)
			})
		}, "", audit.Consistent, ""},
		{"the gateway's id is another", func(w *world) {
			_, err := w.kms.Send(context.Background(), "setGatewayAppId", "0xAB")
			must(t, err)
			w.api.UpdateKMS(func(k *[]fakeapi.KMS) { id := "cd"; (*k)[1].GatewayAppID = &id })
		}, "2026-05-22", audit.Drift, "gateway_app_id_mismatch"},
		{"the gateway's id is spelled otherwise", func(w *world) {
			_, err := w.kms.Send(context.Background(), "setGatewayAppId", "0xAB")
			must(t, err)
			w.api.UpdateKMS(func(k *[]fakeapi.KMS) { id := "ab"; (*k)[1].GatewayAppID = &id })
		}, "2026-05-22", audit.Consistent, ""},
		{"the public keys are others", func(w *world) {
			w.contract(func(c *fakeapi.Contract) { c.K256Pubkey, c.CAPubkey = text256("ab"), text256("cd") })
		}, "", audit.Drift, "kms_pubkey_mismatch kms_pubkey_mismatch"},
		{"the list cannot be read", func(w *world) {
			w.api.Fail(fakeapi.Fault{Name: fakeapi.Status, Status: 404, Endpoint: fakeapi.List})
		}, "", audit.Unknown, ""},
		{"a page of the list is missing", func(w *world) {
			w.api.UpdateKMS(func(k *[]fakeapi.KMS) {
				for i := range 150 {
					more := (*k)[0]
					more.ID = "off-" + hex.EncodeToString([]byte{byte(i)})
					*k = append(*k, more)
				}
				for i := range 120 {
					more := (*k)[1]
					more.ID = "on-" + hex.EncodeToString([]byte{byte(i)})
					*k = append(*k, more)
				}
			})
			w.api.Fail(fakeapi.Fault{Name: fakeapi.Status, Status: 404, Endpoint: fakeapi.List, Page: 2})
		}, "", audit.Unknown, ""},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			w := provenWorld(t)
			w.intent.CrossChecks, w.version = true, row.version
			row.change(w)
			r := w.audit()
			if r.Verdict != row.verdict || kindsOf(r) != row.kinds {
				t.Errorf("%s with %q, want %s with %q\n%s", r.Verdict, kindsOf(r), row.verdict, row.kinds, text(t, r))
			}
		})
	}
}

func TestAChainThatIsDiscovered(t *testing.T) {
	w := provenWorld(t)
	w.intent.CrossChecks = true
	w.intent.Discover = true
	if r := w.audit(); len(r.Chains) != 1 || r.Verdict != audit.Consistent {
		t.Errorf("%s with %d chains", r.Verdict, len(r.Chains))
	}
	w.api.UpdateKMS(func(k *[]fakeapi.KMS) { *k = (*k)[:1] })
	w.api.Update("test", func(c *fakeapi.Chain) { c.Contracts = nil })
	if r := w.audit(); len(r.Chains) != 0 || r.Verdict != audit.Unknown {
		t.Errorf("%s with %d chains, though the API names no KMS there", r.Verdict, len(r.Chains))
	}
}
