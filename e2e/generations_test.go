//go:build e2e

package e2e_test

import (
	"path/filepath"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// audited audits once and verifies the evidence without a network.
func (s *scene) audited(t *testing.T, exit int, want string) {
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

// TestAContractOfMay2025 checks that its storage of apps is explained, also by the evidence offline, and that hidden entries are
// found.
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
			s.audited(t, 0, "consistent "+wholly)
			_, err = kms.Upgrade(t.Context(), testchain.Backdoor)
			must(t, err)
			must(t, kms.SneakDevice(t.Context(), common.Hash{9}, true))
			_, err = kms.Upgrade(t.Context(), testchain.May)
			must(t, err)
			s.audited(t, 1, unaccounted)
		})
	}
}

// fill calls every writer of a generation's contract, and registers apps from three accounts.
func (s *scene) fill(t *testing.T, implementation string) {
	t.Helper()
	a, err := testchain.Contract(implementation)
	must(t, err)
	send := func(method string, args ...any) {
		if _, has := a.ABI.Methods[method]; has {
			_, err := s.kms.Send(t.Context(), method, args...)
			must(t, err)
		}
	}
	for _, id := range s.devices {
		send("addKmsDevice", id)
		send("registerKmsDeviceId", id)
	}
	for _, id := range s.images {
		send("addOsImageHash", id)
		send("addAppImageMr", id)
	}
	send("addKmsAggregatedMr", common.Hash{1})
	send("setGatewayAppId", "a text that is longer than one slot of the storage")
	send("setAppAuthImplementation", common.Address{1})
	send("setAppImplementation", common.Address{1})
	send("registerApp", common.Address{2})
	if _, has := a.ABI.Methods["registerApp"]; has {
		must(t, testchain.Fund(t.Context(), s.node.client, testchain.Address("stranger")))
		_, err = s.kms.As(testchain.Key("stranger")).Send(t.Context(), "registerApp", common.Address{3})
		must(t, err)
		must(t, s.kms.RegisterThrough(t.Context(), common.Address{4}))
	}
}

func (s *scene) upgrade(t *testing.T, implementation string) {
	t.Helper()
	_, err := s.kms.Upgrade(t.Context(), implementation)
	must(t, err)
}

// TestEveryGeneration checks that a contract's storage is explained as deployed and after each upgrade through the newer
// generations. A later write without an event is not explained.
func TestEveryGeneration(t *testing.T) {
	t.Parallel()
	for name := range nodes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startNode(t, name)
			s := &scene{node: n, api: startAPI(t), devices: ids("device", 2), images: ids("image", 1)}
			s.settings = n.settings(s.api)
			for first, newer := range map[string][]string{
				testchain.Before:         testchain.Generations,
				testchain.Generations[0]: testchain.Generations[1:],
				testchain.Generations[1]: testchain.Generations[2:],
				testchain.Shifted:        nil,
				testchain.Generations[2]: testchain.Generations[3:],
				testchain.Generations[3]: testchain.Generations[4:],
				testchain.Generations[4]: testchain.Generations[5:],
				testchain.Generations[5]: nil,
			} {
				t.Run(first, func(t *testing.T) { s.followUpgrades(t, first, newer) })
			}
			t.Run("older code hides nothing", func(t *testing.T) {
				s.deploy(t, testchain.Hostile)
				owner := testchain.Address("owner")
				for _, device := range []common.Hash{crypto.Keccak256Hash([]byte("hidden")), common.BytesToHash(owner[:])} {
					_, err := s.kms.Send(t.Context(), "hideDevice", device)
					must(t, err)
					s.upgrade(t, testchain.Plain)
					s.audited(t, 1, unaccounted)
					s.upgrade(t, testchain.Hostile)
				}
			})
		})
	}
}

const unaccounted = "drift proven incomplete storage_unaccounted"

// deploy deploys the scene's contract.
func (s *scene) deploy(t *testing.T, implementation string) {
	t.Helper()
	var err error
	s.kms, err = testchain.Deploy(t.Context(), s.node.client, testchain.DeployOptions{Implementation: implementation})
	must(t, err)
	s.fill(t, implementation)
	must(t, s.api.put(s.claim()))
}

func (s *scene) followUpgrades(t *testing.T, first string, newer []string) {
	s.deploy(t, first)
	if first == testchain.Before {
		s.audited(t, 3, "unknown proven incomplete")
	} else {
		s.audited(t, 0, "consistent "+wholly)
	}
	last := first
	for _, last = range newer {
		s.upgrade(t, last)
		s.audited(t, 0, "consistent "+wholly)
	}
	s.fill(t, last)
	s.audited(t, 0, "consistent "+wholly)
	s.upgrade(t, testchain.Backdoor)
	must(t, s.kms.SneakImage(t.Context(), common.Hash{9}, true))
	s.upgrade(t, last)
	s.audited(t, 1, unaccounted)
}
