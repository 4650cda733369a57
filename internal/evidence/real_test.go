package evidence_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

func backdoor(w *world) {
	_, err := w.kms.Upgrade(w.t.Context(), testchain.Backdoor)
	must(w.t, err)
	must(w.t, w.kms.SneakImage(w.t.Context(), hidden, true))
}

func denied(w *world) { w.claim(func(c *fakeapi.Contract) { c.Devices[0].Allowed = &no }) }

func unlisted(w *world) {
	must(w.t, w.kms.AllowDevice(w.t.Context(), hidden))
	w.named = names{string(audit.Device): {hidden}}
}

// told sets a policy for everything.
func told(w *world) {
	denied(w)
	before := time.Now().UTC().AddDate(0, 0, -1)
	x := audit.Exception{Contract: at, List: audit.Device, ID: dev1.Hex(), Kind: audit.ClaimDeniedChainAllowed, Reason: "rollout", Expires: before.AddDate(0, 1, 0)}
	unused := x
	unused.Index, unused.ID = 1, dev2.Hex()
	w.intent.Exceptions = []audit.Exception{x, unused}
	w.intent.Contracts = []audit.ContractIntent{{Address: at, Policy: audit.Policy{Devices: []common.Hash{dev1, hidden}}}}
	w.prior = audit.Prior{
		Contracts: []audit.Known{{Address: at, Since: before, Baseline: &audit.Baseline{Control: audit.Control{Owner: common.Address{19: 0xaa}.Hex()}, Since: before}}},
		Open:      []audit.OpenFinding{open(audit.OwnerChanged, "", "")},
	}
}

// unclaimed sets a policy and claims: none.
func unclaimed(w *world) {
	w.intent.NoClaims, w.intent.CrossChecks = true, true
	w.named = names{string(audit.Device): {dev1}}
	w.intent.Contracts = []audit.ContractIntent{{Address: at, Policy: audit.Policy{Devices: []common.Hash{dev1}}}}
	w.prior = audit.Prior{Open: []audit.OpenFinding{open(audit.ContractNotListed, "", "")}}
}

func lists(w *world) {
	w.intent.CrossChecks = true
	w.api.UpdateKMS(func(all *[]fakeapi.KMS) {
		more := (*all)[1]
		more.ID, more.Contract, more.Nodes = "kc_more", common.Address{19: 0xaa}.Hex(), []fakeapi.Node{{ID: "kms_more"}}
		*all = append(*all, more)
	})
}

// upgraded registers an app while the contract is of June 2025.
func upgraded(w *world) {
	older, err := w.kms.Upgrade(w.t.Context(), "Kms20250617")
	must(w.t, err)
	owner := testchain.Address("owner")
	r, err := w.kms.Send(w.t.Context(), "registerApp", owner)
	must(w.t, err)
	newer, err := w.kms.Upgrade(w.t.Context(), testchain.Plain)
	must(w.t, err)
	pad := func(a common.Address) common.Hash { return common.BytesToHash(a[:]) }
	w.named = names{observe.Implementations: {pad(older), pad(newer)}, observe.Callers: {pad(owner)}, observe.Apps: {common.BytesToHash(r.Logs[0].Data)}}
}

var noProof = rpcfault.Refuse("eth_getProof", -32601, "the method eth_getProof does not exist/is not available")

func TestRealEvidenceGivesTheReportAgain(t *testing.T) {
	for _, row := range []struct {
		sentence string
		change   func(*world)
		verdict  audit.Verdict
		believed bool
	}{
		{"all agrees, and is proven", func(*world) {}, audit.Consistent, false},
		{"the API denies what the contract allows", denied, audit.Drift, false},
		{"the API does not list a device", unlisted, audit.Drift, false},
		{"the contract stores what nothing explains", backdoor, audit.Drift, false},
		{"older implementations explain what the contract stores", upgraded, audit.Consistent, false},
		{"they do not explain all", func(w *world) {
			upgraded(w)
			backdoor(w)
		}, audit.Drift, false},
		{"the head agrees already", func(w *world) {
			w.tag, w.intent.PendingMax = "latest-1", time.Hour
			w.claim(func(c *fakeapi.Contract) { c.Devices[1].Allowed = &yes })
			must(w.t, w.kms.AllowDevice(w.t.Context(), dev2))
		}, audit.Consistent, false},
		{"there is no contract", func(w *world) {
			w.claim(func(c *fakeapi.Contract) { c.Address = common.Address{1}.Hex() })
		}, audit.Drift, false},
		{"the provider does not prove", func(w *world) { w.proxy.Set(noProof) }, audit.Consistent, true},
		{"nobody asks for proof", func(w *world) { w.verify, w.intent.Events = ethrpc.VerifyOff, false }, audit.Consistent, true},
		{"proof is required and not to be had", func(w *world) {
			w.verify = ethrpc.VerifyRequired
			w.proxy.Set(noProof)
		}, audit.Unknown, false},
		{"the API fails", func(w *world) { w.api.Fail(fakeapi.Fault{Name: fakeapi.HTML}) }, audit.Unknown, false},
		{"the provider fails", func(w *world) { w.proxy.Set(rpcfault.Status(401, "")) }, audit.Unknown, false},
		{"the operator has a policy, accepts one of two differences, and knows another owner", told, audit.Drift, false},
		{"the list of KMS names another contract", lists, audit.Drift, false},
		{"no API covers the contract, and a policy does", unclaimed, audit.Consistent, false},
		{"neither does", func(w *world) {
			unclaimed(w)
			w.intent.Contracts[0].Policy = audit.Policy{}
		}, audit.Unknown, false},
		{"a contract of two is odd", func(w *world) {
			w.api.Update("test", func(c *fakeapi.Chain) {
				c.Contracts = append(c.Contracts, fakeapi.Contract{Address: trap.Hex(), ChainID: chainID, ChainName: "test", Devices: []fakeapi.Device{{ID: dev1.Hex(), Allowed: &no}}})
			})
		}, audit.Consistent, false},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			w := newWorld(t)
			row.change(w)
			f := w.evidence()
			if bytes.Contains(document(t, f), []byte(canary)) {
				t.Error("the provider's URL is in the evidence")
			}
			got, err := evidence.Verify(t.Context(), f, nil)
			if err != nil {
				t.Fatalf("%v\n%s", err, keys(f.Report))
			}
			if f.Report.Verdict != row.verdict || got.Verdict() != row.verdict {
				t.Errorf("the report is %s and verifies as %s, want %s:\n%s", f.Report.Verdict, got.Verdict(), row.verdict, keys(f.Report))
			}
			if diff := cmp.Diff(keys(f.Report), keys(got.Report)); diff != "" {
				t.Errorf("another report (-was +derived):\n%s", diff)
			}
			if said := strings.Contains(strings.Join(got.Trusted, "\n"), ", which are not proven; the first is 0x"); said != row.believed {
				t.Errorf("it trusts %q", got.Trusted)
			}
		})
	}
}

// TestProofsNeedNoSeal changes single bytes of proofs, and corrects the checksum.
func TestProofsNeedNoSeal(t *testing.T) {
	w := newWorld(t)
	denied(w)
	good := w.evidence()
	random := rand.New(rand.NewPCG(3, 4))
	flip := func(b []byte) { b[random.IntN(len(b))] ^= byte(1 + random.IntN(255)) }
	for range 500 {
		f := again(t, good)
		c := &f.Chains[0]
		what := "a node"
		switch n := random.IntN(len(c.Nodes) + len(c.Codes) + 2); {
		case n < len(c.Nodes):
			flip(c.Nodes[n])
		case n < len(c.Nodes)+len(c.Codes):
			what = "code"
			flip(c.Codes[n-len(c.Nodes)])
		case n == len(c.Nodes)+len(c.Codes):
			what = "a header"
			flip(c.First.Header)
		default:
			what = "a claim"
			flip(c.First.Claim.Body)
		}
		if _, err := evidence.Verify(t.Context(), f, nil); !errors.Is(err, evidence.ErrRefuted) {
			t.Fatalf("%s with a changed byte: %v", what, err)
		}
	}
}

func TestForgedProofsAreRefuted(t *testing.T) {
	for _, row := range []struct {
		sentence string
		change   func(*evidence.Chain)
		says     string
	}{
		{"the code is left out", func(c *evidence.Chain) { c.Codes = nil }, "are not proven"},
		{"the nodes are left out", func(c *evidence.Chain) { c.Nodes = nil }, "are not proven"},
		{"the block has another time", func(c *evidence.Chain) { c.Second.Observation.Block.Time = noon }, "is block"},
		{"the block has another number", func(c *evidence.Chain) { c.Second.Observation.Block.Number++ }, "is block"},
		{"the block's hash is not a hash", func(c *evidence.Chain) { c.Second.Observation.Block.Hash = "\x1b" }, "reading the hash of block"},
		{"there is no block", func(c *evidence.Chain) { c.Second.Observation.Block = nil }, "without a block"},
		{"nothing was asked", func(c *evidence.Chain) { c.Second.Proven[0].Devices = nil }, "entry device"},
		{"what no getter reads was not asked", func(c *evidence.Chain) {
			for _, l := range []*evidence.Look{&c.First, c.Second} {
				l.Proven[0].Devices = slices.DeleteFunc(l.Proven[0].Devices, func(id common.Hash) bool { return id == hidden })
			}
		}, "entry device " + hidden.Hex()},
		{"it was not read", func(c *evidence.Chain) { c.Second.Proven = nil }, "entry device"},
		{"there was no second look", func(c *evidence.Chain) { c.Second = nil }, "entry device"},
	} {
		w := newWorld(t)
		unlisted(w)
		f := w.evidence()
		row.change(&f.Chains[0])
		if _, err := evidence.Verify(t.Context(), again(t, f), nil); !errors.Is(err, evidence.ErrRefuted) || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v, want %q", row.sentence, err, row.says)
		}
	}
}

// TestTheCodeOfOlderImplementationsIsKept: without it they explain nothing.
func TestTheCodeOfOlderImplementationsIsKept(t *testing.T) {
	w := newWorld(t)
	upgraded(w)
	good := w.evidence()
	if got := good.Report.Chains[0].Targets[0]; got.Completeness != audit.Complete {
		t.Fatalf("%s", keys(good.Report))
	}
	refuted := 0
	for i := range good.Chains[0].Codes {
		f := again(t, good)
		f.Chains[0].Codes = slices.Delete(f.Chains[0].Codes, i, i+1)
		if _, err := evidence.Verify(t.Context(), f, nil); errors.Is(err, evidence.ErrRefuted) {
			refuted++
		}
	}
	if refuted != 3 { // the proxy's, and those of two implementations
		t.Errorf("%d codes are needed, want 3", refuted)
	}
	f := again(t, good)
	f.Chains[0].First.Proven[0].Implementations = nil
	if _, err := evidence.Verify(t.Context(), f, nil); !errors.Is(err, evidence.ErrRefuted) || !strings.Contains(err.Error(), "completeness incomplete") {
		t.Errorf("without naming them: %v", err)
	}
}

// TestASlowGetterEndsInTime asks a contract for ids that its code never answers, 100,000 of them.
func TestASlowGetterEndsInTime(t *testing.T) {
	w := newWorld(t)
	w.claim(func(c *fakeapi.Contract) { c.Address = trap.Hex() })
	f := w.evidence()
	p := &f.Chains[0].First.Proven[0]
	p.AggregatedMRs = []common.Hash{hidden}
	if _, err := evidence.Verify(t.Context(), f, nil); err != nil {
		t.Fatal(err)
	}
	for i := range 100_000 {
		id := hidden
		binary.BigEndian.PutUint32(id[28:], uint32(i))
		p.AggregatedMRs = append(p.AggregatedMRs, id)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, errors.New("enough"))
	defer cancel()
	start := time.Now()
	if _, err := evidence.Verify(ctx, f, nil); err == nil || !strings.Contains(err.Error(), "enough") || errors.Is(err, evidence.ErrRefuted) {
		t.Errorf("%v, want no judgement", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestTheKeyIsNotKept(t *testing.T) {
	w := newWorld(t)
	w.key = sanitize.NewSecret("phak_" + canary)
	if b := document(t, w.evidence()); bytes.Contains(b, []byte(canary)) || bytes.Contains(b, []byte(base64.StdEncoding.EncodeToString([]byte(canary)))) {
		t.Error("the key is in the evidence")
	}
	w.claim(func(c *fakeapi.Contract) {
		name := "for phak_" + canary
		c.Devices[0].NodeName = &name
	})
	r := w.audit()
	if _, err := evidence.New(r.Report, r.Records); err == nil || !strings.Contains(err.Error(), "contains the API key") {
		t.Errorf("%v, want that the key cannot be kept", err)
	}
}
