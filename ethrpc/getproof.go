package ethrpc

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

const (
	keysAtOnce  = 256 // of one eth_getProof; geth allows 1,024
	proofWeight = 8   // of the account in it
)

// wanted is one eth_getProof.
type wanted struct {
	call
	addr common.Address
	keys []common.Hash
}

func wantProof(addr common.Address, keys []common.Hash, ref any) *wanted {
	if keys == nil {
		keys = []common.Hash{}
	}
	return &wanted{call{method: "eth_getProof", args: []any{addr, keys, ref}, weight: proofWeight + len(keys)}, addr, keys}
}

// accountProof is the answer to one eth_getProof: nodes only, since what they prove is read from them.
type accountProof struct {
	account [][]byte
	slots   [][][]byte
}

// readProof reads an answer to eth_getProof for n keys. The values that the provider gives beside the nodes are not looked at.
func readProof(raw json.RawMessage, n int) (accountProof, error) {
	var a *struct {
		AccountProof []hexutil.Bytes
		StorageProof []struct{ Proof []hexutil.Bytes }
	}
	switch err := json.Unmarshal(raw, &a); {
	case err != nil:
		return accountProof{}, fmt.Errorf("%w: it cannot be decoded", proof.ErrInvalid)
	case a == nil:
		return accountProof{}, errNull
	case len(a.StorageProof) != n:
		return accountProof{}, fmt.Errorf("%w: %d storage proofs came for %d keys", proof.ErrInvalid, len(a.StorageProof), n)
	}
	out := accountProof{account: nodes(a.AccountProof)}
	for _, s := range a.StorageProof {
		out.slots = append(out.slots, nodes(s.Proof))
	}
	return out, nil
}

func nodes(in []hexutil.Bytes) [][]byte {
	out := make([][]byte, len(in))
	for i, n := range in {
		out[i] = n
	}
	return out
}

func sortedKeys[V any](m map[common.Address]V) []common.Address {
	return slices.SortedFunc(maps.Keys(m), common.Address.Cmp)
}

func unique(in []common.Address) []common.Address {
	out := slices.Clone(in)
	slices.SortFunc(out, common.Address.Cmp)
	return slices.Compact(out)
}
