package events

import (
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/internal/state"
)

// The lists that events name, as they are remembered.
const (
	devices = "device"
	images  = "os_image"
	mrs     = "aggregated_mr"
	apps    = "app"
)

// meaning is what an event says: that its one argument was added to a list, or removed.
type meaning struct {
	list  string
	added bool
}

// signatures are the list events of all generations of the contract.
var signatures = map[string]meaning{
	"KmsDeviceAdded(bytes32)":         {devices, true},
	"KmsDeviceRemoved(bytes32)":       {devices, false},
	"OsImageHashAdded(bytes32)":       {images, true},
	"OsImageHashRemoved(bytes32)":     {images, false},
	"KmsAggregatedMrAdded(bytes32)":   {mrs, true},
	"KmsAggregatedMrRemoved(bytes32)": {mrs, false},
	"AppRegistered(address)":          {apps, true},

	// Before May 2025.
	"KmsDeviceIdRegistered(bytes32)":   {devices, true},
	"KmsDeviceIdDeregistered(bytes32)": {devices, false},
	"ImageRegistered(bytes32)":         {images, true},
	"ImageDeregistered(bytes32)":       {images, false},
	"AppImageMrAdded(bytes32)":         {mrs, true},
	"AppImageMrRemoved(bytes32)":       {mrs, false},
}

// policies are the names under which PolicyChanged, since August 2026, tells the actor of a change.
var policies = map[string]string{
	"kms-device": devices, "os-image": images, "kms-aggregated-mr": mrs, "registered-app": apps,
}

var (
	byTopic       = map[common.Hash]meaning{}
	byPolicy      = map[common.Hash]string{}
	policyChanged = crypto.Keccak256Hash([]byte("PolicyChanged(address,bytes32,bytes32,bool)"))
	topics        = []common.Hash{policyChanged}
)

func init() {
	for signature, m := range signatures {
		topic := crypto.Keccak256Hash([]byte(signature))
		byTopic[topic] = m
		topics = append(topics, topic)
	}
	slices.SortFunc(topics, common.Hash.Cmp) // every process asks the same question, which can be answered from a cache
	for name, list := range policies {
		byPolicy[crypto.Keccak256Hash([]byte(name))] = list
	}
}

// change is what an actor did in one transaction.
type change struct {
	tx    common.Hash
	list  string
	key   common.Hash
	added bool
}

// decode turns the logs of a piece into events, with the actors that PolicyChanged names beside them.
func decode(logs []types.Log) ([]state.Event, error) {
	actors := map[change]common.Address{}
	for _, l := range logs {
		if l.Topics[0] != policyChanged {
			continue
		}
		if len(l.Topics) != 4 || len(l.Data) != 32 {
			return nil, malformedLog(l)
		}
		if list, known := byPolicy[l.Topics[2]]; known {
			actors[change{l.TxHash, list, l.Topics[3], l.Data[31] == 1}] = common.BytesToAddress(l.Topics[1][12:])
		}
	}
	var events []state.Event
	for _, l := range logs {
		m, known := byTopic[l.Topics[0]]
		if !known {
			continue
		}
		if len(l.Topics) != 1 || len(l.Data) != 32 {
			return nil, malformedLog(l)
		}
		key := common.BytesToHash(l.Data)
		events = append(events, state.Event{
			Block: l.BlockNumber, BlockHash: l.BlockHash, Index: l.Index, Tx: l.TxHash,
			List: m.list, Key: key, Added: m.added,
			Actor: actors[change{l.TxHash, m.list, key, m.added}],
		})
	}
	return events, nil
}

func malformedLog(l types.Log) error {
	return fmt.Errorf("log %d of block %d has %d topics and %d bytes, which is not its event's shape", l.Index, l.BlockNumber, len(l.Topics), len(l.Data))
}
