package kms

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/holiman/uint256"
)

// Layout guesses the slots that Solidity writes if call i of FixedCalls returns output. The returned function gives the word in a
// slot that the call reads; it must be asked for new slots in the order in which the call reads them. It assumes that a string of
// up to 31 bytes takes one slot, a longer one continues at the slot's hash, and any other value takes one slot. The guess must be
// verified against the storage root.
func Layout(i int, output []byte) func(slot common.Hash) common.Hash {
	texts, isText := textsOf(i, output)
	heads, long := map[common.Hash]common.Hash{}, map[common.Hash][]byte{}
	return func(slot common.Hash) common.Hash {
		if !isText {
			return common.BytesToHash(output)
		}
		if word, known := heads[slot]; known {
			return word
		}
		for first, text := range long {
			n := new(uint256.Int).SetBytes32(slot[:])
			n.Sub(n, new(uint256.Int).SetBytes32(first[:]))
			if n.IsUint64() && n.Uint64() < uint64(len(text)+31)/32 {
				text = text[32*n.Uint64():]
				return common.BytesToHash(common.RightPadBytes(text[:min(len(text), 32)], 32))
			}
		}
		if len(texts) == 0 {
			return common.Hash{}
		}
		text := texts[0]
		texts = texts[1:]
		if len(text) < 32 {
			heads[slot] = common.BytesToHash(append(common.RightPadBytes(text, 31), byte(2*len(text))))
		} else {
			heads[slot] = uint256.NewInt(uint64(2*len(text) + 1)).Bytes32()
			long[crypto.Keccak256Hash(slot[:])] = text
		}
		return heads[slot]
	}
}

// textsOf splits the output of call i of FixedCalls into its strings. isText is false if the getter returns no strings.
func textsOf(i int, output []byte) (texts [][]byte, isText bool) {
	types := map[string]abi.Arguments{"gatewayAppId()": textType, "kmsInfo()": infoType}[fixedGetters[i]]
	values, err := types.Unpack(output)
	if err != nil {
		return nil, types != nil
	}
	for _, v := range values {
		switch v := v.(type) {
		case string:
			texts = append(texts, []byte(v))
		case []byte:
			texts = append(texts, v)
		}
	}
	return texts, types != nil
}

// MaxImplementations bounds the older implementations of one contract that are run.
const MaxImplementations = 32

// OlderCalls are the calls of an older implementation that explain slots it left in the storage. They also detect
// NextAppSequence. They have no calls of allowlists.
var OlderCalls = slices.Concat(FixedCalls, []Call{{Data: string(selector("appAuthImplementation()"))}}, NextAppSequence.call(common.Address{}))

// EntryCalls returns the calls of the three allowlists' getters for one id.
func EntryCalls(id common.Hash) (out []Call) {
	for _, g := range []string{AllowedDevice, AllowedOSImage, AllowedAggregatedMR} {
		out = append(out, Call{Getter: g, ID: id, Data: string(append(selector(g), id[:]...))})
	}
	return out
}

const (
	SmallSlots = 64   // the variables of a contract; DstackKms has a dozen
	maxLong    = 4096 // words of one long string: 128 KiB
	maxStruct  = 8    // words of one value in a mapping
)

// longSlots are where the content of a long string begins, by the slot of the variable.
var longSlots = func() (out [SmallSlots]common.Hash) {
	for n := range out {
		out[n] = crypto.Keccak256Hash(variable(n))
	}
	return out
}()

// variable returns slot n as a word.
func variable(n int) []byte { return binary.BigEndian.AppendUint64(make([]byte, 24), uint64(n)) }

// IsVariable reports whether a slot may hold a variable that is not a mapping, or a part of one: a small slot, the content of a
// long string, or one of WellKnown.
func IsVariable(slot common.Hash) bool {
	if isFrom(slot, common.Hash{}, SmallSlots) || slices.Contains(WellKnown, slot) {
		return true
	}
	return slices.ContainsFunc(longSlots[:], func(first common.Hash) bool { return isFrom(slot, first, maxLong) })
}

// IsValueOf reports whether a slot may hold the value of a key, or a part of it, in a mapping at a small slot.
func IsValueOf(slot, key common.Hash) bool {
	for n := range SmallSlots {
		if isFrom(slot, MappingSlot(key, n), maxStruct) {
			return true
		}
	}
	return false
}

// MappingSlot returns where the mapping at variableSlot keeps the value of key.
func MappingSlot(key common.Hash, variableSlot int) common.Hash {
	return crypto.Keccak256Hash(key[:], variable(variableSlot))
}

// isFrom reports whether a slot is one of the n slots from first on.
func isFrom(slot, first common.Hash, n uint64) bool {
	if bytes.Compare(slot[:], first[:]) < 0 {
		return false
	}
	d := new(uint256.Int).Sub(new(uint256.Int).SetBytes(slot[:]), new(uint256.Int).SetBytes(first[:]))
	return d.IsUint64() && d.Uint64() < n
}
