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
	return find(root, key, known, used)
}

// find is leaf without its bounds.
func find(root common.Hash, key []byte, known, used nodes) ([]byte, error) {
	way := route{known, nodes{}}
	value, err := trie.VerifyProof(root, crypto.Keccak256(key), way)
	if err != nil {
		return nil, invalid("%v", err)
	}
	for hash, n := range way.used {
		if used[hash] == nil {
			used[hash] = bytes.Clone(n)
		}
	}
	return value, nil
}

// route notes the nodes that are asked for.
type route struct{ nodes, used nodes }

func (r route) Has(hash []byte) (bool, error) { return r.nodes.Has(hash) }

func (r route) Get(hash []byte) ([]byte, error) {
	n, err := r.nodes.Get(hash)
	if n != nil {
		r.used[common.BytesToHash(hash)] = n
	}
	return n, err
}

// nodes are trie nodes by hash, an ethdb.KeyValueReader.
type nodes map[common.Hash][]byte

func (n nodes) Has(hash []byte) (bool, error) {
	_, ok := n[common.BytesToHash(hash)]
	return ok, nil
}

func (n nodes) Get(hash []byte) ([]byte, error) { return n[common.BytesToHash(hash)], nil }
