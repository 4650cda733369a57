package observe_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// sendAll sends the transactions that an implementation supports, to fill everything that it stores besides the lists.
func (w *world) sendAll(implementation string) {
	w.t.Helper()
	a, err := testchain.Contract(implementation)
	must(w.t, err)
	for method, args := range map[string][]any{
		"addKmsAggregatedMr": {id("b1")}, "setGatewayAppId": {strings.Repeat("gateway", 10)},
		"setAppAuthImplementation": {common.Address{1}}, "setAppImplementation": {common.Address{1}},
	} {
		if _, has := a.ABI.Methods[method]; has {
			w.send(method, args...)
		}
	}
	if _, has := a.ABI.Methods["registerApp"]; has {
		w.send("registerApp", common.Address{2})
		_, err = w.kms.As(testchain.Key("stranger")).Send(w.t.Context(), "registerApp", common.Address{3})
		must(w.t, err)
		must(w.t, w.kms.RegisterThrough(w.t.Context(), common.Address{4}))
	}
}

func (w *world) upgrade(implementation string) {
	w.t.Helper()
	_, err := w.kms.Upgrade(w.t.Context(), implementation)
	must(w.t, err)
}

// TestWhatUpgradesLeftIsExplained upgrades from each generation through all newer ones, with an auditor that follows and with one
// that starts later.
func TestWhatUpgradesLeftIsExplained(t *testing.T) {
	for i, first := range testchain.Generations {
		t.Run(first, func(t *testing.T) {
			t.Parallel()
			w := generation(t, first)
			w.sendAll(first)
			a := w.auditor()
			a.says(audit.Consistent, "")
			for _, next := range testchain.Generations[i+1:] {
				w.upgrade(next)
				r := a.says(audit.Consistent, "")
				if target := r.Chains[0].Targets[0]; target.Completeness != audit.Complete {
					t.Errorf("after the upgrade to %s: %s", next, text(t, r))
				}
				before := w.proxy.Requests()
				if a.says(audit.Consistent, ""); w.proxy.Requests()-before != 1 {
					t.Errorf("an unchanged audit takes %d round trips", w.proxy.Requests()-before)
				}
				w.audited(audit.Consistent, "")
				w.send("registerApp", common.BytesToAddress([]byte(next)))
				a.says(audit.Consistent, "")
			}
			w.backdoor()
			w.upgrade(testchain.Generations[len(testchain.Generations)-1])
			a.says(audit.Drift, "storage_unaccounted")
			w.audited(audit.Drift, "storage_unaccounted")
		})
	}
}

// audited returns an audit without state.
func (w *world) audited(verdict audit.Verdict, kinds string) *audit.Report {
	w.t.Helper()
	return w.auditor().says(verdict, kinds)
}

func TestAContractOfBeforeMay2025(t *testing.T) {
	w := provenWorld(t)
	kms, err := w.chain.Deploy(t.Context(), testchain.DeployOptions{Implementation: testchain.Before})
	must(t, err)
	w.kms = kms
	w.contract(func(c *fakeapi.Contract) { c.Address = kms.Address().Hex() })
	w.send("registerKmsDeviceId", dev1)
	w.send("addAppImageMr", img1)
	w.sendAll(testchain.Before)
	w.audited(audit.Unknown, "")
	for _, next := range testchain.Generations {
		w.upgrade(next)
		w.audited(audit.Consistent, "")
	}
	w.backdoor()
	w.audited(audit.Drift, "storage_unaccounted")
}

// TestTheTwoDaysOfJuly2025: in them, the lists were one slot lower.
func TestTheTwoDaysOfJuly2025(t *testing.T) {
	fresh := func(t *testing.T) *world {
		w := generation(t, testchain.Shifted)
		w.sendAll(testchain.Shifted)
		w.audited(audit.Consistent, "")
		return w
	}
	t.Run("an entry is hidden", func(t *testing.T) {
		w := fresh(t)
		w.upgrade(testchain.Backdoor)
		must(t, w.kms.SneakDevice(t.Context(), hidden, true)) // at slot 7, where the images are then
		w.upgrade(testchain.Shifted)
		w.audited(audit.Drift, "storage_unaccounted")
	})
	t.Run("the lists stay where they are while an upgrade moves their getters", func(t *testing.T) {
		w := fresh(t)
		w.upgrade("Kms20250703") // trusts the image as a device, and the device as a measurement
		r := w.audited(audit.Drift, "storage_unaccounted claim_allowed_chain_denied claim_allowed_chain_denied")
		if r.Chains[0].Targets[0].Completeness != audit.Incomplete {
			t.Errorf("%s", text(t, r))
		}
	})
	t.Run("nothing was listed before the upgrade", func(t *testing.T) {
		w := provenWorld(t)
		kms, err := w.chain.Deploy(t.Context(), testchain.DeployOptions{Implementation: testchain.Shifted})
		must(t, err)
		w.kms = kms
		w.contract(func(c *fakeapi.Contract) { c.Address = kms.Address().Hex() })
		w.send("setAppAuthImplementation", common.Address{1})
		w.upgrade("Kms20250703")
		must(t, kms.AllowDevice(t.Context(), dev1))
		must(t, kms.AllowImage(t.Context(), img1))
		w.audited(audit.Consistent, "")
	})
}

// TestOlderCodeCannotHideAnEntry: the owner upgrades to code whose getters read the place of a hidden entry, and back.
func TestOlderCodeCannotHideAnEntry(t *testing.T) {
	owner := func(*world) common.Hash {
		owner := testchain.Address("owner")
		return common.BytesToHash(owner[:])
	}
	for sentence, row := range map[string]struct {
		method string
		id     func(*world) common.Hash
	}{
		"a device, by a getter without an argument":               {"hideDevice", func(*world) common.Hash { return crypto.Keccak256Hash([]byte("hidden")) }},
		"a device, by a getter of an address that is its id":      {"hideDevice", owner},
		"an image, by a getter of an address that is its id":      {"hideImage", owner},
		"a measurement, by a getter of an address that is its id": {"hideAggregatedMr", owner},
		"a device, by a getter of the zero address":               {"hideDevice", func(*world) common.Hash { return common.Hash{} }},
		"a device whose id is the address of a contract that registered it": {"hideDevice", func(w *world) common.Hash {
			must(w.t, w.kms.RegisterThrough(w.t.Context(), common.Address{7}))
			registrar := crypto.CreateAddress(testchain.Address("owner"), w.nonce()-2)
			return common.BytesToHash(registrar[:])
		}},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			w := generation(t, testchain.Plain)
			w.upgrade(testchain.Hostile)
			w.send("registerApp", common.Address{5})
			id := row.id(w)
			w.send(row.method, id)
			w.upgrade(testchain.Plain)
			a := w.auditor()
			found := "storage_unaccounted"
			if id == (common.Hash{}) {
				found = "unlisted_chain_allowed" // it is asked for in every audit
			}
			a.says(audit.Drift, found)
			a.says(audit.Drift, found)
		})
	}
}

func (w *world) nonce() uint64 {
	w.t.Helper()
	n, err := w.chain.Client().NonceAt(w.t.Context(), testchain.Address("owner"), nil)
	must(w.t, err)
	return n
}

// TestOlderCodeThatLoopsCostsNothingElse: only its own storage stays unexplained.
func TestOlderCodeThatLoopsCostsNothingElse(t *testing.T) {
	w := generation(t, "Kms20250521")
	w.sendAll("Kms20250521")
	w.upgrade(testchain.Hostile)
	w.upgrade(testchain.Plain)
	w.audited(audit.Consistent, "")
}

// TestWhoRegisteredBeforeAnUpgradeIsNotKnown: their storage is not explained, so the contract is unknown.
func TestWhoRegisteredBeforeAnUpgradeIsNotKnown(t *testing.T) {
	w := generation(t, "Kms20250617")
	w.sendAll("Kms20250617")
	w.upgrade("Kms20260531")
	w.send("registerApp", common.Address{5}) // is not counted any more
	w.proxy.Set(rpcfault.Refuse("eth_getTransactionByHash", -32601, "not available"))
	a := w.auditor()
	for range 2 {
		if r := a.says(audit.Unknown, ""); !strings.Contains(text(t, r), "it is not known who registered 3 of 3 apps") {
			t.Errorf("%s", text(t, r))
		}
	}
	w.proxy.Set(rpcfault.Fault{})
	a.says(audit.Consistent, "")
}

// TestMoreImplementationsThanAreLookedAt: unexplained storage may be theirs.
func TestMoreImplementationsThanAreLookedAt(t *testing.T) {
	w := generation(t, testchain.Plain)
	for range 33 {
		w.upgrade(testchain.Plain)
	}
	w.audited(audit.Consistent, "")
	w.backdoor()
	if r := w.audited(audit.Unknown, ""); !strings.Contains(text(t, r), "the contract had 35 implementations") {
		t.Errorf("%s", text(t, r))
	}
}

// inventing adds invented implementations to events.
type inventing struct {
	observe.Events
	codes []common.Address
}

func (e inventing) Named(contract common.Address) map[string][]common.Hash {
	named := maps.Clone(e.Events.Named(contract))
	for _, code := range e.codes {
		named[observe.Implementations] = append(slices.Clip(named[observe.Implementations]), common.BytesToHash(code[:]))
	}
	return named
}

// TestInventedImplementationsCostNothing: a provider invents an event that names code of its own making, beside an entry
// that is hidden at slot 8.
func TestInventedImplementationsCostNothing(t *testing.T) {
	place := crypto.Keccak256(hidden[:], common.BigToHash(big.NewInt(8)).Bytes())
	long := crypto.Keccak256(make([]byte, 32))
	end := new(big.Int).Add(new(big.Int).SetBytes(long), big.NewInt(3000))
	const returns = "5f5260205ff3"
	for sentence, code := range map[string]string{
		"many never end":                                "5b5f56",
		"it reads the place of the entry":               fmt.Sprintf("7f%x54"+returns, place),
		"it reads that beside what it may":              fmt.Sprintf("60055450"+"7f%x54"+returns, place),
		"it asks about another account":                 fmt.Sprintf("73%x31"+returns, hidden[12:]),
		"it stores":                                     "60015f55" + "60055f" + returns,
		"it never ends":                                 "5b5f56",
		"it reads thousands of slots":                   fmt.Sprintf("7f%x"+"5b"+"8054506001"+"01"+"807f%064x11602157"+"5f5ff3", long, end),
		"it is the contract, which asks itself forever": "",
		"there is no code":                              "00",
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			w := provenWorld(t)
			w.slow = strings.Contains(sentence, "never end") // the race detector makes code that runs ten times as slow
			w.backdoor()
			w.upgrade(testchain.Plain)
			codes := []common.Address{w.kms.Address()}
			switch code {
			case "":
			case "00":
				codes[0] = common.Address{1, 2, 3}
			default:
				codes[0] = w.deploy(code)
			}
			for sentence == "many never end" && len(codes) < 28 {
				codes = append(codes, w.deploy(code))
			}
			w.events = func(e observe.Events) observe.Events { return inventing{e, codes} }
			keys := 0
			w.proxy.Watch(func(c rpcfault.Call) {
				if c.Method == "eth_getProof" && strings.Contains(strings.ToLower(string(c.Params[0])), hidden.Hex()[26:]) {
					t.Errorf("%s of another account", c.Method)
				}
				var asked []common.Hash
				if c.Method == "eth_getProof" && json.Unmarshal(c.Params[1], &asked) == nil {
					keys += len(asked)
				}
			})
			r := w.audited(audit.Drift, "storage_unaccounted")
			if target := r.Chains[0].Targets[0]; target.Counts.Match != 4 || target.Assurance != audit.Proven {
				t.Errorf("%s", text(t, r))
			}
			if keys > 400 {
				t.Errorf("%d slots are asked for", keys)
			}
		})
	}
}

// TestUpgradesThatWereNotKnown: a provider kept the events back when they were read first, or an older release did not
// remember them. They are read anew in the same audit, and who registered apps is found then.
func TestUpgradesThatWereNotKnown(t *testing.T) {
	w := generation(t, testchain.Generations[0])
	w.sendAll(testchain.Generations[0])
	w.upgrade("Kms20260531")
	upgraded, scans := crypto.Keccak256Hash([]byte("Upgraded(address)")), 0
	w.proxy.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		var logs []types.Log
		if c.Method != "eth_getLogs" || json.Unmarshal(a.Result, &logs) != nil || len(logs) == 0 {
			return
		}
		if scans++; scans == 1 {
			logs = slices.DeleteFunc(logs, func(l types.Log) bool { return l.Topics[0] == upgraded })
			a.Result, _ = json.Marshal(logs)
		}
	}})
	if w.audited(audit.Consistent, ""); scans != 4 { // those of the owner and those of anybody, twice
		t.Errorf("events were read %d times", scans)
	}
}
