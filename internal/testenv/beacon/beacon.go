// Package beacon is a beacon chain for tests. It signs light-client documents for given execution headers, and serves them as a
// beacon node does. Its blocks have only what a light client sees. It shares no code with the light client under test: roots,
// branches and signatures are computed independently.
package beacon

import (
	"cmp"
	"math/big"
	"strconv"
	"sync"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
)

// Options configure a Chain. The default of a zero field is in brackets.
type Options struct {
	GenesisTime     uint64 // Unix seconds
	SecondsPerSlot  uint64 // (1)
	SlotsPerEpoch   uint64 // (8)
	EpochsPerPeriod uint64 // (64)
	CommitteeSize   int    // (32)
}

// Chain is on fulu from its genesis. A slot without a given execution header has a made-up block.
type Chain struct {
	Options
	mu         sync.Mutex
	headers    map[uint64]*types.Header // by slot
	roots      map[string]uint64        // slots of finalized blocks by root in hex
	committees map[uint64]*committee    // by period
	last       uint64                   // slot of the last finalized block
	attested   uint64                   // slot of the attested block; if it is not newer than last, the slot after last is attested
}

// Fulu and Version are the chain's fork and its version; ValidatorsRoot is its genesis_validators_root.
const Fulu = "fulu"

var (
	Version        = [4]byte{0x20, 0, 0, 0x95}
	ValidatorsRoot = filler("validators", 0)
)

// New returns a chain without blocks.
func New(opt Options) *Chain {
	opt.SecondsPerSlot = cmp.Or(opt.SecondsPerSlot, 1)
	opt.SlotsPerEpoch = cmp.Or(opt.SlotsPerEpoch, 8)
	opt.EpochsPerPeriod = cmp.Or(opt.EpochsPerPeriod, 64)
	opt.CommitteeSize = cmp.Or(opt.CommitteeSize, 32)
	return &Chain{Options: opt, headers: map[uint64]*types.Header{}, roots: map[string]uint64{}, committees: map[uint64]*committee{}}
}

// Spec returns the fields of /eth/v1/config/spec and /eth/v1/beacon/genesis.
func (c *Chain) Spec() map[string]string {
	text := func(n uint64) string { return strconv.FormatUint(n, 10) }
	return map[string]string{
		"CONFIG_NAME": "test", "SECONDS_PER_SLOT": text(c.SecondsPerSlot), "SLOTS_PER_EPOCH": text(c.SlotsPerEpoch),
		"EPOCHS_PER_SYNC_COMMITTEE_PERIOD": text(c.EpochsPerPeriod), "SYNC_COMMITTEE_SIZE": strconv.Itoa(c.CommitteeSize),
		"FULU_FORK_EPOCH": "0", "FULU_FORK_VERSION": hexutil.Encode(Version[:]),
		"genesis_time": text(c.GenesisTime), "genesis_validators_root": ValidatorsRoot.Hex(),
	}
}

// Slot returns the slot of a time in Unix seconds.
func (c *Chain) Slot(time uint64) uint64 { return (time - c.GenesisTime) / c.SecondsPerSlot }

// Period returns the sync-committee period of a slot.
func (c *Chain) Period(slot uint64) uint64 { return slot / c.SlotsPerEpoch / c.EpochsPerPeriod }

// Attest puts an execution header into the block of its time, and makes that block the attested one.
func (c *Chain) Attest(h *types.Header) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attested = c.Slot(h.Time)
	c.headers[c.attested] = h
}

// Finalize puts an execution header into the block of its time, and makes that block the finalized one. It returns the block's
// root, which can be used as a checkpoint.
func (c *Chain) Finalize(h *types.Header) common.Hash {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = c.Slot(h.Time)
	c.headers[c.last] = h
	root := c.block(c.last, filler("finalized", 0)).root()
	c.roots[root.Hex()] = c.last
	return root
}

// execution returns the execution header of a slot.
func (c *Chain) execution(slot uint64) *types.Header {
	if h := c.headers[slot]; h != nil {
		return h
	}
	zero, withdrawals := uint64(0), filler("withdrawals", slot)
	h := &types.Header{
		ParentHash: filler("parent", slot), Root: filler("state", slot), ReceiptHash: filler("receipts", slot), TxHash: filler("transactions", slot),
		MixDigest: filler("randao", slot), Number: new(big.Int).SetUint64(slot), Time: c.GenesisTime + slot*c.SecondsPerSlot, Difficulty: new(big.Int),
		BaseFee: big.NewInt(7), GasLimit: 30_000_000, Extra: []byte("test"), WithdrawalsHash: &withdrawals, BlobGasUsed: &zero, ExcessBlobGas: &zero,
	}
	c.headers[slot] = h
	return h
}

// Generalized indices in a state and in a body, since electra.
const (
	finalizedAt = 169
	currentAt   = 86
	nextAt      = 87
	payloadAt   = 25
)

// block is the part of a beacon block that a light client sees.
type block struct {
	slot        uint64
	state, body tree
	execution   *types.Header
}

func (c *Chain) block(slot uint64, finalized common.Hash) *block {
	period, h := c.Period(slot), c.execution(slot)
	return &block{
		slot: slot, execution: h,
		state: tree{finalizedAt: finalized, currentAt: c.committee(period).root, nextAt: c.committee(period + 1).root},
		body:  tree{payloadAt: executionRoot(h)},
	}
}

func (b *block) root() common.Hash {
	return root(uintRoot(b.slot), uintRoot(1), filler("beacon parent", b.slot), b.state.at(1), b.body.at(1))
}

// Document is a JSON object, or one within it.
type Document = map[string]any

// header is a LightClientHeader.
func (b *block) header() Document {
	h, text := b.execution, func(n uint64) string { return strconv.FormatUint(n, 10) }
	return Document{
		"beacon": Document{
			"slot": text(b.slot), "proposer_index": "1", "parent_root": filler("beacon parent", b.slot), "state_root": b.state.at(1), "body_root": b.body.at(1),
		},
		"execution": Document{
			"parent_hash": h.ParentHash, "fee_recipient": h.Coinbase, "state_root": h.Root, "receipts_root": h.ReceiptHash, "logs_bloom": h.Bloom, "prev_randao": h.MixDigest,
			"block_number": h.Number.String(), "gas_limit": text(h.GasLimit), "gas_used": text(h.GasUsed), "timestamp": text(h.Time), "extra_data": hexutil.Bytes(h.Extra),
			"base_fee_per_gas": h.BaseFee.String(), "block_hash": h.Hash(), "transactions_root": h.TxHash, "withdrawals_root": *h.WithdrawalsHash,
			"blob_gas_used": text(*h.BlobGasUsed), "excess_blob_gas": text(*h.ExcessBlobGas),
		},
		"execution_branch": b.body.branch(payloadAt),
	}
}

// executionRoot returns the root of the ExecutionPayloadHeader. transactions_root and withdrawals_root are those of the execution
// layer, which a light client cannot detect.
func executionRoot(h *types.Header) common.Hash {
	fee := h.BaseFee.FillBytes(make([]byte, 32))
	for i := range 16 {
		fee[i], fee[31-i] = fee[31-i], fee[i]
	}
	return root(h.ParentHash, bytesRoot(h.Coinbase[:]), h.Root, h.ReceiptHash, bytesRoot(h.Bloom[:]), h.MixDigest,
		uintRoot(h.Number.Uint64()), uintRoot(h.GasLimit), uintRoot(h.GasUsed), uintRoot(h.Time),
		pair(bytesRoot(h.Extra), uintRoot(uint64(len(h.Extra)))), common.Hash(fee), h.Hash(), h.TxHash, *h.WithdrawalsHash,
		uintRoot(*h.BlobGasUsed), uintRoot(*h.ExcessBlobGas))
}
