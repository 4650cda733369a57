//go:build ignore

package ethrpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// fetch asks for everything that is missing and verifies it. The node is asked along with it what is to be compared.
func (r *proving) fetch(ctx context.Context, m proof.Missing) error {
	slots, seen := map[common.Address][]common.Hash{}, map[proof.Slot]bool{}
	for _, s := range m.Slots {
		if !seen[s] {
			seen[s] = true
			slots[s.Account] = append(slots[s.Account], s.Key)
		}
	}
	var proofs []*wanted
	codes := map[common.Address]*call{}
	want := func(addr common.Address) {
		keys := slots[addr]
		delete(slots, addr)
		for {
			n := min(len(keys), keysAtOnce)
			proofs = append(proofs, wantProof(addr, keys[:n], r.at.ref()))
			if keys = keys[n:]; len(keys) == 0 {
				return
			}
		}
	}
	for _, a := range append(slices.Clone(m.Accounts), m.Codes...) {
		if codes[a] == nil {
			codes[a] = &call{method: "eth_getCode", args: []any{a, r.at.ref()}}
		}
	}
	for _, a := range unique(m.Accounts) {
		want(a)
	}
	for _, a := range sortedKeys(slots) {
		want(a)
	}
	calls := slices.Collect(maps.Values(codes))
	hints := r.askHints(m.Accounts)
	calls = append(calls, hints...)
	if err := r.send(ctx, calls, proofs); err != nil {
		return err
	}
	r.hint(hints)
	return r.take(proofs, codes)
}

// askHints asks for hints about contracts of which nothing is known but that they are missing.
func (r *proving) askHints(missing []common.Address) (out []*call) {
	for _, c := range r.contracts {
		if len(r.hinted) < maxHinted && !r.hinted[c] && slices.Contains(missing, c) {
			r.hinted[c] = true
			out = append(out, hintsFor(c, r.at.ref())...)
		}
	}
	return out
}

// send makes the calls, asks for the proofs, and says what waits: along with them where it is little.
func (r *proving) send(ctx context.Context, calls []*call, proofs []*wanted) error {
	said := make(chan error, 1)
	var along []*bundle
	if len(r.waiting) <= littleToSay {
		along = r.bundles()
		said <- nil
	} else {
		go func() { said <- r.say(ctx) }()
	}
	err := r.sendAll(ctx, calls, proofs, along)
	return cmp.Or(err, <-said)
}

func (r *proving) sendAll(ctx context.Context, calls []*call, proofs []*wanted, along []*bundle) error {
	for _, w := range proofs {
		calls = append(calls, &w.call)
	}
	size := r.p.batchSize.Load()
	err := r.p.do(ctx, slices.Concat(calls, callsOf(along)))
	if _, again := passing(err); err != nil && !again && ctx.Err() == nil && len(along) > 0 {
		for _, b := range along {
			b.err = err
		}
		r.p.batchSize.Store(size) // that the bundles were refused says nothing of batches
		err = r.p.do(ctx, calls)
	}
	if err != nil {
		return fmt.Errorf("proving at block %d: %w", r.at.block.Number, err)
	}
	return r.hear(along)
}

// take verifies what came.
func (r *proving) take(proofs []*wanted, codes map[common.Address]*call) error {
	for _, w := range proofs {
		if w.err != nil {
			if err := fault(r.at, w.err); errors.Is(err, errUnknownBlock) {
				return err
			}
			return fmt.Errorf("%w: eth_getProof: %w", ErrNoProof, w.err)
		}
		a, err := readProof(w.result, len(w.keys))
		if err != nil {
			return fmt.Errorf("reading eth_getProof of %s: %w", w.addr, err)
		}
		if err := r.world.AddAccount(w.addr, a.account); err != nil {
			return err
		}
		if acct, _ := r.world.Account(w.addr); acct == nil {
			continue
		}
		for i, key := range w.keys {
			if err := r.world.AddSlot(w.addr, key, a.slots[i]); err != nil {
				return err
			}
		}
	}
	for addr, c := range codes {
		if err := fault(r.at, c.err); err != nil {
			return err
		}
		code, err := bytesOf(c.result)
		if err != nil {
			return fmt.Errorf("reading the code of %s: %w", addr, err)
		}
		acct, known := r.world.Account(addr)
		if !known || acct == nil || common.BytesToHash(acct.CodeHash) == emptyCode {
			continue
		}
		if err := r.world.AddCode(code); err != nil {
			return fmt.Errorf("the code of %s: %w", addr, err)
		}
	}
	return nil
}
