package ethrpc

import (
	"encoding/json"
	"errors"
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

// request is a call, and what verifies its answer and adds it to the state of the pinned block.
type request struct {
	call   *transport.Call
	verify func(at *Pinned, state *proof.VerifiedState) error
}

// requestProof asks for the proof of an account and of slots of it.
func requestProof(addr common.Address, keys []common.Hash, ref any) request {
	if keys == nil {
		keys = []common.Hash{}
	}
	c := &transport.Call{Method: "eth_getProof", Args: []any{addr, keys, ref}, Weight: proofWeight + len(keys)}
	return request{c, func(at *Pinned, state *proof.VerifiedState) error {
		if c.Err != nil {
			if err := providerError(at, c.Err); errors.Is(err, errUnknownBlock) {
				return err
			}
			return fmt.Errorf("%w: eth_getProof: %w", ErrNoProof, c.Err)
		}
		account, slots, err := decodeProof(c.Result, len(keys))
		if err != nil {
			return fmt.Errorf("reading eth_getProof of %s: %w", addr, err)
		}
		if err := state.AddAccount(addr, account); err != nil {
			return err
		}
		if a, _ := state.Account(addr); a == nil {
			return nil
		}
		for i, key := range keys {
			if err := state.AddSlot(addr, key, slots[i]); err != nil {
				return err
			}
		}
		return nil
	}}
}

// requestCode asks for the code of an account, which is to be proven before.
func requestCode(addr common.Address, ref any) request {
	c := getCode(addr, ref)
	return request{c, func(at *Pinned, state *proof.VerifiedState) error {
		if err := providerError(at, c.Err); err != nil {
			return err
		}
		code, err := c.Bytes()
		if err != nil {
			return fmt.Errorf("reading the code of %s: %w", addr, err)
		}
		if state.HasNoCode(addr) {
			return nil
		}
		if err := state.AddCode(code); err != nil {
			return fmt.Errorf("the code of %s: %w", addr, err)
		}
		return nil
	}}
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
