//go:build e2e

package e2e_test

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/fakeapi"
)

// TestAnOutageResolvesNoAlert: while the API is down, and the daemon is restarted, what is open goes on to page.
func TestAnOutageResolvesNoAlert(t *testing.T) {
	const waits = 5 * time.Second // of every rule
	s := newScene(t, 3, 1)
	s.settings.State = filepath.Join(t.TempDir(), "state.db")
	d := startDaemon(t, s.settings)
	var at atomic.Pointer[url.URL]
	scraped := serve(t, &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(at.Load()) }})
	follow := func() {
		u, err := url.Parse(d.url)
		must(t, err)
		at.Store(u)
	}
	follow()
	page, _, p := startPaging(t, scraped, waits.String())
	d.finds(t, "consistent")

	lie := s.claim()
	lie.Contracts[0].Devices = lie.Contracts[0].Devices[1:]
	lie.Contracts[0].Devices[0].Allowed = new(false)
	must(t, s.api.put(lie))
	const firing = `count(ALERTS{alertname="KMSAuditorCriticalFinding",alertstate="firing"})`
	p.becomes(t, firing, 2)
	if m := page.next(t, "KMSAuditorCriticalFinding"); m.Status != "firing" {
		t.Errorf("the page says %s", m.Status)
	}
	// stands fails the test where an alert ends within three times what its rule waits, or the page does not say what is open.
	stands := func(when string) {
		t.Helper()
		for end := time.Now().Add(3 * waits); time.Now().Before(end); d.audit(t) {
			if n, _ := p.value(t, firing); n != 2 {
				t.Fatalf("%s: %v alerts fire, want 2", when, n)
			}
		}
		if text := d.page(t, "/"); !hasAll(text, []string{s.devices[0].Hex()[:10], s.devices[1].Hex()[:10], "unlisted_chain_allowed", "claim_denied_chain_allowed"}) {
			t.Errorf("%s: the page does not say what is open:\n%s", when, text)
		}
	}
	must(t, s.api.fail(fakeapi.Fault{Name: fakeapi.Status, Status: http.StatusServiceUnavailable}))
	d.finds(t, "unknown")
	stands("the API is down")
	d.end(t, syscall.SIGTERM)
	d = startDaemon(t, s.settings)
	follow()
	d.finds(t, "unknown")
	stands("the daemon was restarted")
	must(t, s.api.heal())
	d.finds(t, "drift")
	stands("the API lies again")
	for len(page) > 0 {
		if m := <-page; m.Status != "firing" {
			t.Errorf("the page is taken back: %+v", m)
		}
	}
	must(t, s.api.put(s.claim()))
	for m := page.next(t, "KMSAuditorCriticalFinding"); m.Status != "resolved"; {
		m = page.next(t, "KMSAuditorCriticalFinding")
	}
	d.finds(t, "consistent")
}

// kinds are the findings of a target, each as its kind and, where it is not confirmed, its state.
func kinds(t audit.Target) (out []string) {
	for _, f := range t.Findings {
		text := string(f.Kind)
		if f.State != audit.Confirmed {
			text += " " + string(f.State)
		}
		out = append(out, text)
	}
	return out
}

// TestTheAPIHidesNoPolicyFinding: whatever the API does, a contract that is configured is held against its policy.
func TestTheAPIHidesNoPolicyFinding(t *testing.T) {
	s := newScene(t, 2, 1)
	s.settings.Web = nil
	s.settings.Chains[0].Contracts = []contractSettings{{Address: s.kms.Address().Hex(), Policy: map[string]any{
		"owner": somewhere, "devices": []string{s.devices[0].Hex()},
	}}}
	for _, row := range []struct {
		sentence string
		claim    func(*fakeapi.Chain)
		fault    fakeapi.Fault
		finds    []string // beside those of the policy
	}{
		{sentence: "the API tells the truth"},
		{sentence: "the API lists nothing", claim: func(c *fakeapi.Chain) { c.Contracts = nil }, finds: []string{"contract_not_listed"}},
		{sentence: "the API fails", fault: fakeapi.Fault{Name: fakeapi.Status, Status: 500}},
		{sentence: "the API refuses the key", fault: fakeapi.Fault{Name: fakeapi.Status, Status: 403}},
		{sentence: "the API does not answer", fault: fakeapi.Fault{Name: fakeapi.Hang}},
		{sentence: "the API lists another chain", fault: fakeapi.Fault{Name: fakeapi.WrongChainID}, finds: []string{"chain_mismatch"}},
		{sentence: "the API lists the contract on another chain", fault: fakeapi.Fault{Name: fakeapi.ForeignRow}, finds: []string{"chain_mismatch"}},
		{sentence: "the API lists the contract twice", claim: func(c *fakeapi.Chain) { c.Contracts = append(c.Contracts, c.Contracts[0]) }},
		{sentence: "the API lists the contract once with and once without entries", claim: func(c *fakeapi.Chain) {
			c.Contracts = append(c.Contracts, c.Contracts[0])
			c.Contracts[0].Devices, c.Contracts[0].OSImages = nil, nil
		}},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			claim := s.claim()
			if row.claim != nil {
				row.claim(&claim)
			}
			must(t, s.api.put(claim))
			must(t, s.api.heal())
			if row.fault.Name != "" {
				must(t, s.api.fail(row.fault))
			}
			exit, out, errs := runAuditor(t, "audit", "--once", "-o", "json", "-c", writeConfig(t, s.settings))
			if exit != 1 {
				t.Errorf("exit code %d\n%s%s", exit, out, errs)
			}
			targets := decodeReport(t, out).Chains[0].Targets
			if len(targets) != 1 {
				t.Fatalf("%d targets, want the one that is configured\n%s", len(targets), out)
			}
			got := kinds(targets[0])
			for _, want := range append(row.finds, "owner_changed", "policy_denied_chain_allowed") {
				if !slices.Contains(got, want) {
					t.Errorf("no %s among %q", want, got)
				}
			}
		})
	}
}

// TestAContractIsAuditedUntilItIsForgotten: the API lists it no more, and what happens to it is found all the same.
func TestAContractIsAuditedUntilItIsForgotten(t *testing.T) {
	s := newScene(t, 2, 1)
	s.settings.State = filepath.Join(t.TempDir(), "state.db")
	d := startDaemon(t, s.settings)
	d.finds(t, "consistent")
	nothing := s.claim()
	nothing.Contracts = nil
	must(t, s.api.put(nothing))
	d.finds(t, "drift")
	hidden := common.HexToHash(unheard)
	must(t, s.kms.AllowDevice(t.Context(), hidden))
	d.finds(t, "drift")
	d.audit(t)
	series := `kms_auditor_open_finding{chain="base",contract="` + s.kms.Address().Hex() + `",id="` + hidden.Hex() + `"`
	if got := kinds(d.target(t)); !slices.Contains(got, "contract_not_listed") || !slices.Contains(got, "unlisted_chain_allowed") {
		t.Errorf("the API lists the contract no more: %q", got)
	}
	if metrics := d.page(t, "/metrics"); !strings.Contains(metrics, series) {
		t.Errorf("no %s in\n%s", series, metrics)
	}
	d.end(t, syscall.SIGTERM)
	d = startDaemon(t, s.settings)
	d.finds(t, "drift")

	from := len(d.logged())
	exit, out, errs := runAuditor(t, "forget", "--chain", "base", "--contract", s.kms.Address().Hex(), "-c", writeConfig(t, s.settings))
	if exit != 0 || !strings.Contains(out, "asked to forget it") {
		t.Fatalf("forget exits with %d\n%s%s", exit, out, errs)
	}
	d.await(t, from, `"event":"finding_resolved"`, hidden.Hex())
	d.audit(t)
	if targets := decodeReport(t, d.page(t, "/api/v1/report")).Chains[0].Targets; len(targets) != 0 {
		t.Errorf("it is audited still: %+v", targets)
	}
	if metrics := d.page(t, "/metrics"); strings.Contains(metrics, "kms_auditor_open_finding{") {
		t.Errorf("something is open still:\n%s", metrics)
	}
	if exit, out, errs := runAuditor(t, "history", "-c", writeConfig(t, s.settings)); exit != 0 || !strings.Contains(out, "forgotten") {
		t.Errorf("the history does not tell that the contract was forgotten: %d\n%s%s", exit, out, errs)
	}
}
