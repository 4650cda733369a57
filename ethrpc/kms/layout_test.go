package kms_test

import (
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
)

func TestWhereSolidityKeepsVariables(t *testing.T) {
	small := func(n int64) common.Hash { return common.BigToHash(big.NewInt(n)) }
	after := func(h common.Hash, n int64) common.Hash {
		return common.BigToHash(new(big.Int).Add(h.Big(), big.NewInt(n)))
	}
	text := crypto.Keccak256Hash(small(3).Bytes()) // of kmsInfo's last part
	id, slot := common.Hash{1}, small(7)
	entry := crypto.Keccak256Hash(id[:], slot[:]) // of the documented device list
	for _, row := range []struct {
		sentence string
		slot     common.Hash
		variable bool
	}{
		{"the first variable", small(0), true},
		{"the last small slot", small(63), true},
		{"one behind it", small(64), false},
		{"the owner", common.HexToHash("0x9016d09d72d40fdae2fd8ceac6b6234c7706214fd39c1cd1e609a0528c199300"), true},
		{"the implementation", kms.ImplementationSlot, true},
		{"where a long text begins", text, true},
		{"far in it", after(text, 4095), true},
		{"behind it", after(text, 4096), false},
		{"before it", after(text, -1), false},
		{"what lies far from all of them", after(text, 1<<62), false},
		{"the text of a slot that is not small", crypto.Keccak256Hash(small(64).Bytes()), false},
		{"an entry of a list", entry, false},
		{"no slot that is known", common.Hash{0: 0xff, 31: 0xff}, false},
	} {
		if got := kms.IsVariable(row.slot); got != row.variable {
			t.Errorf("%s: %t", row.sentence, got)
		}
	}
	for _, row := range []struct {
		sentence string
		slot     common.Hash
		value    bool
	}{
		{"a value", entry, true},
		{"a part of a value", after(entry, 7), true},
		{"what follows", after(entry, 8), false},
		{"another key's", kms.MappingSlot(common.Hash{2}, 7), false},
		{"that of the first slot", kms.MappingSlot(id, 0), true},
		{"that of the last small slot", kms.MappingSlot(id, 63), true},
		{"that of a slot that is not small", kms.MappingSlot(id, 64), false},
		{"a variable", small(7), false},
	} {
		if got := kms.IsValueOf(row.slot, id); got != row.value {
			t.Errorf("%s: %t", row.sentence, got)
		}
	}
}
