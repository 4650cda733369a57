package transport

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common/hexutil"
)

// ErrNull is an answer that is null.
var ErrNull = errors.New("the answer is null")

var errNoHex = errors.New("the answer is an empty text, want hex data")

// Quantity is a number as JSON-RPC writes it. hexutil takes an empty text for 0.
type Quantity uint64

func (q *Quantity) UnmarshalJSON(raw []byte) error {
	if string(raw) == `""` {
		return errNoHex
	}
	return (*hexutil.Uint64)(q).UnmarshalJSON(raw)
}

// Bytes is the answer as a JSON string of hex bytes. Null is an error.
func (c *Call) Bytes() ([]byte, error) {
	if c.Err != nil {
		return nil, c.Err
	}
	var b *hexutil.Bytes
	if err := json.Unmarshal(c.Result, &b); err != nil {
		return nil, fmt.Errorf("the answer is no hex data: %w", err)
	}
	if b == nil {
		return nil, ErrNull
	}
	if len(*b) == 0 && string(c.Result) != `"0x"` { // hexutil takes no text at all for no bytes
		return nil, errNoHex
	}
	return *b, nil
}
