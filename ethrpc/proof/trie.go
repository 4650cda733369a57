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

// ErrInvalid reports a proof that does not verify.
var ErrInvalid = errors.New("invalid proof")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

const (
	maxNodes = 65   // in a proof; a path has 64 nibbles
	maxNode  = 1024 // bytes of a node; a full branch has 532
)

// nodes are trie nodes by hash.
type nodes map[common.Hash][]byte

// NodeReader and Node implement the database of the trie package.
func (n nodes) NodeReader(common.Hash) (database.NodeReader, error) { return n, nil }

func (n nodes) Node(_ common.Hash, _ []byte, hash common.Hash) ([]byte, error) { return n[hash], nil }

func byHash(all [][]byte) nodes {
	out := make(nodes, len(all))
	for _, b := range all {
		out[crypto.Keccak256Hash(b)] = b
	}
	return out
}

// proveKey returns the value at the hash of key in the trie with that root, or nil if the key has no value. It adds the nodes on the path
// to used. Other nodes are ignored, as in go-ethereum.
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

// lookUp is like proveKey, without its bounds and over several sources of nodes. If no source has a node on the path, missingNode
// is its hash.
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

// nodeRecorder serves trie nodes and records those that were used.
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
