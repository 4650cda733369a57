// Package block has the block tags, and decodes a provider's answers about blocks and its chain id.
package block

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// ErrNoState marks a provider that cannot serve the block that a policy names: its state is pruned, or it knows no
// such block or tag. Only then is the next policy tried.
var ErrNoState = errors.New("no state")

// ChainIDError is a provider of another chain.
type ChainIDError struct{ Got, Want uint64 }

func (e *ChainIDError) Error() string {
	return fmt.Sprintf("eth_chainId answers %d, but chain_id is configured as %d", e.Got, e.Want)
}

// Block is a block as a provider describes it.
type Block struct {
	Number uint64
	Hash   common.Hash
	Time   time.Time // UTC
}

// MaxTime is the last second that RFC 3339 can spell.
var MaxTime = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// Decode reads a block. What a node answers for a block or tag that it does not have is ErrNoState.
func Decode(c *transport.Call) (Block, error) {
	if transport.IsUnknownBlock(c.Err) || transport.IsPruned(c.Err) || transport.IsRPC(c.Err, []int{-32602, -39001}) {
		return Block{}, fmt.Errorf("%w: the provider has no such block: %w", ErrNoState, c.Err)
	}
	if c.Err != nil {
		return Block{}, c.Err
	}
	var h *struct {
		Number    *transport.Quantity `json:"number"`
		Hash      *common.Hash        `json:"hash"`
		Timestamp *transport.Quantity `json:"timestamp"`
	}
	if err := json.Unmarshal(c.Result, &h); err != nil {
		return Block{}, fmt.Errorf("decoding the block: %w", err)
	}
	if h == nil {
		return Block{}, fmt.Errorf("%w: the provider has no such block", ErrNoState)
	}
	if h.Number == nil || h.Hash == nil || h.Timestamp == nil || uint64(*h.Timestamp) > uint64(MaxTime.Unix()) {
		return Block{}, errors.New("the block lacks a number, a hash or a possible time")
	}
	return Block{uint64(*h.Number), *h.Hash, time.Unix(int64(*h.Timestamp), 0).UTC()}, nil
}

// ChainID asks for the chain id, and CheckChainID refuses any but want.
func ChainID() *transport.Call { return &transport.Call{Method: "eth_chainId"} }

func CheckChainID(c *transport.Call, want uint64) error {
	var got *transport.Quantity
	err := c.Decode(&got)
	if err == nil && got == nil {
		err = transport.ErrNull
	}
	if err != nil {
		return fmt.Errorf("reading eth_chainId: %w", err)
	}
	if uint64(*got) != want {
		return &ChainIDError{uint64(*got), want}
	}
	return nil
}

// Tag chooses the block that an audit reads at: the tags finalized, safe and latest, latest-N (N blocks
// behind the head), a block number, or a block hash. The zero value is not valid.
type Tag struct {
	tag    string // "finalized", "safe", "latest"; empty for a number or a hash
	behind uint64 // blocks behind latest
	number uint64
	hash   *common.Hash
}

// Latest is the newest block.
var Latest = Tag{tag: "latest"}

// AtNumber and AtHash name one block.
func AtNumber(n uint64) Tag    { return Tag{number: n} }
func AtHash(h common.Hash) Tag { return Tag{hash: &h} }

// ParseTag reads finalized | safe | latest | latest-N | NUMBER | 0xHASH.
func ParseTag(s string) (Tag, error) {
	digits, behind := strings.CutPrefix(s, "latest-")
	n, notNumber := strconv.ParseUint(digits, 10, 63)
	switch {
	case s == "finalized" || s == "safe" || s == "latest":
		return Tag{tag: s}, nil
	case strings.HasPrefix(s, "0x"):
		h, err := sanitize.ParseID(s)
		if err != nil {
			return Tag{}, fmt.Errorf("block hash %w", err)
		}
		return AtHash(h), nil
	case notNumber != nil:
		return Tag{}, fmt.Errorf("block policy %s: want finalized, safe, latest, latest-N, a block number or a 0x block hash", sanitize.Quote(s))
	case behind:
		return Tag{tag: "latest", behind: n}, nil
	default:
		return AtNumber(n), nil
	}
}

// Fixed reports whether the tag names one block for ever: a number or a hash.
func (t Tag) Fixed() bool { return t.tag == "" }

// Behind is how many blocks before the tag it is.
func (t Tag) Behind() uint64 { return t.behind }

// String spells the tag as ParseTag reads it.
func (t Tag) String() string {
	switch {
	case t.behind > 0:
		return fmt.Sprintf("latest-%d", t.behind)
	case t.tag != "":
		return t.tag
	case t.hash != nil:
		return t.hash.Hex()
	default:
		return strconv.FormatUint(t.number, 10)
	}
}

// IsLatest reports whether the tag is the head, or so many blocks behind it.
func (t Tag) IsLatest() bool { return t.tag == "latest" }

// Ask asks for the block. That of latest-N has to be asked for by its number.
func (t Tag) Ask() *transport.Call {
	if t.hash != nil {
		return &transport.Call{Method: "eth_getBlockByHash", Args: []any{*t.hash, false}}
	}
	name := cmp.Or(t.tag, hexutil.EncodeUint64(t.number))
	return &transport.Call{Method: "eth_getBlockByNumber", Args: []any{name, false}}
}

// Fits refuses a block that is not the one that the tag names, where head was the newest one.
func (t Tag) Fits(b, head Block) error {
	want := b.Number
	switch {
	case t.hash != nil && *t.hash != b.Hash:
		return fmt.Errorf("asked for block %s, got %s", t.hash, b.Hash)
	case t.hash == nil && t.tag == "":
		want = t.number
	case t.behind > 0:
		want = head.Number - t.behind
	}
	if b.Number != want {
		return fmt.Errorf("asked for block %d, got %d", want, b.Number)
	}
	return nil
}
