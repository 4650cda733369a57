package render

import (
	"bytes"
	"fmt"
	"time"
)

// Anchors is the state of each chain's light client, as docs/anchor.md describes it. Lists are never null.
type Anchors struct {
	Chains []AnchorStatus `json:"chains"`
}

// AnchorStatus is the state of the light client of one chain, or of its L1.
type AnchorStatus struct {
	Chain      string         `json:"chain"`
	L1         *L1Status      `json:"l1,omitempty"` // nil: the chain has a sync committee of its own
	Network    string         `json:"network"`
	Checkpoint string         `json:"checkpoint"`           // as configured
	Remembered string         `json:"remembered,omitempty"` // the newest root that an audit verified; the next audit starts there
	Required   string         `json:"required"`
	Endpoints  []EndpointHead `json:"endpoints"`
}

// L1Status is what L1 holds of a chain's blocks.
type L1Status struct {
	Chain        string   `json:"chain"`
	SystemConfig string   `json:"system_config"`
	Proposed     uint64   `json:"l1_proposed,omitempty"` // the newest block that L1 holds; 0: none
	Anchored     uint64   `json:"l1_anchored,omitempty"` // the newest that it anchored
	Problems     []string `json:"problems"`
}

// EndpointHead is what one endpoint proved, or why it did not.
type EndpointHead struct {
	Name      string     `json:"name"`
	Finalized uint64     `json:"finalized,omitempty"` // number of the execution block; 0: nothing is proven
	Hash      string     `json:"hash,omitempty"`
	Time      *time.Time `json:"time,omitempty"`
	Start     string     `json:"start,omitempty"` // the root that the proof starts at
	Error     string     `json:"error,omitempty"`
}

// WriteText shows a part for each chain.
func (a Anchors) WriteText(b *bytes.Buffer, opt TextOptions) {
	t := text{b, opt, 12}
	if len(a.Chains) == 0 {
		t.printf("no chain has an anchor: see https://github.com/kms-auditor/kms-auditor/blob/main/docs/anchor.md\n")
	}
	for _, c := range a.Chains {
		t.printf("%s: %s\n", Plain(c.Chain), Plain(c.Network))
		list(b, opt, "  ", [][2]string{{"checkpoint", c.Checkpoint}, {"remembered", c.Remembered}, {"required", c.Required}})
		for _, e := range c.Endpoints {
			state := "nothing is proven"
			if e.Time != nil {
				state = fmt.Sprintf("block %d, %s, of %s is final", e.Finalized, e.Hash, when(e.Time))
			}
			t.printf("  %s: %s%s\n", Plain(e.Name), state, after("; ", Plain(e.Error)))
		}
		if l := c.L1; l != nil {
			holds := "L1 holds no known block"
			if l.Proposed > 0 {
				holds = fmt.Sprintf("L1 holds blocks up to %d (l1_proposed)", l.Proposed)
			}
			if l.Anchored > 0 {
				holds += fmt.Sprintf(", and up to block %d as l1_anchored", l.Anchored)
			}
			t.printf("  SystemConfig %s: %s\n", l.SystemConfig, holds)
			for _, p := range l.Problems {
				t.printf("    %s\n", Plain(p))
			}
		}
	}
}
