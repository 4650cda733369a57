package consensus

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"github.com/ethereum/go-ethereum/common"
)

// Hash tree roots (ssz/simple-serialize.md): a value is split into 32-byte chunks, the first leaves of a binary tree. The other
// leaves are zero.

func hashPair(left, right common.Hash) common.Hash {
	var both [64]byte
	copy(both[:32], left[:])
	copy(both[32:], right[:])
	return sha256.Sum256(both[:])
}

// merkleize returns the root of the smallest tree that holds the chunks. It overwrites them.
func merkleize(chunks ...common.Hash) common.Hash {
	var zero common.Hash // root of an empty tree of the current height
	for len(chunks) > 1 {
		half := (len(chunks) + 1) / 2
		for i := range half {
			right := zero
			if 2*i+1 < len(chunks) {
				right = chunks[2*i+1]
			}
			chunks[i] = hashPair(chunks[2*i], right)
		}
		chunks, zero = chunks[:half], hashPair(zero, zero)
	}
	return chunks[0]
}

// chunked splits bytes into chunks, and pads the last one with zeros.
func chunked(b []byte) []common.Hash {
	chunks := make([]common.Hash, (len(b)+31)/32)
	for i := range chunks {
		copy(chunks[i][:], b[32*i:])
	}
	return chunks
}

// number returns the chunk of a uint64.
func number(n uint64) (chunk common.Hash) {
	binary.LittleEndian.PutUint64(chunk[:], n)
	return chunk
}

// proves reports whether leaf is at the generalized index of the tree with that root (is_valid_merkle_branch).
func proves(branch []common.Hash, leaf common.Hash, index uint64, root common.Hash) bool {
	if len(branch) != bits.Len64(index)-1 {
		return false
	}
	for _, sibling := range branch {
		if index&1 == 1 {
			leaf = hashPair(sibling, leaf)
		} else {
			leaf = hashPair(leaf, sibling)
		}
		index >>= 1
	}
	return leaf == root
}
