package observe_test

import (
	"testing"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// TestAProviderThatHidesWhatIsFinal is refused though its own block follows it: what follows may be invented.
func TestAProviderThatHidesWhatIsFinal(t *testing.T) {
	w := newAnchoredWorld(t)
	w.mine(40) // the node says 96
	w.finalize(64)
	w.proxy.Set(rpcfault.Null("eth_getBlockByHash"))
	r := w.says(audit.Unknown, "")
	if trustOf(r) != "" {
		t.Error(text(t, r))
	}
	w.rpc = append(w.rpc, w.serve(rpcfault.New(w.chain.URL())))
	if r := w.says(audit.Consistent, ""); trustOf(r) != audit.TrustConsensus {
		t.Error(text(t, r))
	}
}
