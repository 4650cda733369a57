package observe_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// TestDriftIsConfirmedWhileEndpointsHang, as they do behind a firewall: audits go on as without an anchor.
func TestDriftIsConfirmedWhileEndpointsHang(t *testing.T) {
	w := newAnchoredWorld(t)
	must(t, w.kms.AllowDevice(t.Context(), dev2))
	w.mine(40)
	w.finalize(64)
	w.world.opt.Timeout = 3 * time.Second // as 2m is to 40s
	hang := w.serve(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	w.opt.Endpoints = nil
	for _, name := range []string{"h1", "h2"} {
		w.opt.Endpoints = append(w.opt.Endpoints, anchor.Endpoint{Name: name, URL: sanitize.NewSecret(hang), Timeout: time.Second})
	}
	w.auditor().says(audit.Drift, "claim_denied_chain_allowed")
}
