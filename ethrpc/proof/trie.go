package proof

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/ethdb"
	"github.com/ethereum/go-ethereum/trie"
	"github.com/ethereum/go-ethereum/triedb/database"
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

// nodes are trie nodes by hash.
type nodes map[common.Hash][]byte

// NodeReader makes nodes a database of the trie package, and Node reads from it.
func (n nodes) NodeReader(common.Hash) (database.NodeReader, error) { return n, nil }

func (n nodes) Node(_ common.Hash, _ []byte, hash common.Hash) ([]byte, error) { return n[hash], nil }

func byHash(all [][]byte) nodes {
	out := make(nodes, len(all))
	for _, b := range all {
		out[crypto.Keccak256Hash(b)] = b
	}
	return out
}

// proveKey returns what the trie with that root holds at the hash of key: nil is nothing. Nodes that the way there does not
// need are ignored, as they are by go-ethereum: they can neither add nor take away anything.
// The nodes that the way does need are put into used.
func proveKey(root common.Hash, key []byte, proof [][]byte, used nodes) ([]byte, error) {
	if len(proof) > maxNodes {
		return nil, invalid("it has %d nodes, more than %d", len(proof), maxNodes)
	}
	for i, n := range proof {
		if len(n) > maxNode {
			return nil, invalid("node %d has %d bytes, more than %d", i, len(n), maxNode)
		}
	}
	value, _, err := lookUp(root, key, used, byHash(proof))
	return value, err
}

// lookUp is proveKey without its bounds, over the nodes of several sources. Where a node is in none of them, missingNode is its hash.
func lookUp(root common.Hash, key []byte, used nodes, sources ...nodes) (value []byte, missingNode common.Hash, err error) {
	if root == types.EmptyRootHash {
		return nil, common.Hash{}, nil
	}
	path := &nodeRecorder{sources: sources, used: nodes{}}
	if value, err = trie.VerifyProof(root, crypto.Keccak256(key), path); err != nil {
		return nil, path.missingNode, invalid("%v", err)
	}
	for hash, n := range path.used {
		if used[hash] == nil {
			used[hash] = bytes.Clone(n)
		}
	}
	return value, common.Hash{}, nil
}

// nodeRecorder notes the nodes that are asked for.
type nodeRecorder struct {
	ethdb.KeyValueReader
	sources     []nodes
	used        nodes
	missingNode common.Hash
}

func (r *nodeRecorder) Get(hash []byte) ([]byte, error) {
	h := common.BytesToHash(hash)
	for _, source := range r.sources {
		if n := source[h]; n != nil {
			r.used[h] = n
			return n, nil
		}
	}
	r.missingNode = h
	return nil, nil
}
