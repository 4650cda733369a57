package observe_test

import (
	"testing"

	"github.com/kms-auditor/kms-auditor/audit"
)

// TestDriftIsConfirmedWhereTheProvidersFinalizedBlockIsBehind what the sync committee finalized.
func TestDriftIsConfirmedWhereTheProvidersFinalizedBlockIsBehind(t *testing.T) {
	w := newAnchoredWorld(t)
	must(t, w.kms.AllowDevice(t.Context(), dev2))
	w.mine(30)
	w.finalize(w.header("latest").Number.Uint64() - 2) // the node says 64
	w.says(audit.Drift, "claim_denied_chain_allowed")
}
