package kms

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/holiman/uint256"
)

// MaxImplementations bounds how many older implementations of one contract are run.
const MaxImplementations = 32

// OlderCalls are the calls of an older implementation that show what it left behind, and whether it has NextAppSequence. They
// are of no list.
var OlderCalls = slices.Concat(FixedCalls, []Call{{Data: string(selector("appAuthImplementation()"))}}, NextAppSequence.call(common.Address{}))

// EntryCalls are the calls of the getters of the three lists for one id.
func EntryCalls(id common.Hash) (out []Call) {
	for _, g := range []string{AllowedDevice, AllowedOSImage, "kmsAllowedAggregatedMrs(bytes32)"} {
		out = append(out, Call{Getter: g, ID: id, Data: string(append(selector(g), id[:]...))})
	}
	return out
}

const (
	SmallSlots = 64   // the variables of a contract; DstackKms has a dozen
	maxLong    = 4096 // words of one long text: 128 KiB
	maxStruct  = 8    // words of a value in a mapping
)

// longSlots are where the content of long texts begins, by the slot of the variable.
var longSlots = func() (out [SmallSlots]common.Hash) {
	for n := range out {
		out[n] = crypto.Keccak256Hash(variable(n))
	}
	return out
}()

// variable is the slot of a number, as a word.
func variable(n int) []byte { return binary.BigEndian.AppendUint64(make([]byte, 24), uint64(n)) }

// IsVariable reports whether Solidity keeps a variable that is no mapping in a slot, or a part of one: a small slot, what
// follows from one for long texts, or one of WellKnown.
func IsVariable(slot common.Hash) bool {
	if isFrom(slot, common.Hash{}, SmallSlots) || slices.Contains(WellKnown, slot) {
		return true
	}
	return slices.ContainsFunc(longSlots[:], func(first common.Hash) bool { return isFrom(slot, first, maxLong) })
}

// IsValueOf reports whether Solidity keeps the value of a key in a slot, or a part of it, in a mapping at a small slot.
func IsValueOf(slot, key common.Hash) bool {
	for n := range SmallSlots {
		if isFrom(slot, MappingSlot(key, n), maxStruct) {
			return true
		}
	}
	return false
}

// MappingSlot is where the mapping at a small slot keeps the value of key.
func MappingSlot(key common.Hash, variableSlot int) common.Hash {
	return crypto.Keccak256Hash(key[:], variable(variableSlot))
}

// isFrom reports whether a slot is one of n from first on.
func isFrom(slot, first common.Hash, n uint64) bool {
	if bytes.Compare(slot[:], first[:]) < 0 {
		return false
	}
	d := new(uint256.Int).Sub(new(uint256.Int).SetBytes(slot[:]), new(uint256.Int).SetBytes(first[:]))
	return d.IsUint64() && d.Uint64() < n
}
