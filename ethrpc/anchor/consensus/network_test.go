package consensus_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
)

// mainnetSpec is the relevant part of a mainnet beacon node's /eth/v1/config/spec.
var mainnetSpec = map[string]string{
	"CONFIG_NAME": "mainnet", "genesis_time": "1606824023", "genesis_validators_root": "0x4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95",
	"SECONDS_PER_SLOT": "12", "SLOTS_PER_EPOCH": "32", "EPOCHS_PER_SYNC_COMMITTEE_PERIOD": "256", "SYNC_COMMITTEE_SIZE": "512",
	"GENESIS_FORK_VERSION": "0x00000000",
	"ALTAIR_FORK_EPOCH":    "74240", "ALTAIR_FORK_VERSION": "0x01000000",
	"BELLATRIX_FORK_EPOCH": "144896", "BELLATRIX_FORK_VERSION": "0x02000000",
	"CAPELLA_FORK_EPOCH": "194048", "CAPELLA_FORK_VERSION": "0x03000000",
	"DENEB_FORK_EPOCH": "269568", "DENEB_FORK_VERSION": "0x04000000",
	"ELECTRA_FORK_EPOCH": "364032", "ELECTRA_FORK_VERSION": "0x05000000",
	"FULU_FORK_EPOCH": "411392", "FULU_FORK_VERSION": "0x06000000",
	"GLOAS_FORK_EPOCH": "18446744073709551615", "GLOAS_FORK_VERSION": "0x07000000",
}

var sepoliaSpec = map[string]string{
	"CONFIG_NAME": "sepolia", "genesis_time": "1655733600", "genesis_validators_root": "0xd8ea171f3c94aea21ebc42a1ed61052acf3f9209c00e4efbaaddac09ed9b8078",
	"SLOT_DURATION_MS": "12000", "SLOTS_PER_EPOCH": "32", "EPOCHS_PER_SYNC_COMMITTEE_PERIOD": "256", "SYNC_COMMITTEE_SIZE": "512",
	"ALTAIR_FORK_EPOCH": "50", "ALTAIR_FORK_VERSION": "0x90000070",
	"BELLATRIX_FORK_EPOCH": "100", "BELLATRIX_FORK_VERSION": "0x90000071",
	"CAPELLA_FORK_EPOCH": "56832", "CAPELLA_FORK_VERSION": "0x90000072",
	"DENEB_FORK_EPOCH": "132608", "DENEB_FORK_VERSION": "0x90000073",
	"ELECTRA_FORK_EPOCH": "222464", "ELECTRA_FORK_VERSION": "0x90000074",
	"FULU_FORK_EPOCH": "272640", "FULU_FORK_VERSION": "0x90000075",
	"GLOAS_FORK_EPOCH": "353024", "GLOAS_FORK_VERSION": "0x90000076",
}

// TestBuiltInNetworks compares the built-in networks with the answers of beacon nodes.
func TestBuiltInNetworks(t *testing.T) {
	for id, spec := range map[uint64]map[string]string{1: mainnetSpec, 11155111: sepoliaSpec} {
		want, err := consensus.NetworkFromSpec(spec)
		if err != nil {
			t.Fatal(err)
		}
		got, known := consensus.ByChainID(id)
		if diff := cmp.Diff(want, got); diff != "" || !known {
			t.Errorf("chain %d: %v, %s", id, known, diff)
		}
	}
	if n, known := consensus.ByChainID(8453); known {
		t.Errorf("8453 is %+v", n)
	}
}

// TestWhatIsSaidOfABuiltInNetwork checks that forks and fork epochs may differ, since other releases may know others.
func TestWhatIsSaidOfABuiltInNetwork(t *testing.T) {
	gloas := consensus.Fork{Name: "gloas", Epoch: 500_000, Version: consensus.Version{7}}
	for _, row := range []struct {
		sentence string
		change   func(*consensus.Network)
		refused  bool
		last     string // fork that is known
	}{
		{"it equals the built-in network", func(*consensus.Network) {}, false, "fulu"},
		{"an older release knows fewer forks", func(n *consensus.Network) { n.Forks = n.Forks[:4] }, false, "fulu"},
		{"a newer one knows more", func(n *consensus.Network) { n.Forks = append(n.Forks, gloas) }, false, "gloas"},
		{"another knows another time of a fork", func(n *consensus.Network) { n.Forks[5].Epoch++ }, false, "fulu"},
		{"a node gives it another name", func(n *consensus.Network) { n.Name = "main" }, false, "fulu"},
		{"another genesis", func(n *consensus.Network) { n.GenesisValidatorsRoot[0]++ }, true, ""},
		{"another genesis time", func(n *consensus.Network) { n.GenesisTime++ }, true, ""},
		{"longer slots", func(n *consensus.Network) { n.SecondsPerSlot++ }, true, ""},
		{"longer epochs", func(n *consensus.Network) { n.SlotsPerEpoch++ }, true, ""},
		{"a committee that signs for ever", func(n *consensus.Network) { n.EpochsPerSyncCommitteePeriod = 1 << 20 }, true, ""},
		{"a small committee", func(n *consensus.Network) { n.SyncCommitteeSize = 8 }, true, ""},
		{"another version of a fork", func(n *consensus.Network) { n.Forks[5].Version[3]++ }, true, ""},
	} {
		n := consensus.Mainnet
		n.Forks = slices.Clone(n.Forks)
		row.change(&n)
		got, err := n.OfChain(1)
		if row.refused {
			refused(t, err, "are not those of mainnet, the beacon chain of chain 1")
		} else if want := consensus.Mainnet; err != nil || got.Forks[len(got.Forks)-1].Name != row.last || !slices.Equal(got.Forks[:6], want.Forks) || got.Name != "mainnet" {
			t.Errorf("%s: %+v, %v", row.sentence, got, err)
		}
		if got, err := n.OfChain(1337); err != nil || !cmp.Equal(got, n) {
			t.Errorf("%s, of another chain: %+v, %v", row.sentence, got, err)
		}
	}
	if diff := cmp.Diff(6, len(consensus.Mainnet.Forks)); diff != "" {
		t.Error(diff)
	}
}

func TestNetworkFromSpec(t *testing.T) {
	for _, row := range []struct{ sentence, key, value, says string }{
		{"nothing is wrong", "CONFIG_NAME", "x", ""},
		{"no genesis time", "genesis_time", "", `genesis_time is "", want a whole number`},
		{"an impossible genesis time", "genesis_time", "18446744073709551615", "its times are out of range"},
		{"no slot time", "SECONDS_PER_SLOT", "", `SECONDS_PER_SLOT is ""`},
		{"slots of no time", "SECONDS_PER_SLOT", "0", "its times are out of range"},
		{"slots of a part of a second", "SLOT_DURATION_MS", "1500", "want whole seconds"},
		{"epochs without slots", "SLOTS_PER_EPOCH", "0", "its times are out of range"},
		{"periods without epochs", "EPOCHS_PER_SYNC_COMMITTEE_PERIOD", "0", "its times are out of range"},
		{"an empty committee", "SYNC_COMMITTEE_SIZE", "0", "a sync committee of 0"},
		{"a committee of a size that no tree has", "SYNC_COMMITTEE_SIZE", "96", "a sync committee of 96"},
		{"a committee of everybody", "SYNC_COMMITTEE_SIZE", "18446744073709551615", "a sync committee of"},
		{"a root that is cut", "genesis_validators_root", "0x4b36", "genesis_validators_root"},
		{"an epoch that is not a number", "FULU_FORK_EPOCH", "soon", `FULU_FORK_EPOCH is "soon"`},
		{"a version that is cut", "FULU_FORK_VERSION", "0x06", `FULU_FORK_VERSION is "0x06", want four bytes`},
		{"a version that is too long", "FULU_FORK_VERSION", "0x0600000000", "want four bytes"},
		{"a fork without a version", "HEZE_FORK_EPOCH", "500000", "HEZE_FORK_VERSION"},
		{"forks in another order", "DENEB_FORK_EPOCH", "400000", "fork electra (epoch 364032) is listed before deneb (epoch 400000)"},
		{"a later fork at an earlier epoch", "GLOAS_FORK_EPOCH", "400000", "fork gloas (epoch 400000) is listed before fulu"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			spec := maps.Clone(mainnetSpec)
			spec[row.key] = row.value
			if _, err := consensus.NetworkFromSpec(spec); row.says == "" && err != nil {
				t.Error(err)
			} else if row.says != "" {
				refused(t, err, row.says)
			}
		})
	}
	spec := maps.Clone(mainnetSpec)
	for key := range spec {
		if key[max(0, len(key)-6):] == "_EPOCH" && spec[key] != "18446744073709551615" && key != "SLOTS_PER_EPOCH" {
			spec[key] = "0"
		}
	}
	n, err := consensus.NetworkFromSpec(spec)
	if err != nil || !slices.IsSortedFunc(n.Forks, func(a, b consensus.Fork) int { return int(a.Version[0]) - int(b.Version[0]) }) {
		t.Errorf("forks of one epoch: %v, %v", n.Forks, err)
	}
}

// TestForksOfThePast checks that documents of forks before deneb are refused.
func TestForksOfThePast(t *testing.T) {
	r := devnet(t)
	r.network.Forks = slices.Clone(r.network.Forks[:3])
	_, err := consensus.Bootstrap(r.network, r.checkpoint, r.bootstrap, r.now)
	refused(t, err, "slot 24 is before fork deneb")
	r.network.Forks = nil
	_, err = consensus.Bootstrap(r.network, r.checkpoint, r.bootstrap, r.now)
	refused(t, err, "slot 24 is before fork deneb")
	r.network.SlotsPerEpoch = 0
	_, err = consensus.Bootstrap(r.network, r.checkpoint, r.bootstrap, r.now)
	refused(t, err, "its times are out of range")
}

// TestGenesisTime checks that a wrong genesis or slot time is detected from the times of blocks.
func TestGenesisTime(t *testing.T) {
	r := devnet(t)
	r.network.GenesisTime -= 2
	_, err := consensus.Bootstrap(r.network, r.checkpoint, r.bootstrap, r.now)
	refused(t, err, "genesis_time or the slot time of network devnet is wrong")
}
