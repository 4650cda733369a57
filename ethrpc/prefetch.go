//go:build ignore

package ethrpc

import (
	"encoding/json"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// early is what is asked of an account along with the block, by the same tag: another node may answer for another
// block, and then it does not fit the block's state root and is asked for again, by hash.
type early struct {
	proof *wanted
	code  *call // nil: it is known
	hints []*call
}

// earlyOf asks for what showed the last time that nothing changed, and of a likely contract for what comes first.
func (c *Client) earlyOf(p *provider, req Request, ref any) (out []early) {
	switch {
	case c.verify == VerifyOff || p.cannotProve() != nil:
	case c.proven != nil:
		for _, a := range c.proven.accounts {
			out = append(out, early{proof: wantProof(a, nil, ref)})
		}
	default:
		for _, a := range req.Likely[:min(len(req.Likely), maxLikely)] {
			out = append(out, early{wantProof(a, wellKnown, ref), &call{method: "eth_getCode", args: []any{a, ref}}, hintsFor(a, ref)})
		}
	}
	return out
}

func (e early) calls() []*call {
	calls := append([]*call{&e.proof.call}, e.hints...)
	if e.code != nil {
		calls = append(calls, e.code)
	}
	return calls
}

// takeEarly takes what fits, and is silent about what does not.
func (r *proving) takeEarly(all []early) {
	for _, e := range all {
		a, err := readProof(e.proof.result, len(e.proof.keys))
		if err != nil || r.world.AddAccount(e.proof.addr, a.account) != nil {
			continue
		}
		for i, key := range e.proof.keys {
			_ = r.world.AddSlot(e.proof.addr, key, a.slots[i])
		}
		if e.code != nil {
			if code, err := bytesOf(e.code.result); err == nil {
				_ = r.world.AddCode(code)
			}
			r.hint(e.hints)
			r.hinted[e.proof.addr] = true
		}
	}
}

const (
	maxLikely       = 12  // contracts that are hurried along, for the size of the requests
	maxHinted       = 128 // contracts that hints are asked for
	maxHintAccounts = 8   // of one call
	maxHintSlots    = 512 // of one account; kmsInfo holds a quote of some kilobytes
)

// hintsFor asks what the whole getters of a contract read. What a node answers is not believed, nor needed: it names
// early what the contract's code asks for later, so that there are fewer rounds.
func hintsFor(contract common.Address, ref any) []*call {
	var out []*call
	for _, e := range Whole(contract, nil, nil) {
		out = append(out, &call{method: "eth_createAccessList", args: []any{map[string]any{"to": contract, "input": hexutil.Bytes(e.Data)}, ref}, probe: true})
	}
	return out
}

// hint adds what the answers to hintsFor name to what is asked for next.
func (r *proving) hint(calls []*call) {
	for _, c := range calls {
		var list struct {
			AccessList []struct {
				Address     common.Address
				StorageKeys []common.Hash
			}
		}
		if c.err != nil || json.Unmarshal(c.result, &list) != nil {
			continue
		}
		for _, a := range list.AccessList[:min(len(list.AccessList), maxHintAccounts)] {
			r.hints.Accounts = append(r.hints.Accounts, a.Address)
			for _, key := range a.StorageKeys[:min(len(a.StorageKeys), maxHintSlots)] {
				r.hints.Slots = append(r.hints.Slots, slotOf(a.Address, key))
			}
		}
	}
}

// withHints adds the hints to what is missing, once.
func (r *proving) withHints(m proof.Missing) proof.Missing {
	for _, a := range r.hints.Accounts {
		if _, known := r.world.Account(a); !known {
			m.Accounts = append(m.Accounts, a)
		}
	}
	m.Slots = append(m.Slots, r.hints.Slots...)
	r.hints = proof.Missing{}
	return m
}
