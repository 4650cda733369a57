package observe_test

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// TestWhatIsAskedBesideCostsNothing: a provider that fails to answer events in a batch, or answers them late, still pins and
// proves. The events are read separately.
func TestWhatIsAskedBesideCostsNothing(t *testing.T) {
	for sentence, fail := range map[string]func(http.ResponseWriter, *http.Request){
		"they are refused with the others":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestEntityTooLarge) },
		"they make the others late":         func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"the connection breaks in between":  func(w http.ResponseWriter, _ *http.Request) { rpcfault.ResetConnection(w) },
		"the answer to all of them is HTML": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
	} {
		for _, named := range []bool{false, true} {
			t.Run(sentence, func(t *testing.T) {
				t.Parallel()
				w := provenWorld(t)
				w.send("registerApp", w.kms.Address())
				w.send("addKmsAggregatedMr", id("b1"))
				w.verify = ethrpc.VerifyRequired
				if named {
					w.want(audit.Policy{})
				}
				var busy atomic.Bool
				w.proxy.Set(rpcfault.Fault{HTTP: func(rw http.ResponseWriter, r *http.Request, calls []rpcfault.Call, _ bool) bool {
					logs := 0
					for _, c := range calls {
						if c.Method == "eth_getLogs" {
							logs++
						}
					}
					beside := logs > 0 && len(calls) > logs+1 // one asks for the block that the logs end with
					// A node that is busy with them does not say that it is there.
					silent := beside || busy.Load() && len(calls) == 1 && calls[0].Method == "eth_chainId"
					if busy.Store(silent); silent {
						fail(rw, r)
					}
					return silent
				}})
				w.auditor().says(audit.Consistent, "")
			})
		}
	}
}
