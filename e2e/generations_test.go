//go:build e2e

package e2e_test

import (
	"path/filepath"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// TestAContractOfMay2025: what it stores of apps is explained, and its evidence says so offline. What is hidden in it is found.
func TestAContractOfMay2025(t *testing.T) {
	t.Parallel()
	for name := range nodes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startNode(t, name)
			kms, err := testchain.Deploy(t.Context(), n.client, testchain.DeployOptions{Implementation: testchain.May})
			must(t, err)
			s := &scene{node: n, api: startAPI(t), kms: kms, devices: ids("device", 2), images: ids("image", 1)}
			must(t, kms.Seed(t.Context(), s.devices, s.images))
			for method, value := range map[string]any{"addKmsAggregatedMr": common.Hash{1}, "setAppAuthImplementation": common.Address{1}, "registerApp": common.Address{2}} {
				_, err := kms.Send(t.Context(), method, value)
				must(t, err)
			}
			must(t, kms.RegisterThrough(t.Context(), common.Address{3}))
			must(t, s.api.put(s.claim()))
			s.settings = n.settings(s.api)
			audited := func(exit int, want string) {
				t.Helper()
				file := filepath.Join(t.TempDir(), "evidence.json")
				code, out, errs := runAuditor(t, "audit", "--once", "-o", "json", "--evidence", file, "-c", writeConfig(t, s.settings))
				if got := found(decodeReport(t, out).Chains[0].Targets[0]); code != exit || got != want {
					t.Errorf("exit code %d, %s, want %d, %s\n%s\n%s", code, got, exit, want, out, errs)
				}
				if code, out, errs := runAuditorIn(t, offline(), nil, "verify", file); code != exit {
					t.Errorf("verify exits with %d, want %d\n%s%s", code, exit, out, errs)
				}
			}
			audited(0, "consistent "+wholly)
			_, err = kms.Upgrade(t.Context(), testchain.Backdoor)
			must(t, err)
			must(t, kms.SneakDevice(t.Context(), common.Hash{9}, true))
			_, err = kms.Upgrade(t.Context(), testchain.May)
			must(t, err)
			audited(1, "drift proven incomplete storage_unaccounted")
		})
	}
}
