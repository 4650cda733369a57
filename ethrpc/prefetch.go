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

// prefetch is what is asked along with the block, by the same tag: another node may answer for another block, and then it
// does not fit the block's state root and is asked for again, by hash.
type prefetch struct {
	requests []request
	hints    map[common.Address][]*transport.Call
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
func (c *Client) prefetch(p *provider, likely []common.Address, ref any) (out prefetch) {
	if c.verify == VerifyOff || p.cannotProve() != nil {
		return out
	}
	if cache := c.proven.Load(); cache != nil {
		for _, a := range cache.accounts() {
			out.requests = append(out.requests, requestProof(a, nil, ref))
		}
		return out
	}
	out.hints = map[common.Address][]*transport.Call{}
	for _, a := range likely[:min(len(likely), maxLikely)] {
		out.requests = append(out.requests, requestProof(a, kms.WellKnown, ref), requestCode(a, ref))
		out.hints[a] = hintsFor(a, ref)
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

func (f prefetch) calls() (out []*transport.Call) {
	for _, q := range f.requests {
		out = append(out, q.call)
	}
	for _, hints := range f.hints {
		out = append(out, hints...)
	}
	return out
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
