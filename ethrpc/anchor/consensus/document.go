package consensus

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/holiman/uint256"

	"github.com/kms-auditor/kms-auditor/internal/exactjson"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// MaxDocument is the maximum size of a document, in bytes. The largest document, an update, has 65 kB.
const MaxDocument = 256 << 10

// The documents are those of the beacon API (github.com/ethereum/beacon-APIs, apis/beacon/light_client). Their containers are
// those of light-client/sync-protocol.md in specs/deneb and specs/electra.

type bootstrap struct {
	Header                     lightClientHeader `json:"header"`
	CurrentSyncCommittee       syncCommittee     `json:"current_sync_committee"`
	CurrentSyncCommitteeBranch []common.Hash     `json:"current_sync_committee_branch"`
}

type finalityUpdate struct {
	AttestedHeader  lightClientHeader `json:"attested_header"`
	FinalizedHeader lightClientHeader `json:"finalized_header"`
	FinalityBranch  []common.Hash     `json:"finality_branch"`
	SyncAggregate   struct {
		Bits      hexutil.Bytes `json:"sync_committee_bits"`
		Signature signature     `json:"sync_committee_signature"`
	} `json:"sync_aggregate"`
	SignatureSlot decimal `json:"signature_slot"`
}

type update struct {
	finalityUpdate
	nextCommittee
}

type nextCommittee struct {
	NextSyncCommittee       syncCommittee `json:"next_sync_committee"`
	NextSyncCommitteeBranch []common.Hash `json:"next_sync_committee_branch"`
}

type lightClientHeader struct {
	Beacon          beaconHeader    `json:"beacon"`
	Execution       executionHeader `json:"execution"`
	ExecutionBranch []common.Hash   `json:"execution_branch"`
}

type beaconHeader struct {
	Slot          decimal     `json:"slot"`
	ProposerIndex decimal     `json:"proposer_index"`
	ParentRoot    common.Hash `json:"parent_root"`
	StateRoot     common.Hash `json:"state_root"`
	BodyRoot      common.Hash `json:"body_root"`
}

func (h *beaconHeader) root() common.Hash {
	return merkleize(number(uint64(h.Slot)), number(uint64(h.ProposerIndex)), h.ParentRoot, h.StateRoot, h.BodyRoot)
}

// executionHeader is the ExecutionPayloadHeader of deneb, electra and fulu.
type executionHeader struct {
	ParentHash       common.Hash    `json:"parent_hash"`
	FeeRecipient     common.Address `json:"fee_recipient"`
	StateRoot        common.Hash    `json:"state_root"`
	ReceiptsRoot     common.Hash    `json:"receipts_root"`
	LogsBloom        bloom          `json:"logs_bloom"`
	PrevRandao       common.Hash    `json:"prev_randao"`
	BlockNumber      decimal        `json:"block_number"`
	GasLimit         decimal        `json:"gas_limit"`
	GasUsed          decimal        `json:"gas_used"`
	Timestamp        decimal        `json:"timestamp"`
	ExtraData        hexutil.Bytes  `json:"extra_data"`
	BaseFeePerGas    decimal256     `json:"base_fee_per_gas"`
	BlockHash        common.Hash    `json:"block_hash"`
	TransactionsRoot common.Hash    `json:"transactions_root"`
	WithdrawalsRoot  common.Hash    `json:"withdrawals_root"`
	BlobGasUsed      decimal        `json:"blob_gas_used"`
	ExcessBlobGas    decimal        `json:"excess_blob_gas"`
}

// root returns the hash tree root. extra_data has at most 32 bytes.
func (h *executionHeader) root() common.Hash {
	var recipient, extra common.Hash
	copy(recipient[:], h.FeeRecipient[:])
	copy(extra[:], h.ExtraData)
	fee := h.BaseFeePerGas.Bytes32()
	slices.Reverse(fee[:])
	return merkleize(h.ParentHash, recipient, h.StateRoot, h.ReceiptsRoot, merkleize(chunked(h.LogsBloom[:])...), h.PrevRandao,
		number(uint64(h.BlockNumber)), number(uint64(h.GasLimit)), number(uint64(h.GasUsed)), number(uint64(h.Timestamp)),
		hashPair(extra, number(uint64(len(h.ExtraData)))), fee, h.BlockHash, h.TransactionsRoot, h.WithdrawalsRoot,
		number(uint64(h.BlobGasUsed)), number(uint64(h.ExcessBlobGas)))
}

type syncCommittee struct {
	Pubkeys         []pubkey `json:"pubkeys"`
	AggregatePubkey pubkey   `json:"aggregate_pubkey"`
}

// root returns the hash tree root. There is at least one key.
func (c *syncCommittee) root() common.Hash {
	roots := make([]common.Hash, len(c.Pubkeys))
	for i := range roots {
		roots[i] = c.Pubkeys[i].root()
	}
	return hashPair(merkleize(roots...), c.AggregatePubkey.root())
}

type (
	pubkey    [48]byte // of G1, compressed
	signature [96]byte // of G2, compressed
	bloom     [256]byte
	decimal   uint64
)

type decimal256 struct{ uint256.Int }

func (k *pubkey) root() common.Hash { return merkleize(chunked(k[:])...) }

func (k *pubkey) UnmarshalText(b []byte) error { return hexutil.UnmarshalFixedText("key", b, k[:]) }
func (s *signature) UnmarshalText(b []byte) error {
	return hexutil.UnmarshalFixedText("signature", b, s[:])
}
func (l *bloom) UnmarshalText(b []byte) error {
	return hexutil.UnmarshalFixedText("logs_bloom", b, l[:])
}

// UnmarshalText accepts only the canonical form of a number.
func (d *decimal) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 10, 64)
	if *d = decimal(n); err != nil || strconv.FormatUint(n, 10) != string(b) {
		return fmt.Errorf("%s is not a decimal number of 64 bits", sanitize.Quote(string(b)))
	}
	return nil
}

// UnmarshalJSON replaces that of uint256.Int, which accepts hex.
func (d *decimal256) UnmarshalJSON(b []byte) error {
	var s string
	err := json.Unmarshal(b, &s)
	if err == nil {
		err = d.SetFromDecimal(s)
	}
	if err != nil || d.Dec() != s {
		return fmt.Errorf("%s is not a decimal number of 256 bits", sanitize.Quote(string(b)))
	}
	return nil
}

// decode decodes a document into data, and returns its version, the name of a fork.
func decode(document []byte, data any) (version string, err error) {
	var d struct {
		Version string          `json:"version"`
		Data    json.RawMessage `json:"data"`
	}
	if len(document) > MaxDocument {
		return "", fmt.Errorf("it has more than %d KiB", MaxDocument>>10)
	}
	if err := exactjson.Foreign(document, &d); err != nil {
		return "", err
	}
	switch _, known := proven[d.Version]; {
	case !known && order(d.Version) < len(forkNames):
		return "", fmt.Errorf("it is of fork %s, which is too old to be verified", d.Version)
	case !known:
		return "", fmt.Errorf("its version is %s: %w", sanitize.Quote(d.Version), ErrUnknownFork)
	}
	return d.Version, exactjson.Foreign(d.Data, data)
}

// SplitUpdates splits an answer of /eth/v1/beacon/light_client/updates into documents for Store.Update, one for each period. The
// caller must bound the answer to MaxDocument for each period that it asked for.
func SplitUpdates(answer []byte) ([][]byte, error) {
	var all []json.RawMessage
	if err := exactjson.Foreign(answer, &all); err != nil {
		return nil, fmt.Errorf("reading light client updates: %w", err)
	}
	documents := make([][]byte, len(all))
	for i := range all {
		documents[i] = all[i]
	}
	return documents, nil
}

// checkCommittee checks that a sync committee is at a generalized index of a beacon state.
func (n *Network) checkCommittee(which string, c *syncCommittee, branch []common.Hash, index uint64, state common.Hash) error {
	if len(c.Pubkeys) != n.SyncCommitteeSize {
		return fmt.Errorf("the %s sync committee has %d members, want %d", which, len(c.Pubkeys), n.SyncCommitteeSize)
	}
	if !proves(branch, c.root(), index, state) {
		return fmt.Errorf("the %s sync committee is not proven by the beacon state", which)
	}
	return nil
}

// executionIndex is the generalized index of the execution payload in a beacon block's body.
const executionIndex = 25

// checkHeader checks that the execution header belongs to the beacon block. It does not check that the block is on the chain.
func (n *Network) checkHeader(h *lightClientHeader) (Header, error) {
	slot, e := uint64(h.Beacon.Slot), &h.Execution
	_, _, err := n.forkAt(slot)
	switch {
	case err != nil:
		return Header{}, err
	case len(e.ExtraData) > 32:
		return Header{}, errors.New("extra_data has more than 32 bytes")
	case !proves(h.ExecutionBranch, e.root(), executionIndex, h.Beacon.BodyRoot):
		return Header{}, fmt.Errorf("the execution header is not proven by the beacon block of slot %d", slot)
	case uint64(e.Timestamp) != n.timeOf(slot):
		return Header{}, fmt.Errorf("the block of slot %d has the time %d, want %d: genesis_time or the slot time of network %s is wrong", slot, e.Timestamp, n.timeOf(slot), n.Name)
	}
	return Header{
		Slot: slot, Root: h.Beacon.root(), BlockNumber: uint64(e.BlockNumber), BlockHash: e.BlockHash,
		ParentHash: e.ParentHash, StateRoot: e.StateRoot, Timestamp: uint64(e.Timestamp),
	}, nil
}
