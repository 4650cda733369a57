package render_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/internal/render"
)

// TestWhatL1IsSaidToHold: block 0 is not said to be held where nothing was read.
func TestWhatL1IsSaidToHold(t *testing.T) {
	for want, l1 := range map[string]render.L1Status{
		"  SystemConfig 0xab: L1 holds no known block\n    the node is down\n":                            {Problems: []string{"the node is down"}},
		"  SystemConfig 0xab: L1 holds blocks up to 12 (l1_proposed)\n":                                   {Proposed: 12},
		"  SystemConfig 0xab: L1 holds blocks up to 12 (l1_proposed), and up to block 6 as l1_anchored\n": {Proposed: 12, Anchored: 6},
	} {
		l1.SystemConfig = "0xab"
		var b bytes.Buffer
		render.Anchors{Chains: []render.AnchorStatus{{Chain: "base", L1: &l1}}}.WriteText(&b, render.TextOptions{})
		if !strings.HasSuffix(b.String(), want) {
			t.Errorf("%+v is shown as\n%s", l1, &b)
		}
	}
}
