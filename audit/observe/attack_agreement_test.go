package observe_test

import (
	"net/http"
	"testing"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
)

// TestAgreementWithAnAnchor: two providers, one of which is behind, agree about the block that the committee finalized.
func TestAgreementWithAnAnchor(t *testing.T) {
	for _, verify := range []ethrpc.Verify{ethrpc.VerifyAuto, ethrpc.VerifyOff} {
		w := newAnchoredWorld(t)
		w.verify = verify
		w.mine(10)
		w.finalize(70)
		w.rpc = append(w.rpc, w.serve(w.proxy))
		w.world.intent.Agreement = 2
		r := w.auditor().says(audit.Consistent, "")
		if trustOf(r) != audit.TrustConsensus {
			t.Error(text(t, r))
		}
		// one of them invents its chain
		liar := w.invented(90)
		w.rpc[0] = w.serve(http.Handler(liar))
		r = w.auditor().audit()
		t.Log(verify, r.Verdict, trustOf(r), kindsOf(r))
	}
}
