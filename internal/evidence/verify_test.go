package evidence_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testchain"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

func backdoor(w *world) {
	_, err := w.kms.Upgrade(context.Background(), testchain.Backdoor)
	must(w.t, err)
	must(w.t, w.kms.SneakImage(context.Background(), hidden, true))
}

func denied(w *world) { w.claim(func(c *fakeapi.Contract) { c.Devices[0].Allowed = &no }) }

// lie answers every call with true.
var lie = rpcfault.Result("true", `"0x`+strings.Repeat("00", 31)+`01"`)

var noProof = rpcfault.Refuse("eth_getProof", -32601, "the method eth_getProof does not exist/is not available")

// seen is a memory of baselines.
type seen map[common.Address]audit.Baseline

func (s seen) Baseline(c common.Address) (audit.Baseline, bool) { b, ok := s[c]; return b, ok }

func (s seen) Begin(c common.Address, b audit.Baseline) error { s[c] = b; return nil }

// told is a world whose operator says much.
func told(w *world) {
	denied(w)
	at := w.kms.Address()
	accept := audit.Accept{
		Chain: "test", Contract: at, List: audit.Device, ID: dev1.Hex(), Kind: audit.ClaimDeniedChainAllowed,
		Reason: "rollout", Expires: time.Now().Add(time.Hour).UTC(),
	}
	unused := accept
	unused.ID = dev2.Hex()
	w.more = func(o *audit.ChainOptions, _ *kmsapi.Client) {
		o.Accept = []audit.Accept{accept, unused}
		o.Wanted = map[common.Address]audit.Policy{at: {Devices: []common.Hash{dev1, hidden}}}
		o.Baselines = seen{at: {Control: audit.Control{Owner: "0x00000000000000000000000000000000000000AA", CodeHash: hidden.Hex()}, Since: time.Now().UTC()}}
	}
}

// listed is a world whose API has a list of KMS that names one contract too many.
func listed(w *world) {
	w.more = func(o *audit.ChainOptions, api *kmsapi.Client) { o.KMS = api }
	w.api.UpdateKMS(func(k *[]fakeapi.KMS) {
		more := (*k)[1]
		more.ID, more.Contract, more.Nodes = "kc_more", "0x00000000000000000000000000000000000000aa", []fakeapi.Node{{ID: "kms_more"}}
		*k = append(*k, more)
	})
}

func TestEvidenceGivesTheReportAgain(t *testing.T) {
	for _, tt := range []struct {
		sentence string
		change   func(*world)
		verdict  audit.Verdict
		kinds    string
		believed bool
	}{
		{"all agrees, and is proven", func(*world) {}, audit.Consistent, "", false},
		{"the API denies what the contract allows", denied, audit.Drift, "claim_denied_chain_allowed", false},
		{"the API does not list a device", func(w *world) {
			must(w.t, w.kms.AllowDevice(context.Background(), hidden))
		}, audit.Drift, "unlisted_chain_allowed", false},
		{"the contract stores what nothing explains", backdoor, audit.Drift, "storage_unaccounted", false},
		{"the head agrees already", func(w *world) {
			w.policy, w.opt.PendingMax = "latest-1", time.Hour
			w.claim(func(c *fakeapi.Contract) { c.Devices[1].Allowed = &yes })
			must(w.t, w.kms.AllowDevice(context.Background(), dev2))
		}, audit.Consistent, "", false},
		{"the head agrees for too long", func(w *world) {
			w.policy, w.opt.PendingMax = "latest-1", time.Nanosecond
			w.claim(func(c *fakeapi.Contract) { c.Devices[1].Allowed = &yes })
			must(w.t, w.kms.AllowDevice(context.Background(), dev2))
		}, audit.Drift, "claim_allowed_chain_denied", false},
		{"there is no contract", func(w *world) {
			w.claim(func(c *fakeapi.Contract) { c.Address = "0x00000000000000000000000000000000000000aa" })
		}, audit.Drift, "no_code", false},
		{"the provider does not prove", func(w *world) { w.proxy.Set(noProof) }, audit.Consistent, "", true},
		{"nobody asks for proof", func(w *world) { w.verify = ethrpc.VerifyOff }, audit.Consistent, "", true},
		{"proof is required and not to be had", func(w *world) {
			w.verify = ethrpc.VerifyRequired
			w.proxy.Set(noProof)
		}, audit.Unknown, "", false},
		{"the API fails", func(w *world) { w.api.Fail(fakeapi.Fault{Name: fakeapi.Status, Status: 500}) }, audit.Unknown, "", false},
		{"the API answers no JSON", func(w *world) { w.api.Fail(fakeapi.Fault{Name: fakeapi.HTML}) }, audit.Unknown, "", false},
		{"the provider fails", func(w *world) { w.proxy.Set(rpcfault.Status(401, "")) }, audit.Unknown, "", false},
		{"the provider lies in a call", func(w *world) {
			w.proxy.Set(lie)
		}, audit.Unknown, "getter_disagrees_with_proof", false},
		{"the provider is of another chain", func(w *world) {
			w.proxy.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
				if c.Method == "eth_chainId" {
					a.Result = []byte(`"0x1"`)
				}
			}})
		}, audit.Unknown, "chain_mismatch", false},
		{"logs are not to be had, and needed", func(w *world) {
			backdoor(w)
			w.proxy.Set(rpcfault.Refuse("eth_getLogs", -32601, "not on this plan"))
		}, audit.Unknown, "", false},
		{"the operator has a policy, accepts one of two differences, and knows another owner", told, audit.Drift,
			"owner_changed implementation_changed code_changed policy_allowed_chain_denied accept_unused", false},
		{"the same where nobody proves", func(w *world) {
			told(w)
			w.proxy.Set(noProof)
		}, audit.Drift, "owner_changed implementation_changed code_changed policy_allowed_chain_denied accept_unused", true},
		{"control is seen for the first time", func(w *world) {
			w.more = func(o *audit.ChainOptions, _ *kmsapi.Client) { o.Baselines = seen{} }
		}, audit.Consistent, "", false},
		{"the list of KMS names another contract", listed, audit.Drift, "kms_contract_mismatch", false},
		{"the list of KMS is not to be had", func(w *world) {
			listed(w)
			w.api.Fail(fakeapi.Fault{Name: fakeapi.HTML, Endpoint: fakeapi.List})
		}, audit.Unknown, "", false},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			w := newWorld(t)
			tt.change(w)
			b := w.audit(w.auditor())
			if strings.Contains(string(b), canary) {
				t.Error("the provider's URL is in the evidence")
			}
			f := decode(t, b)
			if f.Report.Verdict != tt.verdict && tt.sentence != "logs are not to be had, and needed" || kinds(f.Report) != tt.kinds {
				t.Fatalf("%s with %q, want %s with %q\n%s", f.Report.Verdict, kinds(f.Report), tt.verdict, tt.kinds, b)
			}
			got, believed, err := evidence.Verify(t.Context(), f)
			if err != nil {
				t.Fatalf("Verify: %v\n%s", err, b)
			}
			if got.Verdict != f.Report.Verdict || got.AuditID != f.Report.AuditID {
				t.Errorf("%s of audit %s, want %s of %s", got.Verdict, got.AuditID, f.Report.Verdict, f.Report.AuditID)
			}
			if (len(believed) > 0) != tt.believed {
				t.Errorf("believed: %q", believed)
			}
		})
	}
}

func TestEvidenceOfADaemon(t *testing.T) {
	w := newWorld(t)
	a := w.auditor()
	for _, step := range []struct {
		sentence string
		change   func()
		verdict  audit.Verdict
	}{
		{"the first audit", func() {}, audit.Consistent},
		{"one in which nothing changed", func() {}, audit.Consistent},
		{"one with a new id that nothing changed for", func() {
			w.claim(func(c *fakeapi.Contract) {
				c.Devices = append(c.Devices, fakeapi.Device{ID: id("77").Hex(), Allowed: &no})
			})
		}, audit.Consistent},
		{"one after the API dropped a row", func() {
			w.claim(func(c *fakeapi.Contract) { c.Devices = c.Devices[1:] })
		}, audit.Drift},
		{"one after a back door opened", func() { backdoor(w) }, audit.Drift},
		{"one with the back door open still", func() {}, audit.Drift},
		{"one in which the API tells of the back door", func() {
			w.claim(func(c *fakeapi.Contract) {
				h := hidden.Hex()
				c.Devices = append(c.Devices, fakeapi.Device{ID: dev1.Hex(), Allowed: &yes})
				c.OSImages = []fakeapi.OSImage{{Name: "os", Version: "1", Hash: &h, Allowed: &yes}}
			})
		}, audit.Consistent},
		{"one in which it does so still", func() {}, audit.Consistent},
		{"one in which the API hides the back door again", func() {
			w.claim(func(c *fakeapi.Contract) { c.OSImages = nil })
		}, audit.Drift},
		{"one without logs", func() {
			must(t, w.kms.AllowDevice(t.Context(), dev2))
			w.proxy.Set(rpcfault.Refuse("eth_getLogs", -32601, "not on this plan"))
		}, audit.Drift},
	} {
		step.change()
		f := decode(t, w.audit(a))
		if f.Report.Verdict != step.verdict {
			t.Errorf("%s is %s, want %s", step.sentence, f.Report.Verdict, step.verdict)
		}
		if _, _, err := evidence.Verify(t.Context(), f); err != nil {
			t.Errorf("the evidence of %s: %v", step.sentence, err)
		}
	}
}

func TestEvidenceOfAnInterruptedAudit(t *testing.T) {
	w := newWorld(t)
	denied(w)
	w.opt.ConfirmDelay = time.Hour
	ctx, cancel := context.WithCancelCause(t.Context())
	w.opt.Progress = func(_, doing string) {
		if strings.Contains(doing, "looking again") {
			cancel(errors.New("somebody pulled the plug"))
		}
	}
	r := w.auditor().Audit(ctx)
	f, err := w.record.Take(r)
	must(t, err)
	got, _, err := evidence.Verify(t.Context(), f)
	must(t, err)
	if diff := cmp.Diff(r.Chains[0].Targets, got.Chains[0].Targets); diff != "" || got.Verdict != audit.Unknown {
		t.Errorf("%s, targets (-was +derived):\n%s", got.Verdict, diff)
	}
}

func TestAVerificationThatIsCalledOff(t *testing.T) {
	w := newWorld(t)
	f, err := w.record.Take(w.auditor().Audit(t.Context()))
	must(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if _, _, err := evidence.Verify(ctx, f); err == nil || !strings.Contains(err.Error(), "enough") || strings.Contains(err.Error(), "does not hold") {
		t.Errorf("Verify = %v, want no judgement", err)
	}
}
