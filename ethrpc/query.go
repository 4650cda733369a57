//go:build ignore

package ethrpc

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
)

// Getter is a getter of the contract's allowlists, by its Solidity signature: bytes32 in, bool out.
type Getter string

// The getters of the main line of DstackKms (since May 2025).
const (
	AllowedDevice  Getter = "kmsAllowedDeviceIds(bytes32)"
	AllowedOSImage Getter = "allowedOsImages(bytes32)"
)

var selectors = map[Getter][]byte{AllowedDevice: selector(AllowedDevice), AllowedOSImage: selector(AllowedOSImage)}

func selector(g Getter) []byte { return crypto.Keccak256([]byte(g))[:4] }

// Ask is one question: does Contract allow ID in the list of Getter? Without a Getter it only asks for the contract's
// code, which is asked for with every other question too.
type Ask struct {
	Contract common.Address
	Getter   Getter
	ID       common.Hash
}

// Answer is the contract's answer to an Ask. Err is set where the contract gave none: it reverted, or what came back
// is not one ABI word holding 0 or 1.
type Answer struct {
	Err     error
	Allowed bool
	Proven  bool // against the block's state root
}

// Questions are what to read of a chain's contracts.
type Questions struct {
	Asks    []Ask
	Control bool                             // also who controls the contracts
	Explain []Explain                        // only used where answers are proven
	Slots   map[common.Address][]common.Hash // more slots that are known to be in use; only used where answers are proven
}

// contracts lists whom the questions are about.
func (q Questions) contracts() []common.Address {
	var out []common.Address
	for i, a := range q.Asks {
		if i == 0 || a.Contract != q.Asks[i-1].Contract {
			out = append(out, a.Contract)
		}
	}
	return unique(out)
}

// data is the input of the call, which has inputLen bytes: selector and id.
func (a Ask) data() hexutil.Bytes {
	s, known := selectors[a.Getter]
	if !known {
		s = selector(a.Getter)
	}
	return append(s[:4:4], a.ID[:]...)
}

// boolWord reads an ABI bool strictly: 32 bytes, 31 of them zero, the last 0 or 1. An account without code answers
// with no bytes at all, and that is no answer.
func boolWord(raw json.RawMessage) (bool, error) {
	b, err := bytesOf(raw)
	if err != nil {
		return false, err
	}
	return boolBytes(b)
}

func boolBytes(b []byte) (bool, error) {
	if len(b) != 32 {
		return false, fmt.Errorf("the answer has %d bytes, want the 32 of a bool", len(b))
	}
	word := common.BytesToHash(b)
	switch word {
	case common.Hash{}:
		return false, nil
	case common.Hash{31: 1}:
		return true, nil
	}
	return false, fmt.Errorf("the answer %s is neither 0 nor 1", word)
}

var errNoHex = errors.New("the answer is an empty text, want hex data")

// quantity is a number as JSON-RPC writes it. hexutil takes an empty text for 0.
type quantity uint64

func (q *quantity) UnmarshalJSON(raw []byte) error {
	if string(raw) == `""` {
		return errNoHex
	}
	return (*hexutil.Uint64)(q).UnmarshalJSON(raw)
}

// bytesOf reads a JSON string of hex bytes; null is an error.
func bytesOf(raw json.RawMessage) (hexutil.Bytes, error) {
	var b *hexutil.Bytes
	if err := json.Unmarshal(raw, &b); err != nil {
		return nil, fmt.Errorf("the answer is no hex data: %w", err)
	}
	if b == nil {
		return nil, errNull
	}
	if len(*b) == 0 && string(raw) != `"0x"` { // hexutil takes no text at all for no bytes
		return nil, errNoHex
	}
	return *b, nil
}

// wholeGetters are the getters of everything that the contract stores apart from its mappings. Older generations lack
// some; a call of what is not there explains nothing and does no harm.
var wholeGetters = []string{"kmsInfo()", "gatewayAppId()", "owner()", "pendingOwner()", "appImplementation()"}

// Whole explains what a contract stores beside its two lists: its other fields, and the entries of its other mappings.
func Whole(contract common.Address, aggregatedMRs []common.Hash, apps []common.Address) []Explain {
	var out []Explain
	add := func(signature string, arg ...byte) {
		out = append(out, Explain{contract, append(crypto.Keccak256([]byte(signature))[:4], arg...)})
	}
	for _, g := range wholeGetters {
		add(g)
	}
	for _, mr := range aggregatedMRs {
		add("kmsAllowedAggregatedMrs(bytes32)", mr[:]...)
	}
	for _, a := range apps {
		add("registeredApps(address)", common.LeftPadBytes(a[:], 32)...)
	}
	return out
}
