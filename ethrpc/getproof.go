package ethrpc

import (
	"encoding/json"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

const (
	keysAtOnce  = 256 // of one eth_getProof; geth allows 1,024
	proofWeight = 8   // of the account in it
)

// getProof is one eth_getProof.
type getProof struct {
	*transport.Call
	addr common.Address
	keys []common.Hash
}

func newGetProof(addr common.Address, keys []common.Hash, ref any) getProof {
	if keys == nil {
		keys = []common.Hash{}
	}
	return getProof{&transport.Call{Method: "eth_getProof", Args: []any{addr, keys, ref}, Weight: proofWeight + len(keys)}, addr, keys}
}

// addTo verifies the answer.
func (g getProof) addTo(state *proof.VerifiedState) error {
	account, slots, err := decodeProof(g.Result, len(g.keys))
	if err != nil {
		return fmt.Errorf("reading eth_getProof of %s: %w", g.addr, err)
	}
	if err := state.AddAccount(g.addr, account); err != nil {
		return err
	}
	if a, _ := state.Account(g.addr); a == nil {
		return nil
	}
	for i, key := range g.keys {
		if err := state.AddSlot(g.addr, key, slots[i]); err != nil {
			return err
		}
	}
	return nil
}

// decodeProof decodes an answer to eth_getProof for n keys. The values that the provider gives beside the nodes are not
// looked at: what nodes prove is read from them.
func decodeProof(raw json.RawMessage, n int) (account [][]byte, slots [][][]byte, err error) {
	var a *struct {
		AccountProof []hexutil.Bytes
		StorageProof []struct{ Proof []hexutil.Bytes }
	}
	switch err := json.Unmarshal(raw, &a); {
	case err != nil:
		return nil, nil, fmt.Errorf("%w: it cannot be decoded", proof.ErrInvalid)
	case a == nil:
		return nil, nil, transport.ErrNull
	case len(a.StorageProof) != n:
		return nil, nil, fmt.Errorf("%w: %d storage proofs came for %d keys", proof.ErrInvalid, len(a.StorageProof), n)
	}
	for _, s := range a.StorageProof {
		slots = append(slots, nodes(s.Proof))
	}
	return nodes(a.AccountProof), slots, nil
}

func nodes(in []hexutil.Bytes) [][]byte {
	out := make([][]byte, len(in))
	for i, n := range in {
		out[i] = n
	}
	return out
}
