package ethrpc

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/kms-auditor/kms-auditor/internal/hexid"
	"github.com/kms-auditor/kms-auditor/internal/quote"
)

// Policy chooses the block that an audit reads at: the tags finalized, safe and latest, latest-N (N blocks
// behind the head), a block number, or a block hash. The zero value is no policy.
type Policy struct {
	tag    string // "finalized", "safe", "latest"; empty for a number or a hash
	behind uint64 // blocks behind latest
	number uint64
	hash   *common.Hash
}

// Latest is the newest block.
var Latest = Policy{tag: "latest"}

// AtNumber and AtHash name one block.
func AtNumber(n uint64) Policy    { return Policy{number: n} }
func AtHash(h common.Hash) Policy { return Policy{hash: &h} }

// ParsePolicy reads finalized | safe | latest | latest-N | NUMBER | 0xHASH.
func ParsePolicy(s string) (Policy, error) {
	bad := func() (Policy, error) {
		return Policy{}, fmt.Errorf("block policy %s is none of finalized, safe, latest, latest-N, a decimal block number or a 0x block hash", quote.Cut(s))
	}
	switch {
	case s == "finalized" || s == "safe" || s == "latest":
		return Policy{tag: s}, nil
	case strings.HasPrefix(s, "latest-"):
		n, err := strconv.ParseUint(strings.TrimPrefix(s, "latest-"), 10, 63)
		if err != nil {
			return bad()
		}
		return Policy{tag: "latest", behind: n}, nil
	case strings.HasPrefix(s, "0x"):
		h, err := hexid.ParseID(s)
		if err != nil {
			return Policy{}, fmt.Errorf("block hash %w", err)
		}
		return Policy{hash: &h}, nil
	default:
		n, err := strconv.ParseUint(s, 10, 63)
		if err != nil {
			return bad()
		}
		return Policy{number: n}, nil
	}
}

// Fixed tells whether the policy names one block for ever: a number or a hash.
func (p Policy) Fixed() bool { return p.tag == "" }

// Behind is how many blocks before the tag it is.
func (p Policy) Behind() uint64 { return p.behind }

// String spells the policy as ParsePolicy reads it.
func (p Policy) String() string {
	switch {
	case p.behind > 0:
		return fmt.Sprintf("latest-%d", p.behind)
	case p.tag != "":
		return p.tag
	case p.hash != nil:
		return p.hash.Hex()
	default:
		return strconv.FormatUint(p.number, 10)
	}
}

// arg is the policy as the first parameter of eth_getBlockByNumber.
func (p Policy) arg() string {
	if p.tag != "" {
		return p.tag
	}
	return hexutil.EncodeUint64(p.number)
}
