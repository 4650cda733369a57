//go:build e2e

package e2e_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/state"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// TestAHostileContractHidesNothing has an API that lists a second contract, which misbehaves. The first contract's drift must
// still be proven.
func TestAHostileContractHidesNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2, 1)
	s.settings.Web = nil
	odd := common.HexToAddress(somewhere)
	const onlyLists = "36602414600857005b" // continues if it is called with an id, and else returns nothing
	for _, row := range []struct {
		sentence, code string
		fault          rpcfault.Fault
		want           audit.Verdict // of the second contract
	}{
		{"its getter asks for a block's hash", "5f405f5260205ff3", rpcfault.Fault{}, audit.Unknown},
		{"its getter never ends", "600856", rpcfault.Fault{}, audit.Unknown},
		{"its getter writes", "600160015560015f5260205ff3", rpcfault.Fault{}, audit.Unknown},
		{"its getter has an invalid instruction", "fe", rpcfault.Fault{}, audit.Unknown},
		{"the provider proves nothing of it", "60043554" + "5f5260205ff3", rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
			if c.Method == "eth_getProof" && strings.Contains(strings.ToLower(string(c.Params[0])), strings.ToLower(somewhere)) {
				unproven.Reply(c, a)
			}
		}}, audit.Drift},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			rpc := s.client.Client()
			must(t, rpc.CallContext(t.Context(), nil, "anvil_setCode", odd, hexutil.Bytes(common.FromHex(onlyLists+row.code))))
			s.mineIdle(t, 1) // a block with that in its state root
			s.proxy.Set(row.fault)
			claim := s.claim()
			second := claim.Contracts[0]
			second.Address, second.OSImages = odd.Hex(), nil
			claim.Contracts[0].Devices = claim.Contracts[0].Devices[1:]
			for _, contracts := range [][]fakeapi.Contract{{claim.Contracts[0], second}, {second, claim.Contracts[0]}} {
				claim.Contracts = contracts
				must(t, s.api.put(claim))
				exit, out, errs := runAuditor(t, "audit", "--once", "-o", "json", "-c", writeConfig(t, s.settings))
				if exit != 1 {
					t.Errorf("exit code %d\n%s", exit, errs)
				}
				for _, target := range decodeReport(t, out).Chains[0].Targets {
					if target.Contract == odd.Hex() {
						if target.Verdict != row.want {
							t.Errorf("the second contract is %s, want %s: %q, %q", target.Verdict, row.want, target.Reasons, kinds(target))
						}
					} else if got := found(target); got != "drift "+wholly+" unlisted_chain_allowed" {
						t.Errorf("the first contract: %s\n%q\n%s", got, target.Reasons, errs)
					}
				}
			}
		})
	}
}

// TestMalformedKMSInfoHidesNoOwner has a contract whose kmsInfo() is malformed and whose policy pins another owner.
func TestMalformedKMSInfoHidesNoOwner(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1, 1)
	s.settings.Web = nil
	s.settings.Chains[0].Contracts = []contractSettings{{Address: s.kms.Address().Hex(), Policy: map[string]any{"owner": somewhere}}}
	audited := func(what, unshown string) {
		t.Helper()
		exit, out, errs := runAuditor(t, "audit", "--once", "-o", "json", "-c", writeConfig(t, s.settings))
		target := decodeReport(t, out).Chains[0].Targets[0]
		if exit != 1 || !slices.Contains(kinds(target), "owner_changed") || unshown != "" && strings.Contains(out+errs, unshown) {
			t.Errorf("%.20q: exit code %d, %s %q\n%s", what, exit, found(target), target.Reasons, errs)
		}
	}
	for _, rubbish := range []string{"\x1b[2J", "\xff\xfe", strings.Repeat("x", 5000)} {
		_, err := s.kms.Send(t.Context(), "setGatewayAppId", rubbish)
		must(t, err)
		info := struct{ K256Pubkey, CaPubkey, Quote, Eventlog []byte }{[]byte(rubbish), []byte(rubbish), nil, nil}
		_, err = s.kms.Send(t.Context(), "setKmsInfo", info)
		must(t, err)
		audited(rubbish, rubbish)
	}
	// One getter of the implementation returns invalid ABI. All others run the original code.
	word, err := s.client.StorageAt(t.Context(), s.kms.Address(), kms.ImplementationSlot, nil)
	must(t, err)
	implementation, genuine := common.BytesToAddress(word), common.HexToAddress(somewhere)
	code, err := s.client.CodeAt(t.Context(), implementation, nil)
	must(t, err)
	rpc := s.client.Client()
	must(t, rpc.CallContext(t.Context(), nil, "anvil_setCode", genuine, hexutil.Bytes(code)))
	for _, getter := range []string{"gatewayAppId()", "kmsInfo()", "pendingOwner()"} {
		rubbish := fmt.Sprintf("5f3560e01c63%x14603b57365f5f375f5f365f73%x5af43d5f5f3e6037573d5ffd5b3d5ff35b5f195f5260205ff3", crypto.Keccak256([]byte(getter))[:4], genuine)
		must(t, rpc.CallContext(t.Context(), nil, "anvil_setCode", implementation, hexutil.Bytes(common.FromHex(rubbish))))
		s.mineIdle(t, 1) // a block with that in its state root
		audited(getter, "")
	}
}

// TestAFloodHidesNoDevice has an app that is registered so often in one block that the provider does not serve the block's logs.
func TestAFloodHidesNoDevice(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2, 1)
	s.settings.Web = nil
	must(t, s.kms.Flood(t.Context(), common.HexToAddress(somewhere), 1500)) // 3,000 logs
	claim := s.claim()
	claim.Contracts[0].Devices = claim.Contracts[0].Devices[1:]
	must(t, s.api.put(claim))
	few := rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		var logs []json.RawMessage
		if c.Method == "eth_getLogs" && json.Unmarshal(a.Result, &logs) == nil && len(logs) > 500 {
			rpcfault.Refuse(c.Method, -32005, "query returned more than 500 results").Reply(c, a)
		}
	}}
	for _, refused := range []string{"", "eth_getBlockReceipts"} {
		fault := few
		if refused != "" {
			fault = rpcfault.Join(few, rpcfault.Refuse(refused, -32601, "the method does not exist"))
		}
		s.proxy.Set(fault)
		exit, out, errs := runAuditor(t, "audit", "--once", "-o", "json", "-c", writeConfig(t, s.settings))
		if got := found(decodeReport(t, out).Chains[0].Targets[0]); exit != 1 || got != "drift "+wholly+" unlisted_chain_allowed" {
			t.Errorf("%q refused: exit code %d, %s\n%s", refused, exit, got, errs)
		}
	}
}

// TestAnAlternatingAPIIsReported has an API whose every other answer is wrong. No second look confirms that; it is claim_unstable.
func TestAnAlternatingAPIIsReported(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2, 1)
	lying := startAPI(t)
	lie := s.claim()
	lie.Contracts[0].Devices[1].Allowed = new(false)
	must(t, lying.put(lie))
	var to [2]*url.URL
	for i, a := range []*api{lying, s.api} {
		u, err := url.Parse(a.url)
		must(t, err)
		to[i] = &url.URL{Scheme: u.Scheme, Host: u.Host}
	}
	var requests atomic.Uint64
	s.settings.API.BaseURL = testenv.Serve(t, &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to[(requests.Add(1)-1)%2])
	}}) + "/api/v1"
	d := startDaemon(t, s.settings)
	d.await(t, 0, `"event":"difference_unconfirmed"`, s.devices[1].Hex())
	d.audit(t)
	d.audit(t)
	target := d.target(t)
	if got := kinds(target); target.Verdict == audit.Drift || !slices.Contains(got, "claim_unstable") {
		t.Errorf("after a difference in one of two looks: %s %q", target.Verdict, got)
	}
	if n := sum(t, d.page(t, "/metrics"), "kms_auditor_unconfirmed_differences_total"); n < 2 {
		t.Errorf("%v unconfirmed differences are counted", n)
	}
	if log := strings.Join(d.logged(), "\n"); strings.Contains(log, `"verdict":"drift"`) {
		t.Errorf("an unconfirmed difference is drift:\n%s", log)
	}
}

// TestExplainShowsWhenAFindingWasLastConfirmed checks that the time moves on with every audit that confirms the finding.
func TestExplainShowsWhenAFindingWasLastConfirmed(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2, 1)
	s.settings.State = filepath.Join(t.TempDir(), "state.db")
	must(t, s.kms.RemoveDevice(t.Context(), s.devices[1]))
	config := writeConfig(t, s.settings)
	explained := func(want int) render.Known {
		t.Helper()
		exit, out, errs := runAuditor(t, "audit", "--once", "-c", config)
		if exit != want {
			t.Fatalf("exit code %d\n%s%s", exit, out, errs)
		}
		var x render.Explanation
		_, out, errs = runAuditorIn(t, offline(), nil, "explain", s.devices[1].Hex(), "-o", "json", "-c", config)
		must(t, json.Unmarshal([]byte(out), &x))
		if len(x.Places) != 1 || len(x.Places[0].Findings) != 1 || x.Places[0].Findings[0].LastConfirmedAt == nil || x.Places[0].Findings[0].ResolvedAt != nil {
			t.Fatalf("want one open finding:\n%s%s", out, errs)
		}
		return x.Places[0].Findings[0]
	}
	first, again := explained(1), explained(1)
	if !again.LastConfirmedAt.After(*first.LastConfirmedAt) || !again.FirstSeen.Equal(*first.FirstSeen) {
		t.Errorf("confirmed at %s and then at %s, first seen at %s and %s", first.LastConfirmedAt, again.LastConfirmedAt, first.FirstSeen, again.FirstSeen)
	}
	must(t, s.api.fail(fakeapi.Fault{Name: fakeapi.Status}))
	if blind := explained(3); !blind.LastConfirmedAt.Equal(*again.LastConfirmedAt) {
		t.Errorf("an audit that could not look confirms it at %s, after %s", blind.LastConfirmedAt, again.LastConfirmedAt)
	}
}

// TestTheStateOfTheLastReleaseIsRead uses the commands that need no network.
func TestTheStateOfTheLastReleaseIsRead(t *testing.T) {
	t.Parallel()
	packed, err := os.Open("../internal/state/testdata/schema2.db.gz")
	must(t, err)
	defer packed.Close()
	z, err := gzip.NewReader(packed)
	must(t, err)
	old, err := io.ReadAll(z)
	must(t, err)
	path := filepath.Join(t.TempDir(), "state.db")
	must(t, os.WriteFile(path, old, 0o600))
	view, err := state.View(path)
	must(t, err)
	config := writeConfig(t, settings{State: path, API: apiSettings{BaseURL: "http://127.0.0.1:1"}, Chains: []chainSettings{{
		Name: "base", ChainID: 8453, Providers: []providerSettings{{Name: "p1", URL: "http://127.0.0.1:1"}},
	}}})
	run := func(into any, args ...string) {
		t.Helper()
		_, out, errs := runAuditorIn(t, offline(), nil, append(args, "-c", config, "-o", "json")...)
		if err := json.Unmarshal([]byte(out), into); err != nil {
			t.Fatalf("%s: %v\n%s%s", args[0], err, out, errs)
		}
	}
	open := view.Prior("base").Open
	if len(open) != 2 {
		t.Fatalf("%d findings are open, want 2", len(open))
	}
	for _, o := range open {
		var x render.Explanation
		run(&x, "explain", o.Finding.ID)
		if len(x.Places) != 1 || !slices.ContainsFunc(x.Places[0].Findings, func(k render.Known) bool { return k.Kind == o.Finding.Kind && k.ResolvedAt == nil }) {
			t.Errorf("explain does not show %s: %+v", o.Finding.Kind, x.Places)
		}
	}
	var h render.History
	if run(&h, "history"); len(h.Events) == 0 {
		t.Errorf("the history is empty: %+v", h)
	}
	if exit, out, errs := runAuditorIn(t, offline(), nil, "baseline", "show", "-c", config); exit != 0 || !strings.Contains(out, open[0].Contract) {
		t.Errorf("baseline show exits with %d\n%s%s", exit, out, errs)
	}
	if now := readFile(t, path); now != string(old) {
		t.Error("read-only commands change the file")
	}
}

// TestForgedEvidenceDoesNotHold has keys in another case, twice or unknown, under a valid seal.
func TestForgedEvidenceDoesNotHold(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2, 1)
	must(t, s.kms.RemoveDevice(t.Context(), s.devices[1]))
	kept := filepath.Join(t.TempDir(), "evidence.json")
	if exit, _, errs := runAuditor(t, "audit", "--once", "-c", writeConfig(t, s.settings), "--evidence", kept); exit != 1 {
		t.Fatalf("exit code %d\n%s", exit, errs)
	}
	good, _, _ := strings.Cut(readFile(t, kept), "\n")
	for _, row := range []struct {
		sentence, old, new string
		exit               int
	}{
		{"it is as it was", "", "", 1},
		{"the verdict is another", `"verdict":"drift"`, `"verdict":"consistent"`, 4},
		{"another verdict stands before, in another case", `"verdict":"drift"`, `"Verdict":"consistent","verdict":"drift"`, 4},
		{"another verdict stands behind, in another case", `"verdict":"drift"`, `"verdict":"drift","VERDICT":"consistent"`, 4},
		{"a key is there twice", `"verdict":"drift"`, `"verdict":"consistent","verdict":"drift"`, 4},
		{"a key is there in another case alone", `"report":{`, `"Report":{`, 4},
		{"a key is spelled with an escape", `"report":{`, `"\u0072eport":{},"report":{`, 4},
		{"an entry's side is told twice", `"on_chain":"denied"`, `"On_chain":"allowed","on_chain":"denied"`, 4},
	} {
		forged := []byte(strings.Replace(good, row.old, row.new, 1))
		if row.old != "" && string(forged) == good {
			t.Fatalf("%s: the evidence has no %s", row.sentence, row.old)
		}
		path := filepath.Join(t.TempDir(), "forged.json")
		must(t, os.WriteFile(path, fmt.Appendf(bytes.Clone(forged), "\n{\"sha256\":\"%x\"}\n", sha256.Sum256(forged)), 0o600))
		if exit, out, errs := runAuditorIn(t, offline(), nil, "verify", path); exit != row.exit {
			t.Errorf("%s: verify exits with %d, want %d\n%s%s", row.sentence, exit, row.exit, out, errs)
		}
	}
}

// TestAnOutageKeepsTheEvidenceOfADrift has an outage over many audits.
func TestAnOutageKeepsTheEvidenceOfADrift(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2, 1)
	s.settings.Evidence = evidenceSettings{Dir: t.TempDir(), KeepLast: 2}
	d := startDaemon(t, s.settings)
	d.finds(t, "consistent")
	must(t, s.kms.RemoveDevice(t.Context(), s.devices[1]))
	d.finds(t, "drift")
	must(t, s.api.fail(fakeapi.Fault{Name: fakeapi.Status}))
	s.proxy.Set(rpcfault.Refuse("eth_chainId", -32000, "down"))
	for range 10 {
		d.finds(t, "unknown")
	}
	files, err := filepath.Glob(s.settings.Evidence.Dir + "/evidence-*.json.gz")
	must(t, err)
	drifts := 0
	for _, path := range files {
		exit, out, errs := runAuditorIn(t, offline(), nil, "verify", path)
		if exit == 1 {
			drifts++
		}
		if exit == 4 || exit == 2 {
			t.Errorf("%s does not hold\n%s%s", path, out, errs)
		}
	}
	if drifts == 0 || len(files) > 8 {
		t.Errorf("of %d files %d show a drift", len(files), drifts)
	}
}
