package proof

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rlp"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

const maxHeader = 16 << 10 // bytes of RLP; current headers have less than 1 KiB

// ErrUnknownHeader marks the header of a block in a form that this release does not know, such as that of a later fork.
var ErrUnknownHeader = errors.New("this release does not know such a block header: upgrade kms-auditor")

// EncodeHeader encodes a block from eth_getBlockByNumber as the RLP of its header. It verifies nothing; Header does.
func EncodeHeader(block json.RawMessage) ([]byte, error) {
	var h types.Header
	if err := h.UnmarshalJSON(block); err != nil {
		return nil, fmt.Errorf("decoding the block's header: %s", sanitize.Plain(err.Error()))
	}
	b, err := rlp.EncodeToBytes(&h)
	if err != nil {
		return nil, fmt.Errorf("encoding the block's header: %w", err)
	}
	return b, nil
}

// Header decodes the RLP of a header of Ethereum or an OP-stack chain. It returns ErrInvalid if the hash does not match, and
// ErrUnknownHeader if the header has unknown fields, such as those of a later fork.
func Header(b []byte, hash common.Hash) (*types.Header, error) {
	if len(b) > maxHeader {
		return nil, invalid("the header has %d bytes, more than %d", len(b), maxHeader)
	}
	if got := crypto.Keccak256Hash(b); got != hash {
		return nil, invalid("the header is that of block %s, not of %s", got, hash)
	}
	var h types.Header
	if err := rlp.DecodeBytes(b, &h); err != nil {
		return nil, fmt.Errorf("%w: decoding the header of block %s: %w", ErrUnknownHeader, hash, err)
	}
	if err := h.SanityCheck(); err != nil {
		return nil, fmt.Errorf("reading the header of block %s: %w", hash, err)
	}
	return &h, nil
}
