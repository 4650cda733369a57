package audit_test

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/history"
	"github.com/kms-auditor/kms-auditor/internal/replay"
	"github.com/kms-auditor/kms-auditor/internal/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/secret"
	"github.com/kms-auditor/kms-auditor/internal/testchain"
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

	rpc      []string // of the providers
	opt      audit.Options
	policies string
	pinned   []common.Address // the configured contracts

	verify    ethrpc.Verify
	store     *history.Store // nil: events are not read
	eager     bool
	events    func(audit.Events) audit.Events // nil: they are as they are
	version   string                          // of the API; empty: the newest
	cross     bool                            // the list of KMS is asked for too
	more      func(*audit.ChainOptions)       // nil: nothing more
	explained map[common.Address][]audit.ExplainedSlot
}

func newWorld(t *testing.T) *world {
	t.Helper()
	at := common.HexToAddress("0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C")
	chain, err := testchain.Start(testchain.Options{Preload: []testchain.Preload{{
		Address: at, Devices: []common.Hash{dev1}, Images: []common.Hash{img1},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chain.Close() })
	chain.Commit()
	w := &world{t: t, chain: chain, kms: chain.KMS(at), proxy: rpcfault.New(chain.URL()), policies: "latest", verify: ethrpc.VerifyOff}
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

// auditor returns one for the world as it is configured now.
func (w *world) auditor() *audit.Auditor {
	w.t.Helper()
	api, err := kmsapi.New(kmsapi.Options{BaseURL: w.url, Version: cmp.Or(w.version, "2026-06-23"), Timeout: 2 * time.Second, RetryDelay: time.Millisecond})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(api.Close)
	opt := ethrpc.Options{ChainID: chainID, Verify: w.verify, BatchSize: 100, RetryDelay: time.Millisecond}
	for p := range strings.SplitSeq(w.policies, " ") {
		policy, err := ethrpc.ParsePolicy(p)
		if err != nil {
			w.t.Fatal(err)
		}
		opt.Policies = append(opt.Policies, policy)
	}
	for i, u := range w.rpc {
		opt.Providers = append(opt.Providers, ethrpc.Provider{Name: []string{"first", "second"}[i], URL: secret.New(u), Timeout: 2 * time.Second})
	}
	client, err := ethrpc.New(opt)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(client.Close)
	o := w.opt
	o.Version = "test"
	if o.Claims == nil {
		o.Claims = api
	}
	if o.Timeout == 0 {
		o.Timeout = 20 * time.Second
	}
	first := audit.ChainOptions{
		Name: "test", ChainID: chainID, Policies: opt.Policies, Reader: client, Contracts: w.pinned,
		Eager: w.eager, Required: w.verify == ethrpc.VerifyRequired, Explained: w.explained,
	}
	if w.store != nil {
		first.Events = replay.New(replay.Options{ChainID: chainID, Client: client, Store: w.store})
		if w.events != nil {
			first.Events = w.events(first.Events)
		}
	}
	if w.cross {
		first.KMS = api
	}
	if w.more != nil {
		w.more(&first)
	}
	o.Chains = append([]audit.ChainOptions{first}, o.Chains...)
	return audit.New(o)
}

// audit audits once and checks what every report must hold to.
func (w *world) audit() *audit.Report { return w.auditWith(w.auditor()) }

func (w *world) auditWith(a *audit.Auditor) *audit.Report {
	w.t.Helper()
	r := a.Audit(context.Background())
	lawful(w.t, r)
	return r
}

// lawful checks a report against itself.
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
		worst = audit.Worst(worst, c.Verdict)
		for _, target := range c.Targets {
			worst = audit.Worst(worst, target.Verdict)
			if n := target.Counts.Match + target.Counts.Mismatch + target.Counts.Unverifiable + target.Counts.Pending + target.Counts.Accepted; n != len(target.Entries) {
				t.Errorf("%d entries are counted, there are %d", n, len(target.Entries))
			}
			switch {
			case target.Verdict == audit.Consistent && (!target.Compared() || target.Counts.Mismatch > 0 || len(target.Reasons) > 0 || c.Block == nil || c.Claim == nil):
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

// kindsOf lists the findings of a report, without the harmless.
func kindsOf(r *audit.Report) string {
	var out []string
	for _, c := range r.Chains {
		for _, target := range c.Targets {
			for _, f := range target.Findings {
				out = append(out, string(f.Kind))
			}
		}
	}
	return strings.Join(out, " ")
}

// text is all of a report that a person could read.
func text(t *testing.T, r *audit.Report) string {
	t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
