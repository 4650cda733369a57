package matrix_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/kms-auditor/kms-auditor/internal/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/faults"
	"github.com/kms-auditor/kms-auditor/internal/rpcfault"
)

// dish is a kind of fault, for providers, for the API, or for both.
type dish struct {
	wire  func(*rand.Rand) faults.Wire            // for both
	node  func(*rand.Rand, *scene) rpcfault.Fault // for providers
	event func(*rand.Rand, *scene) error          // of the chain, while a provider is asked; once
	api   func(*rand.Rand, *rig) faults.Wire      // for the API
	lie   bool                                    // only a proof or another provider finds it out
	slow  bool                                    // it takes a timeout
	whole bool                                    // of every request, or of none
}

func ms(r *rand.Rand, most int) time.Duration {
	return time.Duration(1+r.IntN(most)) * time.Millisecond
}

func oneOf[T any](r *rand.Rand, all ...T) T { return all[r.IntN(len(all))] }

func always(f rpcfault.Fault) func(*rand.Rand, *scene) rpcfault.Fault {
	return func(*rand.Rand, *scene) rpcfault.Fault { return f }
}

func plainly(w faults.Wire) func(*rand.Rand) faults.Wire {
	return func(*rand.Rand) faults.Wire { return w }
}

// answered are the methods whose answers decide something.
var answered = []string{"eth_chainId", "eth_getBlockByNumber", "eth_getCode", "eth_call", "eth_getProof", "eth_getLogs", "eth_getStorageAt", ""}

// menu is every kind of fault.
var menu = map[string]dish{
	"late":       {wire: func(r *rand.Rand) faults.Wire { return faults.Late(ms(r, 5)) }},
	"jitter":     {wire: func(r *rand.Rand) faults.Wire { return faults.Jitter(faults.UpTo(ms(r, 8))) }},
	"reset":      {wire: plainly(faults.Reset)},
	"half-open":  {wire: plainly(faults.HalfOpen), slow: true},
	"slow drip":  {wire: func(r *rand.Rand) faults.Wire { return faults.Drip(64+r.IntN(2000), time.Millisecond) }, slow: true},
	"breaks off": {wire: plainly(faults.BreaksOff)},
	"truncated":  {wire: plainly(faults.Truncated)},
	"corrupt":    {wire: func(r *rand.Rand) faults.Wire { return faults.Corrupt(r.Uint64()) }},
	"status":     {wire: func(r *rand.Rand) faults.Wire { return faults.Status(oneOf(r, 401, 403, 404, 429, 500, 502, 503, 504)) }},
	"web page":   {wire: plainly(faults.Says("text/html", func() []byte { return []byte("<html>back soon</html>") }))},
	"empty":      {wire: plainly(faults.Says("application/json", func() []byte { return nil }))},

	"no ids":           {node: always(rpcfault.NoIDs)},
	"wrong ids":        {node: always(rpcfault.WrongID)},
	"wrong version":    {node: always(rpcfault.WrongVersion)},
	"error and result": {node: always(rpcfault.ErrorAndResult)},
	"short batch":      {node: always(rpcfault.ShortBatch)},
	"long batch":       {node: always(rpcfault.LongBatch)},
	"one answer twice": {node: always(rpcfault.TwiceOne)},
	"foreign id":       {node: always(rpcfault.ForeignID)},
	"reordered":        {node: always(rpcfault.Reordered)},
	"null result":      {node: func(r *rand.Rand, _ *scene) rpcfault.Fault { return rpcfault.Null(oneOf(r, answered...)) }},
	"wrong type": {node: func(r *rand.Rand, _ *scene) rpcfault.Fault {
		return rpcfault.WrongType(oneOf(r, answered...), oneOf(r, `42`, `{}`, `"x"`, `true`, `[{}]`))
	}},
	"odd hex": {node: func(r *rand.Rand, _ *scene) rpcfault.Fault { return rpcfault.OddHex(oneOf(r, answered...)) }},
	// Code that is longer or shorter is other code, which only a proof tells.
	"short words": {node: func(r *rand.Rand, _ *scene) rpcfault.Fault {
		return rpcfault.ShortWord(oneOf(r, "eth_call", "eth_getStorageAt", "eth_chainId"))
	}},
	"long words": {node: func(r *rand.Rand, _ *scene) rpcfault.Fault {
		return rpcfault.LongWord(oneOf(r, "eth_call", "eth_getStorageAt", "eth_chainId"))
	}},
	"refused": {node: func(r *rand.Rand, _ *scene) rpcfault.Fault {
		return rpcfault.Refuse(oneOf(r, answered[:len(answered)-1]...), oneOf(r, -32000, -32005, -32601, -32603, 3),
			oneOf(r, "not on this plan", "execution timeout", "too many requests", "header not found", "Internal error"))
	}},
	"no proofs":            {node: always(rpcfault.Refuse("eth_getProof", -32601, "the method eth_getProof does not exist/is not available"))},
	"no logs":              {node: always(rpcfault.Refuse("eth_getLogs", -32601, "not on this plan"))},
	"batches refused":      {node: func(r *rand.Rand, _ *scene) rpcfault.Fault { return rpcfault.MaxBatch(1 + r.IntN(5)) }},
	"block object refused": {node: always(rpcfault.RefusesBlockObject)},
	// A provider that honours a block hash now and ignores it then is believed: the probe meets the one or the other.
	"block hash ignored": {node: always(rpcfault.IgnoresBlockHash), whole: true},
	"pruned":             {node: always(rpcfault.Pruned)},
	"stale": {node: func(r *rand.Rand, s *scene) rpcfault.Fault {
		head := max(s.now().number-min(uint64(r.IntN(4)), s.now().number-s.base), s.base)
		return rpcfault.Stale(head, s.newer(head))
	}},
	"invented logs": {node: always(rpcfault.InventLogs)},

	"a block comes": {event: func(_ *rand.Rand, s *scene) error { return s.mine(context.Background(), []op{{What: app}}) }},
	"a list changes": {event: func(r *rand.Rand, s *scene) error {
		return s.mine(context.Background(), []op{{oneOf(r, add, remove), r.IntN(contracts), r.IntN(2), r.IntN(ids)}})
	}},
	"reorganisation": {event: func(r *rand.Rand, s *scene) error { return s.undo(context.Background(), 1+r.IntN(3)) }},

	"other chain":          {node: always(rpcfault.ChainID(1))},
	"lies in calls":        {node: always(rpcfault.LieInCalls), lie: true},
	"lies in storage":      {node: always(rpcfault.LieInStorage), lie: true},
	"lies in proofs":       {node: func(r *rand.Rand, _ *scene) rpcfault.Fault { return rpcfault.LieInProofs(r.Uint64()) }, lie: true},
	"lies in block hashes": {node: func(*rand.Rand, *scene) rpcfault.Fault { return rpcfault.LieInBlocks() }, lie: true},
	"lies in code":         {node: func(r *rand.Rand, _ *scene) rpcfault.Fault { return rpcfault.OtherCode(oneOf(r, "0x", "0x6001")) }, lie: true},
	"dropped logs":         {node: func(r *rand.Rand, _ *scene) rpcfault.Fault { return rpcfault.DropLogs(r.IntN(3)) }, lie: true},

	"stale claim": {api: func(_ *rand.Rand, g *rig) faults.Wire {
		return onDetail(faults.Says("application/json", func() []byte { return encode(g.older) }))
	}},
	"wrong entry": {api: func(r *rand.Rand, g *rig) faults.Wire {
		e := edit{oneOf(r, flip, null, drop, contradict, malformed), r.IntN(contracts), r.IntN(2), r.IntN(listed)}
		return onDetail(faults.Says("application/json", func() []byte { return g.lie(e) }))
	}},
	"missing field": {api: func(r *rand.Rand, g *rig) faults.Wire {
		return g.commits(fakeapi.Fault{Name: fakeapi.Missing, Path: oneOf(r, "chain_id", "contracts", "chain_name")})
	}},
	"wrong types":    {api: func(_ *rand.Rand, g *rig) faults.Wire { return g.commits(fakeapi.Fault{Name: fakeapi.WrongTypes}) }},
	"null body":      {api: func(_ *rand.Rand, g *rig) faults.Wire { return g.commits(fakeapi.Fault{Name: fakeapi.Null}) }},
	"other chain id": {api: func(_ *rand.Rand, g *rig) faults.Wire { return g.commits(fakeapi.Fault{Name: fakeapi.WrongChainID}) }},
	"foreign row":    {api: func(_ *rand.Rand, g *rig) faults.Wire { return g.commits(fakeapi.Fault{Name: fakeapi.ForeignRow}) }},
	"page missing": {api: func(_ *rand.Rand, g *rig) faults.Wire {
		return g.commits(fakeapi.Fault{Name: fakeapi.Status, Status: 404, Endpoint: fakeapi.List, Page: 2})
	}},
	"page repeated": {api: func(_ *rand.Rand, g *rig) faults.Wire {
		return g.commits(fakeapi.Fault{Name: fakeapi.RepeatedPage, Endpoint: fakeapi.List})
	}},
	"item repeated": {api: func(_ *rand.Rand, g *rig) faults.Wire {
		return g.commits(fakeapi.Fault{Name: fakeapi.RepeatedItem, Endpoint: fakeapi.List})
	}},
	"list grows": {api: func(_ *rand.Rand, g *rig) faults.Wire {
		return g.commits(fakeapi.Fault{Name: fakeapi.Growing, Endpoint: fakeapi.List})
	}},
}

// onDetail lets a wire answer for the on-chain detail alone.
func onDetail(w faults.Wire) faults.Wire {
	return func(rw http.ResponseWriter, r *http.Request, next http.Handler, over <-chan struct{}) {
		if !isDetail(r) {
			next.ServeHTTP(rw, r)
			return
		}
		w(rw, r, next, over)
	}
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
