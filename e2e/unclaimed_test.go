//go:build e2e

package e2e_test

import (
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kms-auditor/kms-auditor/audit"
)

// dials returns a URL whose server never answers, and counts connections to it.
func dials(t *testing.T) (url string, dialled *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	dialled = new(atomic.Int32)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			dialled.Add(1)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return "http://" + l.Addr().String() + "/api/v1", dialled
}

// TestAKMSWithoutAnAPI compares an operator's own contract with the policy from its snapshot, without an API: snapshot, review,
// commit, audit.
func TestAKMSWithoutAnAPI(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *stage) {
		url, dialled := dials(t)
		c := s.node.settings(s.api)
		c.API.BaseURL, c.CrossChecks, c.Chains[0].Claims = url, true, "none"
		base := c.yaml(t)
		alone := base + "    contracts: [{address: \"" + s.kms.Address().Hex() + "\"}]\n"
		run := func(exit int, config string, args ...string) string {
			t.Helper()
			code, out, errs := runAuditor(t, append(args, "-c", writeConfig(t, config))...)
			if code != exit {
				t.Fatalf("%s exits with %d, want %d\n%s%s", strings.Join(args, " "), code, exit, out, errs)
			}
			return out
		}
		if out := run(0, alone, "config", "check", "--online"); strings.Contains(out, "api") {
			t.Errorf("the API is checked:\n%s", out)
		}
		// Without a policy the contract is unknown. The report shows its values and how to write a policy.
		if out := run(3, alone, "audit", "--once"); !hasAll(out, []string{"kms-auditor policy snapshot --chain base --contract " + s.kms.Address().Hex(), "4 unclaimed"}) {
			t.Errorf("without a policy:\n%s", out)
		}
		governed := base + run(0, alone, "policy", "snapshot", "--chain", "base", "--contract", s.kms.Address().Hex())
		if out := run(0, governed, "policy", "diff"); out != "" {
			t.Errorf("a snapshot differs from its contract:\n%s", out)
		}
		audited := func(exit int, config, want string) {
			t.Helper()
			file := filepath.Join(t.TempDir(), "evidence.json")
			r := decodeReport(t, run(exit, config, "audit", "--once", "-o", "json", "--evidence", file))
			chain := r.Chains[0]
			if got := found(chain.Targets[0]); got != want || chain.Claim != nil || chain.Claims != audit.ClaimNone || len(chain.Errors) > 0 {
				t.Errorf("%s, want %s; claim %v, claims %q, errors %v", got, want, chain.Claim, chain.Claims, chain.Errors)
			}
			if code, out, errs := runAuditorIn(t, offline(), nil, "verify", file); code != exit {
				t.Errorf("verify exits with %d, want %d\n%s%s", code, exit, out, errs)
			}
		}
		audited(0, governed, "consistent "+wholly)
		must(t, allow059(t.Context(), s))
		audited(1, governed, "drift "+wholly+" policy_denied_chain_allowed")
		if out := run(1, governed, "policy", "diff"); !strings.HasSuffix(out, "\n           os_images:\n+            - \"0x"+image059+"\"\n") {
			t.Errorf("the difference is\n%s", out)
		}
		audited(0, base+run(0, alone, "policy", "snapshot"), "consistent "+wholly) // reviewed, and committed
		must(t, refuse059(t.Context(), s))
		audited(0, governed, "consistent "+wholly)

		// The daemon needs no API to be ready, and sees a change.
		c.Schedule, c.Web = "@every 1s", &webSettings{Listen: []string{"127.0.0.1:0"}}
		wants(map[string]any{"os_images": []string{"0x" + image057, "0x" + image058}})(s, &c)
		d := startDaemon(t, c)
		d.finds(t, "consistent")
		d.page(t, "/-/ready")
		if page := d.page(t, "/"); !strings.Contains(page, "no API covers this chain") || strings.Contains(page, "could not be read") {
			t.Errorf("the page has about the claim:\n%s", page)
		}
		must(t, s.kms.RemoveImage(t.Context(), id(image057)))
		d.await(t, 0, `"event":"finding_opened"`, "policy_allowed_chain_denied")
		if n := dialled.Load(); n > 0 {
			t.Errorf("the API was dialled %d times", n)
		}
		if n, err := s.api.requests(); err != nil || n > 0 {
			t.Errorf("the API was asked %d times (%v)", n, err)
		}
	})
}
