package render_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

const (
	owner = "0x52908400098527886E0F7030069857D2E4169EE7"
	heir  = "0x8617E340B3D01FA5F11F306F4090FD50E238070D"
	runs  = "0xde709f2102306220921060314715629080e2fb77"
)

// governed is a contract with a policy, an owner that is leaving, and differences that the operator lives with.
func governed() *audit.Report {
	r := drift()
	t := &r.Chains[0].Targets[0]
	t.Control = &audit.Control{Owner: owner, PendingOwner: heir, Implementation: runs,
		Code: footprint.Code{Complete: true, Accounts: []footprint.Account{
			{Address: contract, Role: footprint.Proxy, CodeHash: "0x" + strings.Repeat("c0", 32)},
			{Address: runs, Role: footprint.Implementation, CodeHash: "0x" + strings.Repeat("c1", 32)},
		}},
		KMSPubkeys: []string{"02ab", "30cd"}, GatewayAppID: "0xAb", AppImplementation: runs,
		Read: []string{"kms_pubkeys", "gateway_app_id", "app_implementation", "aggregated_mrs"}}
	t.Baseline = &audit.Baseline{Control: *t.Control, Since: noon.Add(-48 * time.Hour), Accepted: true}
	t.Entries[0].Policy, t.Entries[3].Policy, t.Entries[4].Policy = audit.PolicyAllowed, audit.PolicyDenied, audit.PolicyDenied
	t.Entries[2].Policy = audit.PolicyAllowed
	t.Accepted = append(t.Accepted, audit.Acceptance{Kind: audit.OwnerChanged, Message: "the owner is another", Reason: "the new multisig", Expires: until})
	t.Findings = append(t.Findings,
		finding(audit.PolicyDeniedAllowed, audit.OSImage, allowed, "the policy refuses it, the contract allows it", nil),
		finding(audit.NoHash, audit.OSImage, "", "image dstack-dev-0.5.1 is listed without a hash", nil),
		finding(audit.NoCode, "", "", "nothing is deployed here", nil))
	return r
}

func TestTheAcceptBlockIsYAMLThatSaysWhatTheFindingsSay(t *testing.T) {
	type row struct{ Chain, Contract, Kind, List, ID, Reason, Expires string }
	odd := governed()
	odd.Chains[0].Chain = "b\"}\n- # x\x1b[2J: ü\u202e"
	odd.Chains[0].Targets[0].Findings = odd.Chains[0].Targets[0].Findings[1:2]
	gone := consistent()
	gone.Chains[0].Targets[0].Findings = []audit.Finding{finding(audit.NoCode, "", "", "", nil), finding(audit.OwnerChanged, "", "", "", nil)}
	const day = "2026-12-01"
	for _, tt := range []struct {
		name   string
		report *audit.Report
		want   []row
	}{
		{"each finding has a row, and those of one name share it", governed(), []row{
			{"base", contract, "policy_denied_chain_allowed", "os_image", allowed, "", day},
			{"base", contract, "claim_allowed_chain_denied", "os_image", refused, "", day},
			{"base", contract, "malformed_id", "device", `"64a0"…`, "", day},
			{"base", contract, "no_hash", "os_image", "", "", day},
		}},
		{"what cannot be accepted is not offered", gone, []row{{"base", contract, "owner_changed", "", "", "", day}}},
		{"foreign text stays in its quotes", odd, []row{{odd.Chains[0].Chain, contract, "malformed_id", "device", `"64a0"…`, "", day}}},
		{"without findings there is no block", consistent(), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, block, _ := strings.Cut(text(t, tt.report, render.TextOptions{}), "\naccept:\n")
			block, _, _ = strings.Cut(block, "\n\n")
			var got []row
			if err := yaml.Unmarshal([]byte(block), &got); block != "" && err != nil {
				t.Fatalf("%v in\n%s", err, block)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
