package observe_test

import (
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// TestAppsThatCannotBeReadCostCompletenessAlone: anybody registers so many apps that a provider fails at them.
func TestAppsThatCannotBeReadCostCompletenessAlone(t *testing.T) {
	w := generation(t, testchain.Backdoor)
	for first := range int64(15) {
		w.send("registerApps", big.NewInt(first<<32), big.NewInt(100))
	}
	// The node answers no call about more than a few hundred apps, and no proof of as many slots, in time.
	w.proxy.Set(rpcfault.Fault{HTTP: func(_ http.ResponseWriter, r *http.Request, calls []rpcfault.Call, _ bool) bool {
		late := slices.ContainsFunc(calls, func(c rpcfault.Call) bool {
			return (c.Method == "eth_call" || c.Method == "eth_getProof") && len(c.Params[0])+len(c.Params[1]) > 12_000
		})
		if late {
			<-r.Context().Done()
		}
		return late
	}})
	a := w.auditor()
	for range 2 {
		r := a.says(audit.Consistent, "")
		if target := r.Chains[0].Targets[0]; target.Completeness != audit.Incomplete || !strings.Contains(target.Incomplete, "1500 apps that they name could not be read") {
			t.Errorf("%s: %s", target.Completeness, target.Incomplete)
		}
	}
	must(t, w.kms.AllowDevice(t.Context(), hidden))
	a.says(audit.Drift, "unlisted_chain_allowed")
	w.proxy.Set(rpcfault.Fault{})
	if r := w.audit(); r.Chains[0].Targets[0].Completeness != audit.Complete {
		t.Errorf("with a provider that answers: %s", text(t, r))
	}
}

// TestAProviderThatFailsOnceDoesNotHideAppsForAnHour: apps are put off only where the contract can be read without them.
func TestAProviderThatFailsOnceDoesNotHideAppsForAnHour(t *testing.T) {
	w := generation(t, testchain.Backdoor)
	for first := range int64(12) {
		w.send("registerApps", big.NewInt(first<<32), big.NewInt(100))
	}
	a := w.auditor()
	a.says(audit.Consistent, "")
	must(t, w.kms.SneakDevice(t.Context(), hidden, true))
	pinned := false // the provider is gone once the block is pinned
	w.proxy.Set(rpcfault.Fault{HTTP: func(rw http.ResponseWriter, _ *http.Request, calls []rpcfault.Call, _ bool) bool {
		if pinned = pinned || calls[0].Method == "eth_chainId"; pinned && calls[0].Method != "eth_chainId" {
			rw.WriteHeader(http.StatusBadGateway)
			return true
		}
		return false
	}})
	a.says(audit.Unknown, "")
	w.proxy.Set(rpcfault.Fault{})
	a.says(audit.Drift, "storage_unaccounted")
}

// TestOneAppRegisteredOverAndOverTakesNoRoom: the memory limit counts apps, not events.
func TestOneAppRegisteredOverAndOverTakesNoRoom(t *testing.T) {
	w := generation(t, testchain.Plain)
	w.apps = 10
	must(t, w.kms.As(testchain.Key("stranger")).Flood(t.Context(), common.Address{9}, 50))
	if target := w.audit().Chains[0].Targets[0]; target.Completeness != audit.Complete {
		t.Errorf("%s: %s", target.Completeness, target.Incomplete)
	}
}
