// Package block parses block tags, and decodes a provider's blocks and chain id.
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

// ErrNoState reports that a provider cannot serve the block of a tag: its state is pruned, or the provider does not know the
// block or tag. Only then is the next tag tried.
var ErrNoState = errors.New("no state")

// ChainIDError reports a provider of another chain.
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

// MaxTime is the last second that RFC 3339 can express.
var MaxTime = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// Decode decodes a block. It returns ErrNoState if the node does not have the block or tag.
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
		return Block{}, errors.New("the block has no number, no hash or no valid time")
	}
	return Block{uint64(*h.Number), *h.Hash, time.Unix(int64(*h.Timestamp), 0).UTC()}, nil
}

// ChainID returns a call of eth_chainId.
func ChainID() *transport.Call { return &transport.Call{Method: "eth_chainId"} }

// CheckChainID checks the answer to ChainID. Another id than want is a *ChainIDError.
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

// Tag chooses the block that an audit reads at: finalized, safe, latest, latest-N (N blocks behind the head), a block number or
// a block hash. The zero value is not valid.
type Tag struct {
	tag    string // "finalized", "safe" or "latest"; empty for a number or a hash
	behind uint64 // blocks behind latest
	number uint64
	hash   *common.Hash
}

// Latest is the newest block.
var Latest = Tag{tag: "latest"}

// AtNumber returns the Tag of a block number.
func AtNumber(n uint64) Tag { return Tag{number: n} }

// AtHash returns the Tag of a block hash.
func AtHash(h common.Hash) Tag { return Tag{hash: &h} }

// ParseTag parses finalized | safe | latest | latest-N | NUMBER | 0xHASH.
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

// Fixed reports whether the tag is a number or a hash.
func (t Tag) Fixed() bool { return t.tag == "" }

// Behind returns the N of latest-N, or 0.
func (t Tag) Behind() uint64 { return t.behind }

// String formats the tag as ParseTag reads it.
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

// IsLatest reports whether the tag is latest or latest-N.
func (t Tag) IsLatest() bool { return t.tag == "latest" }

// Ask returns a call for the block. For latest-N, ask for AtNumber instead.
func (t Tag) Ask() *transport.Call {
	if t.hash != nil {
		return &transport.Call{Method: "eth_getBlockByHash", Args: []any{*t.hash, false}}
	}
	name := cmp.Or(t.tag, hexutil.EncodeUint64(t.number))
	return &transport.Call{Method: "eth_getBlockByNumber", Args: []any{name, false}}
}

// Fits returns an error if b is not the block that the tag names while head is the newest block.
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
