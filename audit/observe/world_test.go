package observe_test

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/events"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/state"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

const chainID = 1337

var (
	dev1 = id("d1") // allowed by the contract
	dev2 = id("d2") // not
	img1 = id("a1") // allowed
	img2 = id("a2") // not

	yes, no = true, false
)

// id makes a bytes32 of a repeated byte.
func id(b string) common.Hash { return common.HexToHash(strings.Repeat(b, 32)) }

// world is a real chain and a fake API that agree, until a test changes one of them.
type world struct {
	t     *testing.T
	chain *testchain.Chain
	kms   *testchain.KMS
	proxy *rpcfault.Proxy
	api   *fakeapi.Server
	url   string // of the API

	rpc    []string // of the providers
	slow   bool     // the node has much to do, and is given time
	tags   string
	verify ethrpc.Verify // off: events are not read
	opt    observe.Options
	intent audit.Intent // Tags, Events and Required follow from the above
	eager  bool
	apps   int // that there is room for; 0: all

	events  func(observe.Events) observe.Events // nil: they are as they are
	version string                              // of the API; empty: the newest
	more    func(*observe.Chain)                // nil: nothing more
}

// newWorld returns a world with more contracts, which the API does not list yet.
func newWorld(t *testing.T, more ...testchain.Preload) *world {
	t.Helper()
	at := common.HexToAddress("0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C")
	chain, err := testchain.Start(testchain.Options{Preload: append(more, testchain.Preload{
		Address: at, Devices: []common.Hash{dev1}, Images: []common.Hash{img1},
	})})
	must(t, err)
	t.Cleanup(func() { chain.Close() })
	chain.Commit()
	w := &world{t: t, chain: chain, kms: chain.KMS(at), proxy: rpcfault.New(chain.URL()), tags: "latest", verify: ethrpc.VerifyOff}
	name := "prod1"
	i1, i2 := img1.Hex(), strings.ToUpper(img2.Hex()[2:])
	w.api = fakeapi.New(fakeapi.Chain{ChainName: "test", ChainID: chainID, Contracts: []fakeapi.Contract{{
		Address: strings.ToLower(at.Hex()), ChainID: chainID, ChainName: "test",
		Devices: []fakeapi.Device{{ID: dev1.Hex()[2:], NodeName: &name, Allowed: &yes}, {ID: dev2.Hex(), Allowed: &no}},
		OSImages: []fakeapi.OSImage{
			{Name: "dstack-1", Version: "1", Hash: &i1, Allowed: &yes},
			{Name: "dstack-2", Version: "2", Hash: &i2, Allowed: &no},
		},
	}}})
	t.Cleanup(w.api.Close)
	w.url = w.serve(w.api) + "/api/v1"
	w.rpc = []string{w.serve(w.proxy)}
	return w
}

func (w *world) serve(h http.Handler) string {
	srv := httptest.NewServer(h)
	w.t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return srv.URL
}

// contract changes the API's row of the contract.
func (w *world) contract(f func(*fakeapi.Contract)) {
	w.api.Update("test", func(c *fakeapi.Chain) { f(&c.Contracts[0]) })
}

// want configures the contract with a policy.
func (w *world) want(p audit.Policy) {
	w.intent.Contracts = []audit.ContractIntent{{Address: w.kms.Address(), Policy: p}}
}

// accept makes an exception of the contract; its other fields are those of x.
func (w *world) accept(x audit.Exception) {
	if x.Contract == (common.Address{}) {
		x.Contract = w.kms.Address()
	}
	if x.Expires.IsZero() {
		x.Expires = time.Now().Add(time.Hour)
	}
	w.intent.Exceptions = append(w.intent.Exceptions, x)
}

// auditor audits repeatedly, with the state of a daemon.
type auditor struct {
	*observe.Auditor
	t      *testing.T
	prior  map[string]audit.Prior
	result observe.Result // of the last audit
}

// auditor returns an auditor for the current configuration.
func (w *world) auditor() *auditor {
	w.t.Helper()
	api, err := kmsapi.New(kmsapi.Options{BaseURL: w.url, Version: cmp.Or(w.version, "2026-06-23"), Timeout: 2 * time.Second, RetryDelay: time.Millisecond})
	must(w.t, err)
	w.t.Cleanup(api.Close)
	intent := w.intent
	intent.Chain, intent.ChainID = "test", chainID
	intent.Events, intent.Required = w.verify != ethrpc.VerifyOff, w.verify == ethrpc.VerifyRequired
	opt := ethrpc.Options{ChainID: chainID, Verify: w.verify, Agreement: intent.Agreement, BatchSize: 100, RetryDelay: time.Millisecond}
	for s := range strings.SplitSeq(w.tags, " ") {
		tag, err := ethrpc.ParseBlockTag(s)
		must(w.t, err)
		opt.Tags = append(opt.Tags, tag)
		intent.Tags = append(intent.Tags, s)
	}
	timeout, whole := 2*time.Second, 20*time.Second
	if w.slow {
		timeout, whole = time.Minute, 5*time.Minute
	}
	for i, u := range w.rpc {
		opt.Providers = append(opt.Providers, ethrpc.Provider{Name: []string{"first", "second"}[i], URL: sanitize.NewSecret(u), Timeout: timeout})
	}
	client, err := ethrpc.New(opt)
	must(w.t, err)
	w.t.Cleanup(client.Close)
	o := w.opt
	o.Version, o.Timeout = "test", cmp.Or(o.Timeout, whole)
	if o.Claims == nil {
		o.Claims = api
	}
	if o.Listing == nil {
		o.Listing = api
	}
	chain := observe.Chain{Intent: intent, Tags: opt.Tags, Reader: client, Eager: w.eager}
	if intent.Events {
		known, err := state.Open("")
		must(w.t, err)
		w.t.Cleanup(func() { known.Close() })
		chain.Events = events.New(events.Options{Chain: "test", Client: client, State: known, Apps: w.apps})
		if w.events != nil {
			chain.Events = w.events(chain.Events)
		}
	}
	if w.more != nil {
		w.more(&chain)
	}
	o.Chains = append([]observe.Chain{chain}, o.Chains...)
	return &auditor{Auditor: observe.New(o), t: w.t, prior: map[string]audit.Prior{}}
}

// audit audits once without state.
func (w *world) audit() *audit.Report {
	w.t.Helper()
	return w.auditor().audit()
}

// audit audits once, checks invariants of the report, and keeps the state.
func (a *auditor) audit() *audit.Report {
	a.t.Helper()
	a.result = a.Audit(context.Background(), "test", a.prior)
	lawful(a.t, a.result.Report)
	maps.Copy(a.prior, a.result.Next)
	return a.result.Report
}

// says audits, and compares verdict and findings.
func (a *auditor) says(verdict audit.Verdict, kinds string) *audit.Report {
	a.t.Helper()
	r := a.audit()
	if r.Verdict != verdict || kindsOf(r) != kinds {
		a.t.Errorf("%s with %q, want %s with %q\n%s", r.Verdict, kindsOf(r), verdict, kinds, text(a.t, r))
	}
	return r
}

// lawful checks invariants of a report.
func lawful(t *testing.T, r *audit.Report) {
	t.Helper()
	body, err := json.Marshal(r)
	if err != nil {
		t.Fatalf("the report has no JSON: %v", err)
	}
	if strings.Contains(string(body), ":null") && !strings.Contains(string(body), `"block":null`) && !strings.Contains(string(body), `"claim":null`) {
		t.Errorf("a list of the report is null: %s", body)
	}
	worst := audit.Consistent
	if len(r.Chains) == 0 {
		worst = audit.Unknown
	}
	for _, c := range r.Chains {
		worst = max(worst, c.Verdict)
		for _, target := range c.Targets {
			worst = max(worst, target.Verdict)
			if n := target.Counts.Match + target.Counts.Mismatch + target.Counts.Unverifiable + target.Counts.Pending + target.Counts.Accepted + target.Counts.Unclaimed; n != len(target.Entries) {
				t.Errorf("%d entries are counted, there are %d", n, len(target.Entries))
			}
			switch {
			case target.Verdict == audit.Consistent && (!target.Compared() || target.Counts.Match+target.Counts.Accepted == 0 || target.Counts.Mismatch > 0 || len(target.Reasons) > 0 || c.Block == nil || (c.Claim == nil) != (c.Claims == audit.ClaimNone)):
				t.Errorf("consistent without a comparison: %+v", target)
			case target.Verdict == audit.Drift && len(target.Findings) == 0:
				t.Errorf("drift without a finding: %+v", target)
			case target.Verdict == audit.Unknown && len(target.Reasons) == 0 && len(target.Findings) == 0:
				t.Errorf("unknown without a reason: %+v", target)
			}
		}
	}
	if worst != r.Verdict {
		t.Errorf("the report is %s, its worst part %s", r.Verdict, worst)
	}
}

// entry returns the entry of an id.
func entry(t *testing.T, r *audit.Report, id string) audit.Entry {
	t.Helper()
	for _, c := range r.Chains {
		for _, target := range c.Targets {
			for _, e := range target.Entries {
				if e.ID == id {
					return e
				}
			}
		}
	}
	t.Fatalf("no entry %s", id)
	return audit.Entry{}
}

// kindsOf lists the findings of a report. Those that this audit could not check are in brackets.
func kindsOf(r *audit.Report) string {
	var out []string
	for _, c := range r.Chains {
		for _, target := range c.Targets {
			for _, f := range target.Findings {
				kind := string(f.Kind)
				if f.State == audit.Still {
					kind = "(" + kind + ")"
				}
				out = append(out, kind)
			}
		}
	}
	return strings.Join(out, " ")
}

// text returns the report as JSON.
func text(t *testing.T, r *audit.Report) string {
	t.Helper()
	b, err := json.Marshal(r)
	must(t, err)
	return string(b)
}
