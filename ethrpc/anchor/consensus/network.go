package consensus

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// Network is the configuration of a beacon chain. The names are those of the consensus specification.
type Network struct {
	Name                         string      `json:"name"`
	GenesisTime                  uint64      `json:"genesis_time"` // Unix seconds
	GenesisValidatorsRoot        common.Hash `json:"genesis_validators_root"`
	SecondsPerSlot               uint64      `json:"seconds_per_slot"`
	SlotsPerEpoch                uint64      `json:"slots_per_epoch"`
	EpochsPerSyncCommitteePeriod uint64      `json:"epochs_per_sync_committee_period"`
	SyncCommitteeSize            int         `json:"sync_committee_size"`
	Forks                        []Fork      `json:"forks"` // ordered by epoch; at equal epochs the last one is active
}

// Fork is an upgrade of the beacon chain.
type Fork struct {
	Name    string  `json:"name"`  // in lower case, as in a document's version
	Epoch   uint64  `json:"epoch"` // first epoch
	Version Version `json:"version"`
}

// Version is the version of a fork. It is part of the signing domain.
type Version [4]byte

// MarshalText formats the version as hex with 0x.
func (v Version) MarshalText() ([]byte, error) { return hexutil.Bytes(v[:]).MarshalText() }

// UnmarshalText parses the format of MarshalText.
func (v *Version) UnmarshalText(b []byte) error {
	return hexutil.UnmarshalFixedText("version", b, v[:])
}

// Mainnet is Ethereum's beacon chain: metadata/config.yaml of github.com/eth-clients/mainnet, configs/mainnet.yaml of
// github.com/ethereum/consensus-specs, and /eth/v1/beacon/genesis.
var Mainnet = Network{
	Name:                         "mainnet",
	GenesisTime:                  1606824023,
	GenesisValidatorsRoot:        common.Hash{0x4b, 0x36, 0x3d, 0xb9, 0x4e, 0x28, 0x61, 0x20, 0xd7, 0x6e, 0xb9, 0x05, 0x34, 0x0f, 0xdd, 0x4e, 0x54, 0xbf, 0xe9, 0xf0, 0x6b, 0xf3, 0x3f, 0xf6, 0xcf, 0x5a, 0xd2, 0x7f, 0x51, 0x1b, 0xfe, 0x95},
	SecondsPerSlot:               12,
	SlotsPerEpoch:                32,
	EpochsPerSyncCommitteePeriod: 256,
	SyncCommitteeSize:            512,
	Forks: []Fork{
		{"altair", 74240, [4]byte{1}},
		{"bellatrix", 144896, [4]byte{2}},
		{"capella", 194048, [4]byte{3}},
		{"deneb", 269568, [4]byte{4}},
		{"electra", 364032, [4]byte{5}},
		{"fulu", 411392, [4]byte{6}},
	},
}

// Sepolia is a test network: metadata/config.yaml of github.com/eth-clients/sepolia, and /eth/v1/beacon/genesis. Since 6 October
// 2026 it is on gloas, which this release does not support.
var Sepolia = Network{
	Name:                         "sepolia",
	GenesisTime:                  1655733600,
	GenesisValidatorsRoot:        common.Hash{0xd8, 0xea, 0x17, 0x1f, 0x3c, 0x94, 0xae, 0xa2, 0x1e, 0xbc, 0x42, 0xa1, 0xed, 0x61, 0x05, 0x2a, 0xcf, 0x3f, 0x92, 0x09, 0xc0, 0x0e, 0x4e, 0xfb, 0xaa, 0xdd, 0xac, 0x09, 0xed, 0x9b, 0x80, 0x78},
	SecondsPerSlot:               12,
	SlotsPerEpoch:                32,
	EpochsPerSyncCommitteePeriod: 256,
	SyncCommitteeSize:            512,
	Forks: []Fork{
		{"altair", 50, [4]byte{0x90, 0, 0, 0x70}},
		{"bellatrix", 100, [4]byte{0x90, 0, 0, 0x71}},
		{"capella", 56832, [4]byte{0x90, 0, 0, 0x72}},
		{"deneb", 132608, [4]byte{0x90, 0, 0, 0x73}},
		{"electra", 222464, [4]byte{0x90, 0, 0, 0x74}},
		{"fulu", 272640, [4]byte{0x90, 0, 0, 0x75}},
		{"gloas", 353024, [4]byte{0x90, 0, 0, 0x76}},
	},
}

// ByChainID returns the built-in network of an execution chain id: 1 or 11155111.
func ByChainID(id uint64) (Network, bool) {
	switch id {
	case 1:
		return Mainnet, true
	case 11155111:
		return Sepolia, true
	}
	return Network{}, false
}

// NetworkFromSpec returns the Network of an answer of /eth/v1/config/spec that was merged with the fields of
// /eth/v1/beacon/genesis. It leaves out forks at FAR_FUTURE_EPOCH, and keeps unknown forks.
func NetworkFromSpec(spec map[string]string) (Network, error) {
	var wrong []error
	number := func(key string) uint64 {
		n, err := strconv.ParseUint(spec[key], 10, 64)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s is %s, want a whole number", key, sanitize.Quote(spec[key])))
		}
		return n
	}
	n := Network{
		Name:                         sanitize.Plain(spec["CONFIG_NAME"]),
		GenesisTime:                  number("genesis_time"),
		SlotsPerEpoch:                number("SLOTS_PER_EPOCH"),
		EpochsPerSyncCommitteePeriod: number("EPOCHS_PER_SYNC_COMMITTEE_PERIOD"),
		SyncCommitteeSize:            int(min(number("SYNC_COMMITTEE_SIZE"), math.MaxInt32)),
	}
	if _, has := spec["SLOT_DURATION_MS"]; has {
		ms := number("SLOT_DURATION_MS")
		if n.SecondsPerSlot = ms / 1000; ms%1000 != 0 {
			wrong = append(wrong, fmt.Errorf("SLOT_DURATION_MS is %d, want whole seconds", ms))
		}
	} else {
		n.SecondsPerSlot = number("SECONDS_PER_SLOT")
	}
	var err error
	if n.GenesisValidatorsRoot, err = sanitize.ParseID(spec["genesis_validators_root"]); err != nil {
		wrong = append(wrong, fmt.Errorf("genesis_validators_root: %w", err))
	}
	for key := range spec {
		name, isFork := strings.CutSuffix(key, "_FORK_EPOCH")
		if !isFork || spec[key] == strconv.FormatUint(math.MaxUint64, 10) {
			continue
		}
		f := Fork{Name: sanitize.Plain(strings.ToLower(name)), Epoch: number(key)}
		version, err := hex.DecodeString(strings.TrimPrefix(spec[name+"_FORK_VERSION"], "0x"))
		if err != nil || copy(f.Version[:], version) != 4 || len(version) != 4 {
			wrong = append(wrong, fmt.Errorf("%s_FORK_VERSION is %s, want four bytes of hex", name, sanitize.Quote(spec[name+"_FORK_VERSION"])))
		}
		n.Forks = append(n.Forks, f)
	}
	n.sort()
	if len(wrong) == 0 {
		wrong = append(wrong, n.check())
	}
	return n, errors.Join(wrong...)
}

// OfChain returns the network with which to verify documents of an execution chain id that claim to be of n. It is the built-in
// network with the forks that only n has, or n if there is no built-in one. It fails if n contradicts the built-in network;
// fork epochs may differ, as they do between releases.
func (n Network) OfChain(id uint64) (Network, error) {
	known, builtIn := ByChainID(id)
	if !builtIn {
		return n, nil
	}
	same := n
	same.Name, same.Forks = known.Name, known.Forks
	contradicts := !reflect.DeepEqual(same, known)
	for _, f := range n.Forks {
		i := slices.IndexFunc(known.Forks, func(g Fork) bool { return g.Name == f.Name })
		if i < 0 {
			known.Forks = append(slices.Clip(known.Forks), f)
		} else {
			contradicts = contradicts || f.Version != known.Forks[i].Version
		}
	}
	if contradicts {
		return Network{}, fmt.Errorf("its genesis, times, committee size or fork versions are not those of %s, the beacon chain of chain %d", known.Name, id)
	}
	known.sort()
	return known, nil
}

// sort orders the forks by epoch, then by order.
func (n *Network) sort() {
	n.Forks = slices.SortedFunc(slices.Values(n.Forks), func(a, b Fork) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), order(a.Name)-order(b.Name))
	})
}

// forkNames are the forks that this release knows, in order. Proofs are checked from deneb on: headers of earlier forks are older
// than any accepted checkpoint.
var forkNames = []string{"altair", "bellatrix", "capella", "deneb", "electra", "fulu"}

// order returns the rank of a fork among those of one epoch. Unknown forks come last.
func order(name string) int {
	if i := slices.Index(forkNames, name); i >= 0 {
		return i
	}
	return len(forkNames)
}

// check returns an error if a network is unusable.
func (n *Network) check() error {
	size := n.SyncCommitteeSize
	switch {
	case n.SecondsPerSlot == 0 || n.SecondsPerSlot > 3600 || n.SlotsPerEpoch == 0 || n.SlotsPerEpoch > 1<<20 ||
		n.EpochsPerSyncCommitteePeriod == 0 || n.EpochsPerSyncCommitteePeriod > 1<<20 || n.GenesisTime > math.MaxInt32*100:
		return fmt.Errorf("network %s: its times are out of range", n.Name)
	case size < 8 || size > 1<<12 || size&(size-1) != 0:
		return fmt.Errorf("network %s: a sync committee of %d is not a power of two from 8 to 4096", n.Name, size)
	}
	for i := 1; i < len(n.Forks); i++ {
		if a, b := n.Forks[i-1], n.Forks[i]; a.Epoch > b.Epoch || order(a.Name) > order(b.Name) {
			return fmt.Errorf("network %s: fork %s (epoch %d) is listed before %s (epoch %d)", n.Name, a.Name, a.Epoch, b.Name, b.Epoch)
		}
	}
	return nil
}

// slotAt returns the slot at a time, or false before genesis.
func (n *Network) slotAt(t time.Time) (uint64, bool) {
	since := t.Unix() - int64(n.GenesisTime)
	return uint64(max(since, 0)) / n.SecondsPerSlot, since >= 0
}

// timeOf returns when a slot begins, in Unix seconds. A slot in the far future overflows.
func (n *Network) timeOf(slot uint64) uint64 { return n.GenesisTime + slot*n.SecondsPerSlot }

// period returns the sync-committee period of a slot.
func (n *Network) period(slot uint64) uint64 {
	return slot / n.SlotsPerEpoch / n.EpochsPerSyncCommitteePeriod
}

// indices are the generalized indices in the beacon state of a fork.
type indices struct{ finalizedRoot, currentCommittee, nextCommittee uint64 }

// proven has the indices of the supported forks: specs/{altair,electra}/light-client/sync-protocol.md. Fulu adds one field to the
// state, which does not change the indices.
var proven = map[string]indices{
	"deneb":   {105, 54, 55},
	"electra": {169, 86, 87},
	"fulu":    {169, 86, 87},
}

// forkAt returns the fork of a slot. An unsupported fork is an error; it is ErrUnknownFork if the fork is newer.
func (n *Network) forkAt(slot uint64) (Fork, indices, error) {
	epoch := slot / n.SlotsPerEpoch
	var f Fork
	for _, next := range n.Forks {
		if next.Epoch <= epoch {
			f = next
		}
	}
	at, known := proven[f.Name]
	switch {
	case known:
		return f, at, nil
	case f.Name == "" || order(f.Name) < len(forkNames):
		return f, at, fmt.Errorf("slot %d is before fork deneb, which is too old to be verified", slot)
	}
	return f, at, fmt.Errorf("slot %d is of fork %s, which begins at epoch %d: %w", slot, sanitize.Quote(f.Name), f.Epoch, ErrUnknownFork)
}
