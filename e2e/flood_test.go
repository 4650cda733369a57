//go:build e2e

package e2e_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// servesFew is a provider that serves at most 5,000 logs or 16 MiB, as many do.
var servesFew = rpcfault.Fault{Name: "few logs", Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
	var logs []json.RawMessage
	if c.Method == "eth_getLogs" && json.Unmarshal(a.Result, &logs) == nil && len(logs) > 5000 {
		rpcfault.Refuse("eth_getLogs", -32005, "query returned more than 5000 results").Reply(c, a)
	}
	if len(a.Result) > 16<<20 {
		rpcfault.Refuse(c.Method, -32008, "response size exceeded").Reply(c, a)
	}
}}

// TestAFloodOfRegistrations has a stranger who registers one app so often in one block that no provider serves its logs. The next
// audit must still find the device that the owner allows next, and report what the flood costs.
func TestAFloodOfRegistrations(t *testing.T) {
	t.Parallel()
	args := append(slices.Clone(nodes["anvil"].args), "--cache-path", t.TempDir(), "--gas-limit", "300000000")
	n := dialNode(t, "anvil", args)
	must(t, testchain.Fund(t.Context(), n.client, testchain.Address("owner")))
	must(t, testchain.Fund(t.Context(), n.client, testchain.Address("stranger")))
	for sentence, row := range map[string]struct {
		logs    int
		refused string
	}{
		"10,001 logs": {10_001, ""},
		"10,001 logs, and the receipts are served one by one": {10_001, "eth_getBlockReceipts"},
		"40,000 logs": {40_000, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			s := sceneOn(t, n, 2, 1)
			fault := servesFew
			if row.refused != "" {
				fault = rpcfault.Join(servesFew, rpcfault.Refuse(row.refused, -32601, "no such method"))
			}
			s.proxy.Set(fault)
			c := s.node.settings(s.api)
			c.State, c.Chains[0].Providers[0].Timeout = filepath.Join(t.TempDir(), "state"), "20s"
			config := writeConfig(t, c)
			audited := func(exit int, want string) audit.Target {
				t.Helper()
				code, out, errs := runAuditor(t, "audit", "--once", "-o", "json", "-c", config)
				target := decodeReport(t, out).Chains[0].Targets[0]
				if code != exit || !strings.HasPrefix(found(target), want) {
					t.Fatalf("exit code %d, %s, want %d, %s\n%s\n%s", code, found(target), exit, want, out, errs)
				}
				return target
			}
			audited(0, "consistent "+wholly)
			must(t, s.kms.As(testchain.Key("stranger")).Flood(t.Context(), common.BytesToAddress([]byte(t.Name())), row.logs))
			must(t, s.kms.AllowDevice(t.Context(), common.Hash{9}))
			target := audited(1, "drift proven ")
			t.Logf("%s; %s", found(target), target.Incomplete)
			if !strings.HasSuffix(found(target), " unlisted_chain_allowed") || (target.Completeness != audit.Complete) != (target.Incomplete != "") {
				t.Errorf("%s; incomplete: %s", found(target), target.Incomplete)
			}
		})
	}
}
