package metrics_test

import (
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/metrics"
)

// TestAnAnchorThatNeverBegan is as old as can be, also where no block is read without it: else its alert is silent.
func TestAnAnchorThatNeverBegan(t *testing.T) {
	reg, m := fresh()
	m.Configure([]metrics.Chain{{Name: "base", Anchor: metrics.Consensus}})
	r := report(consistent())
	r.Chains[0].Block = nil
	m.Report(r)
	if got := series(t, reg, "anchored_block_timestamp_seconds"); len(got) != 1 || !strings.HasSuffix(got[0], " 0") {
		t.Errorf("%q", got)
	}
}
