package simtest_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// spoil sets the fault of a provider.
func (w *world) spoil(ctx context.Context, a act) {
	w.ills[a.N] = a.What
	if a.What == "well" {
		w.ills[a.N] = ""
	}
	head, err := w.head(ctx)
	w.err = errors.Join(w.err, err)
	f := w.fault(a, head)
	f.When = whens[a.ID]
	w.doors[a.N].Set(f)
}

// whens selects the requests of a fault: all, every second, or the third to the fifth.
var whens = [ids]rpcfault.When{{}, {Every: 2}, {From: 2, Count: 3}}

func (w *world) fault(a act, head uint64) rpcfault.Fault {
	noProofs := rpcfault.Refuse("eth_getProof", -32601, "the method eth_getProof does not exist/is not available")
	switch a.What {
	case "late":
		return rpcfault.Late(5 * time.Millisecond)
	case "resets":
		return rpcfault.Reset
	case "breaks off":
		return rpcfault.BreaksOff
	case "truncated":
		return rpcfault.Truncated
	case "corrupt":
		return rpcfault.Corrupt(7)
	case "web page":
		return rpcfault.Body("web page", "text/html", "<html>back soon</html>")
	case "down":
		return rpcfault.Status(http.StatusServiceUnavailable, "")
	case "no proofs":
		return noProofs
	case "no logs":
		return rpcfault.Refuse("eth_getLogs", -32601, "not on this plan")
	case "proves one contract":
		one := strings.ToLower(w.at[a.List].Hex())
		return rpcfault.Fault{Reply: func(c rpcfault.Call, r *rpcfault.Answer) {
			if len(c.Params) > 0 && !strings.Contains(strings.ToLower(string(c.Params[0])), one) {
				noProofs.Reply(c, r)
			}
		}}
	case "pruned":
		return rpcfault.Pruned
	case "lags":
		return w.stale(head - 2)
	case "goes back":
		return w.stale(max(w.base, head-min(40, head)))
	case "ignores hashes":
		return rpcfault.IgnoresBlockHash
	case "refuses hashes":
		return rpcfault.RefusesBlockObject
	case "wrong ids":
		return rpcfault.WrongID
	case "short batch":
		return rpcfault.ShortBatch
	case "null results":
		return rpcfault.Null("eth_call")
	case "other chain":
		return rpcfault.ChainID(1)
	case "lies in calls":
		return rpcfault.LieInCalls
	case "lies in storage":
		return rpcfault.LieInStorage
	case "lies in proofs":
		return rpcfault.LieInProofs(7)
	case "lies in code":
		return rpcfault.OtherCode("0x6001")
	case "lies in hashes":
		return rpcfault.LieInBlocks()
	case "drops logs":
		return rpcfault.DropLogs(0)
	case "invents logs":
		return rpcfault.InventLogs
	case "lies without proof":
		return rpcfault.Join(noProofs, rpcfault.LieInCalls)
	default:
		return rpcfault.Fault{}
	}
}

func (w *world) stale(head uint64) rpcfault.Fault {
	var mu sync.Mutex
	known := map[string]bool{}
	return rpcfault.Stale(head, func(hash string) bool {
		mu.Lock()
		defer mu.Unlock()
		newer, ok := known[hash]
		if !ok {
			h, err := w.Client().HeaderByHash(context.Background(), common.HexToHash(hash))
			newer = err == nil && h.Number.Uint64() > head
			known[hash] = newer
		}
		return newer
	})
}

// heal ends the lies that an auditor believes by design. A lie is detected by a proof, or by another provider that must agree.
// Another hash for a block may be that of a fork, unless proofs are required. Missing logs are detected by a proof, and another
// provider has them. "lies without proof" is believed: then the law is weaker.
func (w *world) heal() {
	lies := func(ill string) bool { return strings.HasPrefix(ill, "lies") }
	for i, ill := range w.ills {
		others := slices.ContainsFunc(w.ills, func(o string) bool { return lies(o) && o != ill })
		alone := !slices.ContainsFunc(slices.Delete(slices.Clone(w.ills), i, i+1), lies) // else two may tell the same lie
		proven, agreed := w.Verify != "off", w.Agreement > 1 && alone
		believed := false
		switch ill {
		case "lies in calls", "lies in storage", "lies in proofs", "lies in code":
			believed = !proven && !agreed || others
		case "lies in hashes":
			believed = w.Verify != "required" && !agreed
		case "lies without proof":
			believed = w.Verify != "auto" || others
		case "drops logs":
			believed = !proven || w.Providers < 2 || w.ills[1-i] != ""
		}
		if believed {
			w.spoil(context.Background(), act{What: "well", N: i})
		}
	}
}
