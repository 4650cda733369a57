package metrics_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/metrics"
)

var ofL1 = (&audit.Intent{L1: &audit.L1Intent{}}).Trusts()

// TestAnAnchorThatNeverBegan has timestamp 0, even if no block was read, so that its alert fires.
func TestAnAnchorThatNeverBegan(t *testing.T) {
	reg, m := fresh()
	m.Configure([]metrics.Chain{{Name: "base"}})
	r := report(consistent())
	r.Chains[0].Block, r.Chains[0].Trusts = nil, (&audit.Intent{Anchored: true}).Trusts()
	m.Report(r)
	if got := series(t, reg, "anchored_block_timestamp_seconds"); len(got) != 1 || !strings.HasSuffix(got[0], " 0") {
		t.Errorf("%q", got)
	}
}

// TestWhatL1Holds has a series for each trust. An anchored block counts as proposed as well.
func TestWhatL1Holds(t *testing.T) {
	reg, m := fresh()
	m.Configure([]metrics.Chain{{Name: "base"}})
	at := func(seconds int64, trust audit.Trust) *audit.Anchored {
		return &audit.Anchored{Time: time.Unix(seconds, 0), Trust: trust}
	}
	for _, row := range []struct{ newest, anchored *audit.Anchored }{
		{nil, nil}, {at(70, audit.TrustL1Proposed), nil}, {at(70, audit.TrustL1Proposed), at(50, audit.TrustL1Anchored)}, {at(90, audit.TrustL1Anchored), at(90, audit.TrustL1Anchored)},
	} {
		r := report(consistent())
		r.Chains[0].Anchored, r.Chains[0].L1Anchored, r.Chains[0].Trusts = row.newest, row.anchored, ofL1
		m.Report(r)
		want := [2]float64{}
		if row.newest != nil {
			want[1] = float64(row.newest.Time.Unix())
		}
		if row.anchored != nil {
			want[0] = float64(row.anchored.Time.Unix())
		}
		got := series(t, reg, "anchored_block_timestamp_seconds")
		if len(got) != 2 || !strings.HasSuffix(got[0], fmt.Sprintf(`trust="l1_anchored"} %g`, want[0])) || !strings.HasSuffix(got[1], fmt.Sprintf(`trust="l1_proposed"} %g`, want[1])) {
			t.Errorf("%q, want %v", got, want)
		}
	}
}

// TestOneReportOfAnL2 knows which trusts there may be, before L1 holds any block.
func TestOneReportOfAnL2(t *testing.T) {
	r := report(consistent())
	r.Chains[0].Trusts = ofL1
	var b bytes.Buffer
	if err := metrics.Write(&b, r, metrics.Build{}); err != nil {
		t.Fatal(err)
	}
	for trust, want := range map[audit.Trust]bool{audit.TrustL1Proposed: true, audit.TrustL1Anchored: true, audit.TrustConsensus: false} {
		if has := strings.Contains(b.String(), fmt.Sprintf("trust=%q} 0", trust)); has != want {
			t.Errorf("a series of %s: %t", trust, has)
		}
	}
}
