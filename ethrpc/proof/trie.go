package proof

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/trie"
)

// ErrInvalid marks what a provider gave as a proof and is none.
var ErrInvalid = errors.New("invalid proof")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

const (
	maxNodes = 65   // of a proof: the path has 64 nibbles
	maxNode  = 1024 // bytes; a full branch has 532
)

// leaf is what the trie with that root holds at the hash of key: nil is nothing. Nodes that the way there does not
// need are ignored, as they are by go-ethereum: they can neither add nor take away anything.
// The nodes that the way does need are put into used.
func leaf(root common.Hash, key []byte, proof [][]byte, used nodes) ([]byte, error) {
	if root == types.EmptyRootHash {
		return nil, nil
	}
	if len(proof) > maxNodes {
		return nil, invalid("it has %d nodes, more than %d", len(proof), maxNodes)
	}
	known := make(nodes, len(proof))
	for i, n := range proof {
		if len(n) > maxNode {
			return nil, invalid("node %d has %d bytes, more than %d", i, len(n), maxNode)
		}
		known[crypto.Keccak256Hash(n)] = n
	}
	value, _, err := find(root, key, used, known)
	return value, err
}

// find is leaf without its bounds, over the nodes of several sources. Where a node is in none of them, lacks is its hash.
func find(root common.Hash, key []byte, used nodes, sources ...nodes) (value []byte, lacks common.Hash, err error) {
	way := &route{sources: sources}
	if value, err = trie.VerifyProof(root, crypto.Keccak256(key), way); err != nil {
		return nil, way.lacks, invalid("%v", err)
	}
	for hash, n := range way.used {
		if used[hash] == nil {
			used[hash] = bytes.Clone(n)
		}
	}
	return value, common.Hash{}, nil
}

// route notes the nodes that are asked for.
type route struct {
	sources []nodes
	used    nodes
	lacks   common.Hash
}

func (r *route) Has(hash []byte) (bool, error) {
	n, err := r.Get(hash)
	return n != nil, err
}

func (r *route) Get(hash []byte) ([]byte, error) {
	h := common.BytesToHash(hash)
	for _, source := range r.sources {
		if n := source[h]; n != nil {
			if r.used == nil {
				r.used = nodes{}
			}
			r.used[h] = n
			return n, nil
		}
	}
	r.lacks = h
	return nil, nil
}

// nodes are trie nodes by hash.
type nodes map[common.Hash][]byte
