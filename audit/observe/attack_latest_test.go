package observe_test

import (
	"testing"

	"github.com/kms-auditor/kms-auditor/audit"
)

// TestAFindingEndsByTheTrustThatTheConfigurationAllows: the newest block is never signed, so what was confirmed under finalized has
// to end under latest.
func TestAFindingEndsByTheTrustThatTheConfigurationAllows(t *testing.T) {
	w := newAnchoredWorld(t)
	must(t, w.kms.AllowDevice(t.Context(), dev2))
	w.mine(40)
	w.finalize(w.header("finalized").Number.Uint64())
	a := w.auditor()
	a.says(audit.Drift, "claim_denied_chain_allowed")
	must(t, w.kms.RemoveDevice(t.Context(), dev2))
	w.mine(40)
	w.finalize(w.header("finalized").Number.Uint64())
	w.tags = "latest"
	b := w.auditor()
	b.prior = a.prior
	b.says(audit.Consistent, "")
}

// TestAContradictionEndsUnderLatest too, once the provider is of the chain again.
func TestAContradictionEndsUnderLatest(t *testing.T) {
	w := newAnchoredWorld(t)
	w.finalize(64)
	w.tags = "latest"
	honest := w.rpc
	w.rpc = []string{w.serve(w.invented(68))}
	a := w.auditor()
	a.says(audit.Unknown, "block_contradicted")
	w.rpc = honest
	w.mine(10)
	b := w.auditor()
	b.prior = a.prior
	b.says(audit.Consistent, "")
}
