package kms

import (
	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/holiman/uint256"
)

// Layout supposes what Solidity stores where call i of FixedCalls returns output. The function says what a slot holds, of
// those that the call reads, in their order: a text of up to 31 bytes in one slot, a longer one from the slot's hash on, and
// anything else in one slot. It always says the same of a slot. It only guesses: the storage root has to prove it.
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

// textsOf splits what call i of FixedCalls returned, unless it is no text.
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
