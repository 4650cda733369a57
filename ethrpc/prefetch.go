package ethrpc

import (
	"encoding/json"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// prefetch is what is asked of an account along with the block, by the same tag: another node may answer for another
// block, and then it does not fit the block's state root and is asked for again, by hash.
type prefetch struct {
	proof getProof
	code  *transport.Call // nil: it is known
	hints []*transport.Call
}

const (
	maxPrefetch     = 2048 // accounts: a thousand proxies and their implementations
	maxLikely       = 12   // contracts of which nothing is known yet, for the size of the requests
	maxHinted       = 128  // contracts that hints are asked for
	maxHintAccounts = 8    // of one call
	maxHintSlots    = 512  // of one account; kmsInfo holds a quote of some kilobytes
)

// prefetch asks for what showed the last time that nothing changed, and where that is nothing, of likely contracts for what
// comes first.
func (c *Client) prefetch(p *provider, likely []common.Address, ref any) (out []prefetch) {
	if c.verify == VerifyOff || p.cannotProve() != nil {
		return nil
	}
	if cache := c.proven.Load(); cache != nil {
		for _, a := range cache.accounts() {
			out = append(out, prefetch{proof: newGetProof(a, nil, ref)})
		}
		return out
	}
	for _, a := range likely[:min(len(likely), maxLikely)] {
		out = append(out, prefetch{newGetProof(a, kms.WellKnown, ref), &transport.Call{Method: "eth_getCode", Args: []any{a, ref}}, hintsFor(a, ref)})
	}
	return out
}

// accounts lists the accounts that the answers rest on.
func (c proofCache) accounts() (out []common.Address) {
	for _, m := range c {
		out = append(out, m.accounts...)
	}
	out = unique(out)
	return out[:min(len(out), maxPrefetch)]
}

func (f prefetch) calls() []*transport.Call {
	calls := append([]*transport.Call{f.proof.Call}, f.hints...)
	if f.code != nil {
		calls = append(calls, f.code)
	}
	return calls
}

// takePrefetched takes what fits, and is silent about what does not. Hints are by contract.
func takePrefetched(w *proof.VerifiedState, all []prefetch) (hints map[common.Address][]*transport.Call) {
	hints = map[common.Address][]*transport.Call{}
	for _, f := range all {
		if f.proof.addTo(w) != nil || f.code == nil {
			continue
		}
		if code, err := f.code.Bytes(); err == nil {
			_ = w.AddCode(code)
		}
		hints[f.proof.addr] = f.hints
	}
	return hints
}

// hintsFor asks for hints about a contract of which nothing is known yet, once.
func (r *prover) hintsFor(c *proving) []*transport.Call {
	if c.hinted || c.query.CodeOnly || r.hinted >= maxHinted || !slices.Contains(c.missing.Accounts, c.query.Contract) {
		return nil
	}
	c.hinted = true
	r.hinted++
	return hintsFor(c.query.Contract, r.at.ref())
}

// hintsFor asks what the coverage getters of a contract read. What a node answers is not believed, nor needed: it names
// early what the contract's code asks for later, so that there are fewer rounds.
func hintsFor(contract common.Address, ref any) []*transport.Call {
	var out []*transport.Call
	for _, c := range kms.FixedCalls {
		out = append(out, &transport.Call{
			Method: "eth_createAccessList", Args: []any{map[string]any{"to": contract, "input": hexutil.Bytes(c.Data)}, ref}, Probe: true,
		})
	}
	return out
}

// takeHints adds what the answers to hintsFor name to what is asked for next.
func (c *proving) takeHints(calls []*transport.Call) {
	for _, call := range calls {
		var list struct {
			AccessList []struct {
				Address     common.Address
				StorageKeys []common.Hash
			}
		}
		if call.Err != nil || json.Unmarshal(call.Result, &list) != nil {
			continue
		}
		for _, a := range list.AccessList[:min(len(list.AccessList), maxHintAccounts)] {
			c.hints.Accounts = append(c.hints.Accounts, a.Address)
			for _, key := range a.StorageKeys[:min(len(a.StorageKeys), maxHintSlots)] {
				c.hints.Slots = append(c.hints.Slots, proof.Slot{Account: a.Address, Key: key})
			}
		}
	}
}
