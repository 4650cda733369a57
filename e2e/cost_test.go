//go:build e2e

package e2e_test

import (
	"crypto/sha3"
	"fmt"
	"slices"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// TestWhatAnAuditCosts counts HTTP requests; docs/performance.md promises these numbers. For an audit of the daemon without
// changes see TestWhatAnAuditOfTheDaemonCosts.
func TestWhatAnAuditCosts(t *testing.T) {
	n := startNode(t, "anvil")
	k := n.deploy(t)
	a := startAPI(t)
	must(t, k.Seed(t.Context(), ids("device", 10), ids("image", 30)))
	must(t, wrap("mining", n.client.Client().CallContext(t.Context(), nil, "anvil_mine", 100))) // finalized is 64 blocks behind
	for _, row := range []struct {
		sentence        string
		devices, images int
		block           any
		batch           int
		verify          string
		want            int
	}{
		{"all is proven: one round trip to pin, two for what the contract's code reads", 10, 30, "latest", 100, "auto", 3},
		{"the same of a contract that the configuration names", 10, 30, "named", 100, "auto", 2},
		{"the same at the finalized block", 10, 30, "finalized", 100, "auto", 3},
		{"the same behind the head, which must be known first", 10, 30, "latest-5", 100, "auto", 4},
		{"1,000 entries in batches of 100, all proven, and compared with what calls answer", 400, 600, "latest", 100, "auto", 3},
		{"1,000 entries in batches of 1,000, all proven, and compared with what calls answer", 400, 600, "latest", 1000, "auto", 3},
		{"1,000 entries of a contract that the configuration names", 400, 600, "named", 100, "auto", 2},
		{"nothing is verified: 10 devices and 30 images: one round trip to pin, one to read, one for the implementation's code", 10, 30, "latest", 100, "off", 3},
		{"the same at the finalized block", 10, 30, "finalized", 100, "off", 3},
		{"the same behind the head, which must be known first", 10, 30, "latest-5", 100, "off", 4},
		{"the same in batches of 10: one to pin, six for 51 calls", 10, 30, "latest", 10, "off", 7},
		{"1,000 entries in batches of 100: no more than 1,000/100 + 2", 400, 600, "latest", 100, "off", 12},
		{"1,000 entries in batches of 1,000: no more than 1,000/1,000 + 2", 400, 600, "latest", 1000, "off", 3},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			var devices []fakeapi.Device
			for i, id := range ids("device", row.devices) {
				devices = append(devices, fakeapi.Device{ID: id.Hex(), Allowed: new(i < 10)})
			}
			var images []fakeapi.OSImage
			for i, id := range ids("image", row.images) {
				images = append(images, fakeapi.OSImage{Name: "dstack", Version: fmt.Sprint(i), Hash: new(id.Hex()), Allowed: new(i < 30)})
			}
			must(t, a.put(n.claim(k.Address(), devices, images)))
			c := n.settings(a)
			if row.block == "named" {
				row.block, c.Chains[0].Contracts = "latest", []contractSettings{{Address: k.Address().Hex()}}
			}
			c.Chains[0].Block, c.Chains[0].BatchSize, c.Chains[0].Verify = row.block, row.batch, row.verify
			asked, err := a.requests()
			must(t, err)
			before := n.proxy.Requests()
			exit, out, errs := runAuditor(t, "audit", "--once", "-o", "json", "-c", writeConfig(t, c))
			if exit != 0 {
				t.Fatalf("exit code %d\n%s%s", exit, out, errs)
			}
			after, err := a.requests()
			must(t, err)
			t.Logf("%d entries: %d requests to the provider, %d to the API", row.devices+row.images, n.proxy.Requests()-before, after-asked)
			if got := n.proxy.Requests() - before; got != row.want || after-asked != 1 {
				t.Errorf("%d requests to the provider, want %d; %d to the API, want 1", got, row.want, after-asked)
			}
			if got := decodeReport(t, out).Chains[0].Targets[0].Counts.Match; got != row.devices+row.images {
				t.Errorf("%d entries match, want %d", got, row.devices+row.images)
			}
		})
	}
}

// live is a contract as large as live ones, with measurements, apps, and keys with a quote and an event log of 23 kB.
func live(t *testing.T, n *node) *scene {
	t.Helper()
	s := sceneOn(t, n, 10, 30)
	send := func(method string, args ...any) {
		t.Helper()
		_, err := s.kms.Send(t.Context(), method, args...)
		must(t, err)
	}
	random := func(n int) []byte { return sha3.SumSHAKE256([]byte("kms info"), n) }
	send("setKmsInfo", struct{ K256Pubkey, CaPubkey, Quote, Eventlog []byte }{random(64), random(91), random(3000), nil})
	_, err := s.kms.Upgrade(t.Context(), testchain.Backdoor)
	must(t, err)
	for piece := range slices.Chunk(random(20_000), 2_500) {
		send("appendEventlog", piece)
	}
	_, err = s.kms.Upgrade(t.Context(), testchain.Plain)
	must(t, err)
	send("setGatewayAppId", gatewayAppID)
	for _, mr := range ids("measurement", 3) {
		send("addKmsAggregatedMr", mr)
	}
	for _, app := range ids("app", 20) {
		send("registerApp", common.BytesToAddress(app[:]))
	}
	return s
}

// TestWhatALiveContractCosts counts requests and bytes at the node; docs/performance.md promises these numbers.
func TestWhatALiveContractCosts(t *testing.T) {
	for name := range nodes {
		t.Run(name, func(t *testing.T) {
			s := live(t, startNode(t, name))
			for _, row := range []struct {
				sentence      string
				contracts     []contractSettings
				round, kibiby int
			}{
				{"nothing is configured", nil, 4, 300},
				{"the contract is configured", []contractSettings{{Address: s.kms.Address().Hex()}}, 2, 300},
			} {
				c := s.node.settings(s.api)
				c.Chains[0].Contracts = row.contracts
				requests, bytes := s.node.proxy.Requests(), s.node.proxy.Bytes()
				exit, out, errs := runAuditor(t, "audit", "--once", "-o", "json", "-c", writeConfig(t, c))
				requests, bytes = s.node.proxy.Requests()-requests, s.node.proxy.Bytes()-bytes
				t.Logf("%s: %d requests, %d KiB", row.sentence, requests, bytes>>10)
				if target := decodeReport(t, out).Chains[0].Targets[0]; exit != 0 || found(target) != "consistent "+wholly {
					t.Errorf("%s: exit code %d, %s\n%s", row.sentence, exit, found(target), errs)
				}
				if requests > row.round || bytes>>10 >= row.kibiby {
					t.Errorf("%s: %d requests and %d KiB, want at most %d and %d", row.sentence, requests, bytes>>10, row.round, row.kibiby)
				}
			}
		})
	}
}
