package config_test

import (
	"fmt"
	"testing"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/config"
)

// TestRequiredOfL1: a word may be quoted, a truth value may not.
func TestRequiredOfL1(t *testing.T) {
	const text = `chains:
  - name: base
    chain_id: 8453
    block: finalized
    providers: [{name: a, url: https://rpc.example}]
    anchor: {l1: ethereum, system_config: "0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C", required: %s}
  - name: ethereum
    chain_id: 1
    claims: none
    providers: [{name: a, url: https://rpc.example}]
    anchor: {beacon: [{name: a, url: https://beacon.example}], checkpoint: "0xabababababababababababababababababababababababababababababababab"}
`
	for required, want := range map[string]audit.Trust{
		"false": "", "False": "", "proposed": audit.TrustL1Proposed, `"proposed"`: audit.TrustL1Proposed, "'anchored'": audit.TrustL1Anchored, "anchored": audit.TrustL1Anchored,
		"true": "refused", `"false"`: "refused", "Proposed": "refused", "[proposed]": "refused", "consensus": "refused", "l1_proposed": "refused", `""`: "refused",
	} {
		cfg, err := config.Parse(fmt.Appendf(nil, text, required), badEnv)
		if (err != nil) != (want == "refused") || err == nil && (len(cfg.Chains) != 1 || cfg.Chains[0].Anchor.Required != config.Required(want)) {
			t.Errorf("required: %s gives %+v, %v, want %q", required, cfg, err, want)
		}
	}
}
