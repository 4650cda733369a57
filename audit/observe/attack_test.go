package observe_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi/bind/v2"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// deploy deploys a contract with the given code, after running constructor code.
func (w *world) deploy(code string, constructor ...string) common.Address {
	w.t.Helper()
	runtime, does := common.FromHex(code), strings.Join(constructor, "")
	create := fmt.Appendf(nil, "%s61%04x8060%02x5f395ff3", does, len(runtime), 10+len(does)/2) // copies what follows, and returns it
	owner := bind.NewKeyedTransactor(testchain.Key("owner"), big.NewInt(chainID))
	at, _, err := bind.DeployContract(owner, append(common.FromHex(string(create)), runtime...), w.chain.Client(), nil)
	must(w.t, err)
	w.chain.Commit()
	return at
}

// list makes the API list another contract with an allowed device.
func (w *world) list(at common.Address) {
	w.api.Update("test", func(c *fakeapi.Chain) {
		c.Contracts = append(c.Contracts, fakeapi.Contract{
			Address: at.Hex(), ChainID: chainID, ChainName: "test", Devices: []fakeapi.Device{{ID: dev1.Hex(), Allowed: &yes}},
		})
	})
}

// of returns a contract's part of a report.
func of(t *testing.T, r *audit.Report, contract common.Address) *audit.Target {
	t.Helper()
	targets := r.Chains[0].Targets
	i := slices.IndexFunc(targets, func(g audit.Target) bool { return g.Contract == contract.Hex() })
	if i < 0 {
		t.Fatalf("%s is not in the report", contract)
	}
	return &targets[i]
}

func TestASecondContractCannotSilenceTheFirst(t *testing.T) {
	const returnsTrue = "60015f5260205ff3"
	for sentence, row := range map[string]struct {
		code     string
		answered bool // by eth_call, which nothing proves
	}{
		"its getter asks for the hash of a block":   {"600543034050" + returnsTrue, true},
		"its getter never ends":                     {"5b5f56", false},
		"its getter stores":                         {"60015f55" + returnsTrue, false},
		"its getter stores for the transaction":     {"60015f5d" + returnsTrue, false},
		"its getter logs":                           {"5f5fa0" + returnsTrue, false},
		"its getter fails":                          {"fe", false},
		"its getter answers less than a whole word": {"600160015ff3", false},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			w := provenWorld(t)
			w.slow = true
			enemy := w.deploy(row.code)
			w.list(enemy)
			must(t, w.kms.AllowDevice(t.Context(), dev2))
			a := w.auditor()
			for range 2 {
				r := a.audit()
				honest := of(t, r, w.kms.Address())
				if honest.Verdict != audit.Drift || honest.Assurance != audit.Proven || honest.Completeness != audit.Complete ||
					len(honest.Findings) != 1 || honest.Findings[0].Kind != audit.ClaimDeniedChainAllowed || honest.Findings[0].State != audit.Confirmed {
					t.Errorf("the honest contract: %s, %s, %s, %+v", honest.Verdict, honest.Assurance, honest.Completeness, honest.Findings)
				}
				other := of(t, r, enemy)
				if row.answered && (other.Assurance != audit.Single || other.Completeness == audit.Complete) || !row.answered && other.Verdict != audit.Unknown {
					t.Errorf("the other contract: %s, %s, %s\n%s", other.Verdict, other.Assurance, other.Completeness, text(t, r))
				}
			}
		})
	}
}

// silences are what an API may do so that nothing can be compared.
var silences = map[string]func(*world){
	"the API lists nothing":       func(w *world) { w.api.Update("test", func(c *fakeapi.Chain) { c.Contracts = nil }) },
	"the API is broken":           func(w *world) { w.api.Fail(fakeapi.Fault{Name: fakeapi.Status, Status: 500}) },
	"the API refuses the key":     func(w *world) { w.api.Fail(fakeapi.Fault{Name: fakeapi.Status, Status: 403}) },
	"the API talks of another":    func(w *world) { w.api.Fail(fakeapi.Fault{Name: fakeapi.WrongChainID}) },
	"the API lists somebody else": func(w *world) { w.contract(func(c *fakeapi.Contract) { c.Address = common.Address{0xaa}.Hex() }) },
}

func TestAnAPIThatSaysNothingHidesNoBreachOfThePolicy(t *testing.T) {
	for sentence, silence := range silences {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			w := provenWorld(t)
			w.want(audit.Policy{Owner: &common.Address{9}, Devices: []common.Hash{}})
			silence(w)
			a := w.auditor()
			for range 2 {
				r := a.audit()
				kinds := strings.Fields(kindsOf(r))
				if r.Verdict != audit.Drift || !slices.Contains(kinds, "owner_changed") || !slices.Contains(kinds, "policy_denied_chain_allowed") {
					t.Errorf("%s with %q", r.Verdict, kinds)
				}
			}
		})
	}
}

func TestAnAPIThatSaysNothingResolvesNothing(t *testing.T) {
	for sentence, silence := range silences {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			w := provenWorld(t)
			must(t, w.kms.AllowDevice(t.Context(), hidden))
			a := w.auditor()
			a.says(audit.Drift, "unlisted_chain_allowed")
			row := fakeapi.Chain{}
			w.api.Update("test", func(c *fakeapi.Chain) { row = *c; row.Contracts = slices.Clone(c.Contracts) })
			silence(w)
			for range 2 {
				r := a.audit()
				if n := strings.Count(kindsOf(r), "unlisted_chain_allowed"); r.Verdict == audit.Consistent || n == 0 {
					t.Errorf("%s with %q", r.Verdict, kindsOf(r))
				}
				for _, c := range a.result.Changes {
					if c.Type == audit.Resolved {
						t.Errorf("%s of %s is resolved", c.Finding.Kind, c.Finding.ID)
					}
				}
			}
			w.api.ClearFault()
			w.api.Set(row)
			must(t, w.kms.RemoveDevice(t.Context(), hidden))
			if r := a.audit(); of(t, r, w.kms.Address()).Verdict != audit.Consistent {
				t.Errorf("%s with %q after it was mended", r.Verdict, kindsOf(r))
			}
		})
	}
}

func TestAProviderThatStopsProvingResolvesNothing(t *testing.T) {
	w := provenWorld(t)
	must(t, w.kms.AllowDevice(t.Context(), hidden))
	a := w.auditor()
	a.says(audit.Drift, "unlisted_chain_allowed")
	denied := json.RawMessage(`"0x` + strings.Repeat("00", 32) + `"`)
	w.proxy.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, r *rpcfault.Answer) {
		switch {
		case c.Method == "eth_getProof":
			r.Result, r.Error = nil, &rpcfault.Error{Code: -32601, Message: "not on this plan"}
		case c.Method == "eth_call" && !rpcfault.ProbesBlockHash(c, r):
			r.Result, r.Error = denied, nil
		}
	}})
	w.chain.Commit()                       // of the block before, all is proven
	w.contract(func(c *fakeapi.Contract) { // as the provider has it
		c.Devices[0].Allowed, c.OSImages[0].Allowed = &no, &no
	})
	a.says(audit.Unknown, "(unlisted_chain_allowed)")
	restarted := w.auditor()
	restarted.prior = a.prior
	restarted.says(audit.Unknown, "(unlisted_chain_allowed)")
}

func TestAProviderThatGoesBackChangesNothing(t *testing.T) {
	w := provenWorld(t)
	before, err := w.chain.Client().BlockNumber(t.Context())
	must(t, err)
	must(t, w.kms.AllowDevice(t.Context(), hidden))
	for range 40 {
		w.chain.Commit()
	}
	a := w.auditor()
	a.says(audit.Drift, "unlisted_chain_allowed")
	w.proxy.Set(rpcfault.Fault{Ask: func(c *rpcfault.Call) {
		for i, p := range c.Params {
			if string(p) == `"latest"` {
				c.Params[i] = fmt.Appendf(nil, `"%s"`, hexutil.EncodeUint64(before))
			}
		}
	}})
	known := a.prior["test"].Blocks
	for range 2 {
		a.says(audit.Unknown, "(unlisted_chain_allowed) chain_went_back")
	}
	if now := a.prior["test"].Blocks; !slices.Equal(now, known) {
		t.Errorf("blocks %+v are remembered, want %+v", now, known)
	}
	w.proxy.Set(rpcfault.Fault{})
	a.says(audit.Drift, "unlisted_chain_allowed")
}

func TestAnAPIThatFlipsItsAnswerIsTold(t *testing.T) {
	w := provenWorld(t)
	a := w.auditor()
	a.says(audit.Consistent, "")
	for range 2 {
		w.api.Fail(fakeapi.Fault{Name: fakeapi.Replaced, Path: "contracts.0.devices.1.on_chain_allowed", Value: json.RawMessage("true"), Times: 1})
		a.says(audit.Consistent, "claim_unstable")
	}
	a.says(audit.Consistent, "")
	if c := a.result.Changes; len(c) != 1 || c[0].Type != audit.Resolved || c[0].Finding.ID != dev2.Hex() {
		t.Errorf("changes %+v", c)
	}
}

// rubbish is the code of an implementation like another one, but for its gatewayAppId(), which answers one byte.
func rubbish(like common.Address) string {
	selector := func(getter string) string { return hex.EncodeToString(crypto.Keccak256([]byte(getter))[:4]) }
	slot := new(big.Int).Sub(crypto.Keccak256Hash([]byte("eip1967.proxy.implementation")).Big(), common.Big1)
	return "5f3560e01c" +
		"8063" + selector("gatewayAppId()") + "14604657" +
		"8063" + selector("proxiableUUID()") + "14604f57" +
		"365f5f37" + "5f5f365f73" + hex.EncodeToString(like[:]) + "5af4" + "3d5f5f3e" + "604257" + "3d5ffd" +
		"5b3d5ff3" + // 0x42
		"5b60ff5f5360015ff3" + // 0x46
		"5b7f" + hex.EncodeToString(slot.Bytes()) + "5f5260205ff3" // 0x4f
}

func TestARubbishGatewayIDSwitchesNothingOff(t *testing.T) {
	w := provenWorld(t)
	w.intent.Baselines = true
	is := w.audit().Chains[0].Targets[0].Control
	spoiled := w.deploy(rubbish(common.HexToAddress(is.Implementation)))
	_, err := w.kms.Send(t.Context(), "upgradeToAndCall", spoiled, []byte{})
	must(t, err)
	r := w.auditor().says(audit.Consistent, "")
	if target := r.Chains[0].Targets[0]; target.Control.Implementation != spoiled.Hex() || target.Assurance != audit.Proven || target.Completeness != audit.Complete {
		t.Errorf("%+v, %s, %s", target.Control, target.Assurance, target.Completeness)
	}
	w.want(audit.Policy{Owner: &common.Address{9}, Implementation: &common.Address{9}, CodeHash: &common.Hash{9}})
	w.auditor().says(audit.Drift, "owner_changed implementation_changed code_changed")
}

func TestThreeHundredContractsOnAChain(t *testing.T) {
	var all []testchain.Preload
	for i := range 300 {
		all = append(all, testchain.Preload{Address: common.Address{0x30, byte(i >> 8), byte(i)}, Devices: []common.Hash{dev1}})
	}
	w := newWorld(t, all...)
	w.verify, w.slow = ethrpc.VerifyRequired, true
	for _, p := range all {
		w.list(p.Address)
	}
	must(t, w.chain.KMS(all[7].Address).RemoveDevice(context.Background(), dev1))
	a := w.auditor()
	for range 2 {
		r := a.says(audit.Drift, "claim_allowed_chain_denied")
		for _, p := range all {
			target, want := of(t, r, p.Address), audit.Consistent
			if p.Address == all[7].Address {
				want = audit.Drift
			}
			if target.Verdict != want || target.Assurance != audit.Proven || target.Completeness != audit.Complete {
				t.Fatalf("%s: %s, %s, %s: %v", p.Address, target.Verdict, target.Assurance, target.Completeness, target.Reasons)
			}
		}
	}
}

func TestAContractThatTheAPIStopsListingIsAuditedOn(t *testing.T) {
	w := provenWorld(t)
	other, err := w.chain.Deploy(t.Context(), testchain.DeployOptions{})
	must(t, err)
	must(t, other.AllowDevice(t.Context(), dev1))
	w.list(other.Address())
	a := w.auditor()
	a.says(audit.Consistent, "")
	w.api.Update("test", func(c *fakeapi.Chain) { c.Contracts = c.Contracts[:1] })
	a.says(audit.Drift, "unlisted_chain_allowed contract_not_listed")
	must(t, other.AllowDevice(t.Context(), hidden))
	r := a.says(audit.Drift, "unlisted_chain_allowed unlisted_chain_allowed contract_not_listed")
	if target := of(t, r, other.Address()); target.Verdict != audit.Drift || target.Assurance != audit.Proven || len(target.Findings) != 3 {
		t.Errorf("%s, %s, %+v", target.Verdict, target.Assurance, target.Findings)
	}
	must(t, other.RemoveDevice(t.Context(), hidden))
	w.list(other.Address())
	a.says(audit.Consistent, "")
}

// TestNothingIsDeployedAtThePinnedBlock: an agreement at the head is no comparison, whatever its assurance.
func TestNothingIsDeployedAtThePinnedBlock(t *testing.T) {
	for name, verify := range map[string]ethrpc.Verify{"believed": ethrpc.VerifyOff, "proven": ethrpc.VerifyAuto, "proof required": ethrpc.VerifyRequired} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.verify, w.tags, w.intent.PendingMax = verify, "latest-30", time.Hour
			for range 40 {
				w.chain.Commit()
			}
			kms, err := w.chain.Deploy(t.Context(), testchain.DeployOptions{})
			must(t, err)
			must(t, kms.Seed(t.Context(), []common.Hash{dev1}, []common.Hash{img1}))
			w.contract(func(c *fakeapi.Contract) { c.Address = kms.Address().Hex() })
			a := w.auditor()
			if r := a.says(audit.Unknown, ""); r.Chains[0].Targets[0].Counts.Pending != 4 {
				t.Errorf("want four pending entries, of which none was compared\n%s", text(t, r))
			}
			must(t, kms.RemoveImage(t.Context(), img1)) // one differs at the head, and nothing is finished
			a.says(audit.Unknown, "")
			for range 30 {
				w.chain.Commit()
			}
			a.says(audit.Drift, "claim_allowed_chain_denied")
		})
	}
}

func TestALieAboutOneContractIsToldOfThatOne(t *testing.T) {
	w := provenWorld(t)
	other := w.deploy("60043554" + "5f5260205ff3") // answers what it stores at the id
	w.list(other)
	about := func(c rpcfault.Call) bool {
		return c.Method == "eth_getProof" && strings.Contains(strings.ToLower(string(c.Params[0])), strings.ToLower(other.Hex()[2:]))
	}
	lie := rpcfault.LieInProofs(7)
	w.proxy.Set(rpcfault.Fault{Name: "a lie about one", Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if about(c) {
			lie.Reply(c, a)
		}
	}})
	r := w.audit()
	if honest := of(t, r, w.kms.Address()); honest.Verdict != audit.Consistent || len(honest.Findings) > 0 {
		t.Errorf("the honest contract: %s, %+v", honest.Verdict, honest.Findings)
	}
	if lied := of(t, r, other); lied.Verdict != audit.Unknown || len(lied.Findings) != 1 || lied.Findings[0].Kind != audit.ProofInvalid {
		t.Errorf("the other contract: %s, %+v\n%s", lied.Verdict, lied.Findings, text(t, r))
	}
}
