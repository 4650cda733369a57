//go:build e2e

package e2e_test

import (
	"path/filepath"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// audited audits once, and has the evidence verified where there is no network.
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
			s.audited(t, 0, "consistent "+wholly)
			_, err = kms.Upgrade(t.Context(), testchain.Backdoor)
			must(t, err)
			must(t, kms.SneakDevice(t.Context(), common.Hash{9}, true))
			_, err = kms.Upgrade(t.Context(), testchain.May)
			must(t, err)
			s.audited(t, 1, "drift proven incomplete storage_unaccounted")
		})
	}
}

// fill sends a contract of a generation all that it takes, and has three accounts register apps.
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

// TestEveryGeneration: as it was deployed, and after each upgrade through the newer ones, all is explained. What is then
// written without an event is not.
func TestEveryGeneration(t *testing.T) {
	t.Parallel()
	const hidden = "drift proven incomplete storage_unaccounted"
	n := startNode(t, "geth")
	s := &scene{node: n, api: startAPI(t), devices: ids("device", 2), images: ids("image", 1)}
	s.settings = n.settings(s.api)
	for first, row := range map[string]struct {
		then   string // what an audit of it says
		upward []string
	}{
		testchain.Before:         {"unknown proven incomplete", testchain.Generations},
		testchain.Generations[0]: {"consistent " + wholly, testchain.Generations[1:]},
		testchain.Generations[1]: {"consistent " + wholly, testchain.Generations[2:]},
		testchain.Shifted:        {"consistent " + wholly, nil},
		testchain.Generations[2]: {"consistent " + wholly, testchain.Generations[3:]},
		testchain.Generations[3]: {"consistent " + wholly, testchain.Generations[4:]},
		testchain.Generations[4]: {"consistent " + wholly, testchain.Generations[5:]},
		testchain.Generations[5]: {"consistent " + wholly, nil},
	} {
		t.Run(first, func(t *testing.T) {
			var err error
			s.kms, err = testchain.Deploy(t.Context(), n.client, testchain.DeployOptions{Implementation: first})
			must(t, err)
			s.fill(t, first)
			must(t, s.api.put(s.claim()))
			exit, last := 0, first
			if first == testchain.Before {
				exit = 3
			}
			s.audited(t, exit, row.then)
			for _, last = range row.upward {
				s.upgrade(t, last)
				s.audited(t, 0, "consistent "+wholly)
			}
			s.fill(t, last)
			s.audited(t, 0, "consistent "+wholly)
			s.upgrade(t, testchain.Backdoor)
			must(t, s.kms.SneakImage(t.Context(), common.Hash{9}, true))
			s.upgrade(t, last)
			s.audited(t, 1, hidden)
		})
	}
}
