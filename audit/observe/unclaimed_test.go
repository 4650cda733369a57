package observe_test

import (
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
)

// TestAChainWithoutClaimsAsksNoAPI: the policy alone is compared with the chain, in both looks and at the head.
func TestAChainWithoutClaimsAsksNoAPI(t *testing.T) {
	w := newWorld(t)
	w.intent.NoClaims, w.intent.CrossChecks, w.intent.Discover = true, true, true
	w.tags, w.verify, w.intent.PendingMax, w.intent.Baselines = "latest-1", ethrpc.VerifyAuto, 1, true
	w.want(audit.Policy{Devices: []common.Hash{dev1}, OSImages: []common.Hash{img1}})
	a := w.auditor()
	a.says(audit.Consistent, "")
	must(t, w.kms.RemoveDevice(t.Context(), dev1))
	must(t, w.kms.AllowDevice(t.Context(), dev2))
	w.chain.Commit()
	r := a.says(audit.Drift, "policy_denied_chain_allowed policy_allowed_chain_denied")
	if n := w.api.Requests(); n != 0 || r.Chains[0].Claim != nil || r.Chains[0].Claims != audit.ClaimNone {
		t.Errorf("the API was asked %d times; claim %v, claims %q", n, r.Chains[0].Claim, r.Chains[0].Claims)
	}
	if e := entry(t, r, dev1.Hex()); e.Changed == nil {
		t.Errorf("who removed what the policy wants is not said: %+v", e)
	}
}
