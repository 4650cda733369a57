package beacon

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
)

func pair(a, b common.Hash) common.Hash { return sha256.Sum256(append(a[:], b[:]...)) }

// filler returns an arbitrary value.
func filler(what string, n uint64) common.Hash {
	return sha256.Sum256(fmt.Appendf(nil, "%s %d", what, n))
}

// root returns the hash tree root of a container or a vector with these roots.
func root(fields ...common.Hash) common.Hash {
	if len(fields) == 1 {
		return fields[0]
	}
	size := 1
	for size < len(fields) {
		size *= 2
	}
	all := make([]common.Hash, size)
	copy(all, fields)
	return pair(root(all[:size/2]...), root(all[size/2:]...))
}

// uintRoot and bytesRoot return the roots of a number and of a vector of bytes.
func uintRoot(n uint64) (h common.Hash) {
	binary.LittleEndian.PutUint64(h[:], n)
	return h
}

func bytesRoot(b []byte) common.Hash {
	var all []common.Hash
	for ; len(b) > 32; b = b[32:] {
		all = append(all, common.Hash(b[:32]))
	}
	return root(append(all, common.Hash(common.RightPadBytes(b, 32)))...)
}

// tree is a state or a body. It has some subtrees by generalized index; all others are filler.
type tree map[uint64]common.Hash

func (t tree) at(index uint64) common.Hash {
	h, known := t[index]
	switch {
	case known:
	case index >= 128:
		h = filler("leaf", index)
	default:
		h = pair(t.at(2*index), t.at(2*index+1))
	}
	t[index] = h
	return h
}

func (t tree) branch(index uint64) (siblings []common.Hash) {
	for ; index > 1; index /= 2 {
		siblings = append(siblings, t.at(index^1))
	}
	return siblings
}
