//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
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
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// TestAnOutageResolvesNoAlert checks that open findings keep paging while the API is down and after a restart of the daemon.
func TestAnOutageResolvesNoAlert(t *testing.T) {
	t.Parallel()
	const waits = 5 * time.Second // of every rule
	s := newScene(t, 3, 1)
	s.settings.State = filepath.Join(t.TempDir(), "state.db")
	d := startDaemon(t, s.settings)
	var at atomic.Pointer[url.URL]
	scraped := testenv.Serve(t, &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(at.Load()) }})
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
	// stands fails the test if an alert ends within three times its rule's wait, or if the page does not show what is open.
	stands := func(when string) {
		t.Helper()
		for end := time.Now().Add(3 * waits); time.Now().Before(end); d.audit(t) {
			if n, _ := p.value(t, firing); n != 2 {
				t.Fatalf("%s: %v alerts fire, want 2", when, n)
			}
		}
		if text := d.page(t, "/"); !hasAll(text, []string{s.devices[0].Hex()[:10], s.devices[1].Hex()[:10], "unlisted_chain_allowed", "claim_denied_chain_allowed"}) {
			t.Errorf("%s: the page does not show what is open:\n%s", when, text)
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
			t.Errorf("the page is resolved: %+v", m)
		}
	}
	must(t, s.api.put(s.claim()))
	for m := page.next(t, "KMSAuditorCriticalFinding"); m.Status != "resolved"; {
		m = page.next(t, "KMSAuditorCriticalFinding")
	}
	d.finds(t, "consistent")
}

// kinds returns the kinds of a target's findings, and marks those that are open but not confirmed.
func kinds(t audit.Target) (out []string) {
	for _, f := range t.Findings {
		text := string(f.Kind)
		if f.State == audit.Still {
			text += " open"
		}
		out = append(out, text)
	}
	return out
}

// settled returns the only target of the last report, after two audits in a row with the verdict. The report of the very last one
// may not be served yet.
func (d *daemon) settled(t *testing.T, verdict string) audit.Target {
	t.Helper()
	d.finds(t, verdict)
	d.finds(t, verdict)
	return d.target(t)
}

// TestTheAPIHidesNoPolicyFinding checks that a configured contract is compared with its policy, whatever the API does.
func TestTheAPIHidesNoPolicyFinding(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2, 1)
	s.settings.Web = nil
	s.settings.Chains[0].Contracts = []contractSettings{{Address: s.kms.Address().Hex(), Policy: map[string]any{
		"owner": somewhere, "devices": []string{s.devices[0].Hex()},
	}}}
	for _, row := range []struct {
		sentence string
		claim    func(*fakeapi.Chain)
		fault    fakeapi.Fault
		finds    []string // besides those of the policy
	}{
		{sentence: "the API is right"},
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
				t.Fatalf("%d targets, want the configured one\n%s", len(targets), out)
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

// TestAContractIsAuditedUntilItIsForgotten has an API that no longer lists the contract. Changes are still found.
func TestAContractIsAuditedUntilItIsForgotten(t *testing.T) {
	t.Parallel()
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
	series := `kms_auditor_open_finding{chain="base",contract="` + s.kms.Address().Hex() + `",id="` + hidden.Hex() + `"`
	if got := kinds(d.settled(t, "drift")); !slices.Contains(got, "contract_not_listed") || !slices.Contains(got, "unlisted_chain_allowed") {
		t.Errorf("after the API stopped listing the contract: %q", got)
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
		t.Errorf("it is still audited: %+v", targets)
	}
	if metrics := d.page(t, "/metrics"); strings.Contains(metrics, "kms_auditor_open_finding{") {
		t.Errorf("a finding is still open:\n%s", metrics)
	}
	if exit, out, errs := runAuditor(t, "history", "-c", writeConfig(t, s.settings)); exit != 0 || !strings.Contains(out, "forgotten") {
		t.Errorf("the history does not show that the contract was forgotten: %d\n%s%s", exit, out, errs)
	}
}

// mineIdle adds empty blocks.
func (s *scene) mineIdle(t *testing.T, n int) (head uint64) {
	t.Helper()
	must(t, s.client.Client().CallContext(t.Context(), nil, "anvil_mine", n))
	head, err := s.client.BlockNumber(t.Context())
	must(t, err)
	return head
}

// inThePast is a provider that proves nothing, and answers calls at the newest block as of an earlier one.
func (s *scene) inThePast(t *testing.T, block uint64) rpcfault.Fault {
	t.Helper()
	head, err := s.client.HeaderByNumber(t.Context(), nil)
	must(t, err)
	past, err := json.Marshal(hexutil.Uint64(block))
	must(t, err)
	return rpcfault.Join(unproven, rpcfault.Fault{Ask: func(c *rpcfault.Call) {
		for i, p := range c.Params {
			if c.Method == "eth_call" && strings.Contains(string(p), head.Hash().Hex()) {
				c.Params[i] = past
			}
		}
	}})
}

var unproven = rpcfault.Refuse("eth_getProof", -32601, "the method eth_getProof does not exist")

// TestAProviderSilencesNothing has a provider that stops proving, or goes back, while a critical finding is open. Until an honest
// look, also after a restart, nothing is consistent, and only what was seen is drift.
func TestAProviderSilencesNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2, 1)
	s.settings.State = filepath.Join(t.TempDir(), "state.db")
	early := s.mineIdle(t, 1)
	s.mineIdle(t, 40)
	d := startDaemon(t, s.settings)
	d.finds(t, "consistent")
	before, err := s.client.BlockNumber(t.Context())
	must(t, err)
	hidden := common.HexToHash(unheard)
	must(t, s.kms.AllowDevice(t.Context(), hidden))
	s.mineIdle(t, 1)
	d.finds(t, "drift")
	for _, row := range []struct {
		sentence, verdict string
		fault             func() rpcfault.Fault
		wentBack          bool
	}{
		{"it proves nothing, and says that the device is refused", "unknown", func() rpcfault.Fault { return s.inThePast(t, before) }, false},
		{"it goes back by two blocks, to before the device was allowed", "unknown", func() rpcfault.Fault { return s.stopped(before) }, false},
		{"it goes back by forty blocks", "unknown", func() rpcfault.Fault { return s.stopped(early) }, true},
		{"it goes back to before the contract was deployed", "unknown", func() rpcfault.Fault { return s.stopped(1) }, true},
		{"it proves nothing", "drift", func() rpcfault.Fault { return unproven }, false},
	} {
		t.Log(row.sentence)
		stands := func() {
			t.Helper()
			got := kinds(d.settled(t, row.verdict))
			if !slices.ContainsFunc(got, func(k string) bool { return strings.HasPrefix(k, "unlisted_chain_allowed") }) || slices.Contains(got, "chain_went_back") != row.wentBack {
				t.Errorf("the findings are %q", got)
			}
			contract := `{chain="base",contract="` + s.kms.Address().Hex() + `",`
			metrics := d.page(t, "/metrics")
			for _, series := range []string{"open_finding" + contract + `id="` + hidden.Hex() + `",kind="unlisted_chain_allowed",list="device",severity="critical"} 1`,
				"target_verdict" + contract + `verdict="consistent"} 0`} {
				if !strings.Contains(metrics, "kms_auditor_"+series+"\n") {
					t.Errorf("no %s in\n%s", series, metrics)
				}
			}
			if text := d.page(t, "/"); !hasAll(text, []string{hidden.Hex()[:10], "unlisted_chain_allowed"}) {
				t.Errorf("the page does not show what is open:\n%s", text)
			}
		}
		s.mineIdle(t, 1) // the proof cache applies to the old block
		s.proxy.Set(row.fault())
		stands()
		d.end(t, syscall.SIGTERM)
		if exit, out, errs := runAuditor(t, "audit", "--once", "-c", writeConfig(t, s.settings)); exits[audit.Unknown] != exit && row.verdict == "unknown" || exit == 0 {
			t.Errorf("audit --once exits with %d\n%s%s", exit, out, errs)
		}
		d = startDaemon(t, s.settings)
		stands()
		s.proxy.Set(rpcfault.Fault{})
		if got := kinds(d.settled(t, "drift")); !slices.Equal(got, []string{"unlisted_chain_allowed"}) {
			t.Errorf("after an honest look: %q", got)
		}
	}
	must(t, s.kms.RemoveDevice(t.Context(), hidden))
	// A provider that refused proofs is not asked for any for ten minutes, and a proven finding needs a proof to end.
	d.end(t, syscall.SIGTERM)
	d = startDaemon(t, s.settings)
	d.finds(t, "consistent")

	s.proxy.Set(s.stopped(1))
	if got := kinds(d.settled(t, "unknown")); !slices.Equal(got, []string{"chain_went_back"}) {
		t.Errorf("after the chain went back: %q", got)
	}
	s.proxy.Set(rpcfault.Fault{})
	d.finds(t, "consistent")
}

// stopped is a provider without blocks after a given one.
func (s *scene) stopped(at uint64) rpcfault.Fault {
	return rpcfault.Stale(at, func(hash string) bool {
		h, err := s.client.HeaderByHash(context.Background(), common.HexToHash(hash))
		return err == nil && h.Number.Uint64() > at
	})
}

// TestNothingIsDeployedAtThePinnedBlock has a contract that exists only at the newest block, which agrees with the claim. Nothing
// counts as compared.
func TestNothingIsDeployedAtThePinnedBlock(t *testing.T) {
	t.Parallel()
	for name := range nodes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startNode(t, name)
			s := &scene{node: n, api: startAPI(t), kms: n.deploy(t), devices: ids("device", 1), images: ids("image", 1)}
			must(t, s.kms.Seed(t.Context(), s.devices, s.images))
			must(t, s.api.put(s.claim()))
			s.settings = n.settings(s.api)
			head, err := n.client.BlockNumber(t.Context())
			must(t, err)
			s.settings.Chains[0].Block = fmt.Sprintf("latest-%d", head-1)
			for _, verify := range []string{"auto", "required", "off"} {
				for _, contracts := range [][]contractSettings{nil, {{Address: s.kms.Address().Hex()}}} {
					s.settings.Chains[0].Verify, s.settings.Chains[0].Contracts = verify, contracts
					exit, out, errs := runAuditor(t, "audit", "--once", "-o", "json", "-c", writeConfig(t, s.settings))
					target := decodeReport(t, out).Chains[0].Targets[0]
					if exit != 3 || target.Counts.Match != 0 || target.Counts.Mismatch != 0 {
						t.Errorf("verify: %s, %d contracts configured: exit code %d, %+v, %q\n%s", verify, len(contracts), exit, target.Counts, kinds(target), errs)
					}
				}
			}
		})
	}
}
