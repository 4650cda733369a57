package observe_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// unproven is a provider that serves no proofs.
var unproven = rpcfault.Refuse("eth_getProof", -32601, "the method eth_getProof does not exist")

// shaped is a world whose contract delegates calls in some way. swap makes it run other code.
type shaped struct {
	*world
	kms   *testchain.KMS
	swap  func() error
	roles string // of the code that runs
}

// shapes are the ways, each with a world of its own.
var shapes = map[string]func(*testing.T) *shaped{
	"ERC-1967": func(t *testing.T) *shaped {
		s := newShaped(t, "proxy implementation", func(ctx context.Context, w *world) (*testchain.KMS, func(context.Context, string) error, error) {
			k, err := w.chain.Deploy(ctx, testchain.DeployOptions{})
			return k, func(ctx context.Context, to string) error { _, err := k.Upgrade(ctx, to); return err }, err
		})
		return s
	},
	"a library": func(t *testing.T) *shaped {
		return helped(t, "setLibrary", "proxy implementation library", testchain.Library, false, true)
	},
}

func init() {
	for i, roles := range []string{"proxy implementation beacon", "proxy implementation", "proxy implementation", "proxy implementation implementation"} {
		shape := testchain.Shapes[i]
		shapes[shape.Name] = func(t *testing.T) *shaped {
			return newShaped(t, roles, func(ctx context.Context, w *world) (*testchain.KMS, func(context.Context, string) error, error) {
				return w.chain.DeployShape(ctx, shape, testchain.DeployOptions{})
			})
		}
	}
}

func newShaped(t *testing.T, roles string, deploy func(context.Context, *world) (*testchain.KMS, func(context.Context, string) error, error)) *shaped {
	t.Helper()
	w := provenWorld(t)
	w.intent.Baselines = true
	k, swap, err := deploy(t.Context(), w)
	must(t, err)
	s := &shaped{world: w, kms: k, roles: roles, swap: func() error { return swap(context.Background(), testchain.Backdoor) }}
	must(t, k.Seed(t.Context(), []common.Hash{dev1}, []common.Hash{img1}))
	w.contract(func(c *fakeapi.Contract) { c.Address = k.Address().Hex() })
	return s
}

// helped is a contract that asks another contract about devices. swap makes it ask a third one.
func helped(t *testing.T, setter, roles, helper string, first, then any) *shaped {
	t.Helper()
	s := newShaped(t, roles, func(ctx context.Context, w *world) (*testchain.KMS, func(context.Context, string) error, error) {
		k, err := w.chain.Deploy(ctx, testchain.DeployOptions{Implementation: testchain.Helped})
		if err != nil {
			return nil, nil, err
		}
		help := func(arg any) error {
			at, err := k.Create(ctx, helper, arg)
			if err != nil {
				return err
			}
			return k.SendTo(ctx, testchain.Helped, k.Address(), setter, at)
		}
		return k, func(context.Context, string) error { return help(then) }, help(first)
	})
	return s
}

// rolesOf lists the roles of the code that ran.
func rolesOf(c *audit.Control) string {
	var out []string
	for _, a := range c.Accounts {
		out = append(out, string(a.Role))
	}
	return strings.Join(out, " ")
}

// critical reports whether code_changed is found.
func critical(r *audit.Report) bool {
	return slices.ContainsFunc(r.Chains[0].Targets[0].Findings, func(f audit.Finding) bool {
		return (f.Kind == audit.CodeChanged || f.Kind == audit.ImplementationChanged) && f.Severity == audit.Critical && f.State == audit.Confirmed
	})
}

func TestASwapOfAnyCodeThatRunsIsCritical(t *testing.T) {
	for name, world := range shapes {
		t.Run(name, func(t *testing.T) {
			w := world(t)
			a := w.auditor()
			for range 2 {
				target := a.says(audit.Consistent, "").Chains[0].Targets[0]
				if got := rolesOf(target.Control); got != w.roles || !target.Control.Complete || target.Completeness != audit.Complete || target.Assurance != audit.Proven {
					t.Fatalf("%q, footprint %t, %s, %s\n%+v", got, target.Control.Complete, target.Assurance, target.Completeness, target.Reasons)
				}
			}
			before := w.proxy.Requests()
			if a.says(audit.Consistent, ""); w.proxy.Requests() != before+1 {
				t.Errorf("an unchanged audit takes %d round trips", w.proxy.Requests()-before)
			}
			must(t, w.kms.AllowDevice(t.Context(), dev2)) // one id more is no other code
			w.contract(func(c *fakeapi.Contract) { c.Devices[1].Allowed = &yes })
			a.says(audit.Consistent, "")
			must(t, w.swap())
			for range 2 {
				if r := a.audit(); !critical(r) || r.Verdict != audit.Drift {
					t.Errorf("swapped: %s with %q\n%s", r.Verdict, kindsOf(r), text(t, r))
				}
			}
			restarted := w.auditor() // with what was remembered
			restarted.prior = roundTrip(t, a.prior)
			if r := restarted.audit(); !critical(r) || r.Verdict != audit.Drift {
				t.Errorf("swapped and restarted: %s with %q\n%s", r.Verdict, kindsOf(r), text(t, r))
			}
		})
	}
}

// roundTrip encodes and decodes a Prior, as a state file does.
func roundTrip(t *testing.T, prior map[string]audit.Prior) (out map[string]audit.Prior) {
	t.Helper()
	b, err := json.Marshal(prior)
	must(t, err)
	must(t, json.Unmarshal(b, &out))
	return out
}

// TestNoAssuranceIsAChange: comparing baselines of different assurance makes no change, and reports
// what was not compared. A swap is found as soon as it is proven.
func TestNoAssuranceIsAChange(t *testing.T) {
	modes := map[string]func(*world){
		"proven":   func(w *world) { w.verify = ethrpc.VerifyAuto; w.proxy.Set(rpcfault.Fault{}) },
		"no proof": func(w *world) { w.verify = ethrpc.VerifyAuto; w.proxy.Set(unproven) },
		"off":      func(w *world) { w.verify = ethrpc.VerifyOff; w.proxy.Set(rpcfault.Fault{}) },
	}
	for name, world := range shapes {
		t.Run(name, func(t *testing.T) {
			w := world(t)
			audit1 := func(mode string, prior map[string]audit.Prior) (*audit.Report, map[string]audit.Prior) {
				modes[mode](w.world)
				a := w.auditor()
				if prior != nil {
					a.prior = roundTrip(t, prior)
				}
				return a.audit(), a.prior
			}
			var priors []map[string]audit.Prior
			for first := range modes {
				_, base := audit1(first, nil)
				for then := range modes {
					r, after := audit1(then, base)
					if r.Verdict == audit.Drift || kindsOf(r) != "" {
						t.Errorf("%s, then %s: %s with %q\n%s", first, then, r.Verdict, kindsOf(r), text(t, r))
					}
					// A proof completes the baseline, and what is proven of it stays.
					if known := after["test"].Contracts[0].Baseline.Control.Complete; known != (first == "proven" || then == "proven") {
						t.Errorf("%s, then %s: the baseline is complete: %t", first, then, known)
					}
					if first == "proven" && then != "proven" && r.Verdict == audit.Consistent && len(r.Chains[0].Targets[0].Control.Accounts) < len(base["test"].Contracts[0].Baseline.Control.Accounts) {
						t.Errorf("%s, then %s: consistent, though code that ran was not looked at", first, then)
					}
					if known := after["test"].Contracts[0].Baseline.Control.Complete; known {
						priors = append(priors, after)
					}
				}
			}
			must(t, w.swap())
			for _, prior := range priors {
				if r, _ := audit1("proven", prior); !critical(r) {
					t.Errorf("a swap that is proven: %s with %q\n%s", r.Verdict, kindsOf(r), text(t, r))
				}
				if r, _ := audit1("no proof", prior); r.Verdict == audit.Consistent {
					t.Errorf("a swap that is not proven: %s\n%s", r.Verdict, text(t, r))
				}
			}
		})
	}
}

// TestABaselineOfAnOlderRelease has no list of code. That is not a change, but a swap is.
func TestABaselineOfAnOlderRelease(t *testing.T) {
	for name, world := range shapes {
		t.Run(name, func(t *testing.T) {
			w := world(t)
			a := w.auditor()
			is := a.says(audit.Consistent, "").Chains[0].Targets[0].Control
			base := a.prior["test"].Contracts[0].Baseline
			old := footprint.Code{CodeHash: is.Accounts[0].CodeHash}
			if name != "ERC-1967" && name != "a library" && name != "a transparent proxy" {
				base.Control.Implementation = "" // those releases knew ERC-1967 alone
			} else {
				old.ImplementationCodeHash = is.In(footprint.Implementation)[0].CodeHash
			}
			base.Control.Code = old
			base.Control.Adopt(w.kms.Address().Hex(), base.Control.Implementation)
			r := a.says(audit.Consistent, "")
			if now := r.Chains[0].Targets[0].Baseline.Control; !now.Complete || rolesOf(&now) != w.roles || now.CodeHash != "" {
				t.Errorf("the baseline is %+v", now)
			}
			must(t, w.swap())
			if r := a.audit(); !critical(r) {
				t.Errorf("swapped: %q\n%s", kindsOf(r), text(t, r))
			}
		})
	}
}

func TestThePolicyOnCode(t *testing.T) {
	for name, world := range shapes {
		t.Run(name, func(t *testing.T) {
			w := world(t)
			w.intent.Baselines = false
			is := w.audit().Chains[0].Targets[0].Control
			var all []common.Hash
			for _, a := range is.Accounts {
				all = append(all, common.HexToHash(a.CodeHash))
			}
			runs, several := common.HexToHash(is.In(footprint.Implementation)[0].CodeHash), ""
			if len(is.In(footprint.Implementation)) > 1 {
				several = "code_changed" // one hash is not that of all
			}
			for _, row := range []struct {
				sentence string
				policy   audit.Policy
				kinds    string
			}{
				{"the code that runs", audit.Policy{CodeHash: &runs}, several},
				{"other code", audit.Policy{CodeHash: &dev1}, "code_changed"},
				{"all code that runs", audit.Policy{CodeHashes: all}, ""},
				{"all but one", audit.Policy{CodeHashes: all[1:]}, "code_changed"},
				{"one more", audit.Policy{CodeHashes: append(slices.Clip(all), dev1)}, "code_changed"},
			} {
				w.intent.Contracts = []audit.ContractIntent{{Address: w.kms.Address(), Policy: row.policy}}
				w.verify = ethrpc.VerifyAuto
				if r := w.audit(); kindsOf(r) != row.kinds {
					t.Errorf("%s: %q, want %q\n%s", row.sentence, kindsOf(r), row.kinds, text(t, r))
				}
				w.verify = ethrpc.VerifyOff
				if r := w.audit(); row.kinds == "" && kindsOf(r) != "" || row.kinds != "" && r.Verdict == audit.Consistent {
					t.Errorf("%s, believed: %s with %q\n%s", row.sentence, r.Verdict, kindsOf(r), text(t, r))
				}
			}
			w.intent.Contracts = []audit.ContractIntent{{Address: w.kms.Address(), Policy: audit.Policy{CodeHashes: all}}}
			w.verify = ethrpc.VerifyAuto
			must(t, w.swap())
			if r := w.audit(); !critical(r) {
				t.Errorf("swapped: %q\n%s", kindsOf(r), text(t, r))
			}
		})
	}
}

// TestARegistryOfAnother: where the devices are read from another contract, all of its storage has to be accounted for.
func TestARegistryOfAnother(t *testing.T) {
	w := provenWorld(t)
	w.intent.Baselines = true
	ctx := t.Context()
	k, err := w.chain.Deploy(ctx, testchain.DeployOptions{Implementation: testchain.Helped})
	must(t, err)
	registry, err := k.Create(ctx, testchain.Registry)
	must(t, err)
	must(t, k.SendTo(ctx, testchain.Helped, k.Address(), "setRegistry", registry))
	must(t, k.AllowImage(ctx, img1))
	set := func(id common.Hash, allowed bool) {
		must(t, k.SendTo(ctx, testchain.Registry, registry, "set", id, allowed))
	}
	set(dev1, true)
	w.contract(func(c *fakeapi.Contract) { c.Address = k.Address().Hex() })
	a := w.auditor()
	r := a.says(audit.Consistent, "")
	if target := r.Chains[0].Targets[0]; target.Completeness != audit.Complete || rolesOf(target.Control) != "proxy implementation other" {
		t.Errorf("%s, %s", target.Completeness, rolesOf(target.Control))
	}
	before := w.proxy.Requests()
	if a.says(audit.Consistent, ""); w.proxy.Requests() != before+1 {
		t.Errorf("an unchanged audit takes %d round trips", w.proxy.Requests()-before)
	}
	set(hidden, true) // nothing names it
	for range 2 {
		r = a.says(audit.Unknown, "")
		if target := r.Chains[0].Targets[0]; target.Completeness != audit.Incomplete || !strings.Contains(fmt.Sprint(target.Reasons), registry.Hex()) {
			t.Errorf("%s, %q", target.Completeness, target.Reasons)
		}
	}
	if r := w.audit(); r.Verdict != audit.Unknown {
		t.Errorf("first seen: %s", r.Verdict)
	}
	set(hidden, false)
	a.says(audit.Consistent, "")
}

// TestAGetterThatWritesIsUnknown although eth_call answers.
func TestAGetterThatWritesIsUnknown(t *testing.T) {
	for _, how := range []string{"SSTORE", "TSTORE", "LOG", "CREATE", "CREATE2", "SELFDESTRUCT", "value"} {
		for _, hides := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, with something hidden: %t", how, hides), func(t *testing.T) {
				w := provenWorld(t)
				ctx := t.Context()
				k, err := w.chain.Deploy(ctx, testchain.DeployOptions{Implementation: testchain.Writing})
				must(t, err)
				must(t, k.Seed(ctx, []common.Hash{dev1}, []common.Hash{img1}))
				w.contract(func(c *fakeapi.Contract) { c.Address = k.Address().Hex() })
				a := w.auditor()
				only := common.Hash{}
				if hides {
					only = hidden
					must(t, k.AllowDevice(ctx, hidden)) // in storage that no getter explains
				}
				must(t, k.SendTo(ctx, testchain.Writing, k.Address(), "setHow", how, only))
				r := a.says(audit.Unknown, "")
				if target := r.Chains[0].Targets[0]; target.Completeness == audit.Complete {
					t.Errorf("%s\n%s", target.Completeness, text(t, r))
				}
				w.proxy.Set(unproven)
				if r := w.audit(); r.Verdict != audit.Unknown || kindsOf(r) != "" {
					t.Errorf("without a proof: %s with %q\n%s", r.Verdict, kindsOf(r), text(t, r))
				}
			})
		}
	}
}

// TestCodeThatRunsForOneIDAlone is seen as soon as that id is asked for.
func TestCodeThatRunsForOneIDAlone(t *testing.T) {
	w := provenWorld(t)
	w.intent.Baselines = true
	helper := w.deploy("00")
	other := w.deploy("600435" + "80" + "7f" + dev2.Hex()[2:] + "14" + "15" + "604657" + // unless it is that one,
		"5f5f5f5f73" + fmt.Sprintf("%x", helper[:]) + "5afa50" + "5b" + // the helper is called;
		"545f5260205ff3") // answers what it stores at the id
	w.contract(func(c *fakeapi.Contract) {
		c.Address, c.Devices, c.OSImages = other.Hex(), []fakeapi.Device{{ID: dev1.Hex(), Allowed: &no}}, nil
	})
	a := w.auditor()
	if got := rolesOf(a.says(audit.Consistent, "").Chains[0].Targets[0].Control); got != "implementation" {
		t.Errorf("the code that runs is %q", got)
	}
	w.contract(func(c *fakeapi.Contract) {
		c.Devices = append(c.Devices, fakeapi.Device{ID: id("d3").Hex(), Allowed: &no})
	})
	a.says(audit.Consistent, "")
	w.contract(func(c *fakeapi.Contract) { c.Devices = append(c.Devices, fakeapi.Device{ID: dev2.Hex(), Allowed: &no}) })
	if got := rolesOf(a.says(audit.Drift, "code_changed").Chains[0].Targets[0].Control); got != "implementation other" {
		t.Errorf("the code that runs is %q", got)
	}
}
