package ethrpc

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// BlockTag chooses the block that an audit reads at: the tags finalized, safe and latest, latest-N (N blocks
// behind the head), a block number, or a block hash. The zero value is none.
type BlockTag struct {
	tag    string // "finalized", "safe", "latest"; empty for a number or a hash
	behind uint64 // blocks behind latest
	number uint64
	hash   *common.Hash
}

// Latest is the newest block.
var Latest = BlockTag{tag: "latest"}

// AtNumber and AtHash name one block.
func AtNumber(n uint64) BlockTag    { return BlockTag{number: n} }
func AtHash(h common.Hash) BlockTag { return BlockTag{hash: &h} }

// ParseBlockTag reads finalized | safe | latest | latest-N | NUMBER | 0xHASH.
func ParseBlockTag(s string) (BlockTag, error) {
	bad := func() (BlockTag, error) {
		return BlockTag{}, fmt.Errorf("block policy %s is none of finalized, safe, latest, latest-N, a decimal block number or a 0x block hash", sanitize.Quote(s))
	}
	switch {
	case s == "finalized" || s == "safe" || s == "latest":
		return BlockTag{tag: s}, nil
	case strings.HasPrefix(s, "latest-"):
		n, err := strconv.ParseUint(strings.TrimPrefix(s, "latest-"), 10, 63)
		if err != nil {
			return bad()
		}
		return BlockTag{tag: "latest", behind: n}, nil
	case strings.HasPrefix(s, "0x"):
		h, err := sanitize.ParseID(s)
		if err != nil {
			return BlockTag{}, fmt.Errorf("block hash %w", err)
		}
		return BlockTag{hash: &h}, nil
	default:
		n, err := strconv.ParseUint(s, 10, 63)
		if err != nil {
			return bad()
		}
		return BlockTag{number: n}, nil
	}
}

// Fixed reports whether the tag names one block for ever: a number or a hash.
func (t BlockTag) Fixed() bool { return t.tag == "" }

// Behind is how many blocks before the tag it is.
func (t BlockTag) Behind() uint64 { return t.behind }

// String spells the tag as ParseBlockTag reads it.
func (t BlockTag) String() string {
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

// arg is the tag as the first parameter of eth_getBlockByNumber.
func (t BlockTag) arg() string {
	if t.tag != "" {
		return t.tag
	}
	return hexutil.EncodeUint64(t.number)
}
