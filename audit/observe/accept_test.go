package audit_test

import (
	"context"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/fakeapi"
)

func TestAccept(t *testing.T) {
	lies := func(w *world) { w.contract(func(c *fakeapi.Contract) { c.Devices[1].Allowed = &yes }) }
	silent := func(w *world) { w.contract(func(c *fakeapi.Contract) { c.Devices[1].Allowed = nil }) }
	device := audit.Accept{List: audit.Device, ID: dev2.Hex(), Kind: audit.ClaimAllowedChainDenied, Reason: "rollout"}
	claimless := device
	claimless.Kind = audit.ClaimUnknownKind
	unwanted := device
	unwanted.ID, unwanted.Kind = hidden.Hex(), audit.PolicyDeniedAllowed
	unlisted := unwanted
	unlisted.Kind = audit.UnlistedChainAllowed
	storage := audit.Accept{Kind: audit.StorageUnaccounted, Reason: "known"}
	elsewhere := device
	elsewhere.Contract = common.Address{1}
	hide := func(w *world) { must(t, w.kms.AllowDevice(context.Background(), hidden)) }
	for _, row := range []struct {
		sentence string
		change   func(*world)
		accept   []audit.Accept
		expired  bool
		verdict  audit.Verdict
		kinds    string
		accepted int // entries
		aside    int // findings that are accepted
	}{
		{"a difference is accepted", lies, []audit.Accept{device}, false, audit.Consistent, "", 1, 1},
		{"until it runs out", lies, []audit.Accept{device}, true, audit.Drift, "claim_allowed_chain_denied accept_expired", 0, 0},
		{"there is no such difference", func(*world) {}, []audit.Accept{device}, false, audit.Consistent, "accept_unused", 0, 0},
		{"there is no such difference any more", func(*world) {}, []audit.Accept{device}, true, audit.Consistent, "accept_unused", 0, 0},
		{"the difference is another one", silent, []audit.Accept{device}, false, audit.Unknown, "claim_unknown", 0, 0},
		{"the API's silence is accepted", silent, []audit.Accept{claimless}, false, audit.Consistent, "", 1, 1},
		{"of two differences one is accepted", hide, []audit.Accept{unlisted}, false, audit.Drift, "policy_denied_chain_allowed", 0, 1},
		{"of two differences both are accepted", hide, []audit.Accept{unlisted, unwanted}, false, audit.Consistent, "", 1, 2},
		{"a back door is accepted", func(w *world) {
			w.backdoor()
		}, []audit.Accept{storage}, false, audit.Consistent, "", 0, 1},
		{"the contract is none of the chain's", lies, []audit.Accept{device, elsewhere}, false, audit.Consistent, "accept_unused", 1, 1},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			w := provenWorld(t)
			row.change(w)
			for i := range row.accept {
				a := &row.accept[i]
				if a.Chain = "test"; a.Contract == (common.Address{}) {
					a.Contract = w.kms.Address()
				}
				a.Expires = time.Now().Add(time.Hour)
				if row.expired {
					a.Expires = time.Now().Add(-time.Hour)
				}
			}
			w.more = func(o *audit.ChainOptions) {
				o.Accept = row.accept
				o.Wanted = map[common.Address]audit.Policy{w.kms.Address(): {Devices: []common.Hash{dev1}}}
			}
			r := w.audit()
			target := r.Chains[0].Targets[0]
			if r.Verdict != row.verdict || kindsOf(r) != row.kinds || target.Counts.Accepted != row.accepted || len(target.Accepted) != row.aside {
				t.Errorf("%s with %q, %d entries and %d findings accepted; want %s with %q, %d and %d\n%s",
					r.Verdict, kindsOf(r), target.Counts.Accepted, len(target.Accepted), row.verdict, row.kinds, row.accepted, row.aside, text(t, r))
			}
			for _, a := range target.Accepted {
				if a.Reason == "" || a.Message == "" || a.Expires.IsZero() {
					t.Errorf("accepted without a reason or an end: %+v", a)
				}
			}
		})
	}
}

// TestWhatIsAcceptedWithoutAComparisonIsNotConsistent: nothing else was compared either.
func TestWhatIsAcceptedWithoutAComparisonIsNotConsistent(t *testing.T) {
	for sentence, row := range map[string]struct {
		kind   audit.Kind
		id     string
		device fakeapi.Device
	}{
		"an id that is none": {audit.MalformedID, `"0x12"`, fakeapi.Device{ID: "0x12", Allowed: &yes}},
		"the API's silence":  {audit.ClaimUnknownKind, dev1.Hex(), fakeapi.Device{ID: dev1.Hex()}},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := provenWorld(t)
			w.contract(func(c *fakeapi.Contract) { c.Devices, c.OSImages = []fakeapi.Device{row.device}, []fakeapi.OSImage{} })
			must(t, w.kms.RemoveImage(t.Context(), img1))
			if row.kind == audit.MalformedID {
				must(t, w.kms.RemoveDevice(t.Context(), dev1))
			}
			w.more = func(o *audit.ChainOptions) {
				o.Accept = []audit.Accept{{
					Chain: "test", Contract: w.kms.Address(), List: audit.Device, ID: row.id, Kind: row.kind, Reason: "a test", Expires: time.Now().Add(time.Hour),
				}}
			}
			r := w.audit()
			if target := r.Chains[0].Targets[0]; r.Verdict != audit.Unknown || target.Counts.Accepted != 1 || target.Compared() {
				t.Errorf("%s\n%s", r.Verdict, text(t, r))
			}
		})
	}
}

// TestAContractThatOnlyTheListNames is not audited, and accepted it does not stand in the others' way.
func TestAContractThatOnlyTheListNames(t *testing.T) {
	w := provenWorld(t)
	w.cross = true
	stranger := common.Address{0x55}
	w.api.UpdateKMS(func(k *[]fakeapi.KMS) {
		more := (*k)[1]
		more.ID, more.Contract = "kc_more", stranger.Hex()
		*k = append(*k, more)
	})
	if r := w.audit(); r.Verdict != audit.Drift || len(r.Chains[0].Targets) != 2 {
		t.Errorf("%s with %d contracts", r.Verdict, len(r.Chains[0].Targets))
	}
	w.more = func(o *audit.ChainOptions) {
		o.Accept = []audit.Accept{{Chain: "test", Contract: stranger, Kind: audit.KMSContractMismatch, Reason: "a test", Expires: time.Now().Add(time.Hour)}}
	}
	r := w.audit()
	if target := r.Chains[0].Targets[0]; r.Verdict != audit.Consistent || len(r.Chains[0].Targets) != 1 || len(target.Accepted) != 1 {
		t.Errorf("%s\n%s", r.Verdict, text(t, r))
	}
}

// TestAnAcceptedDifferenceRunsOutWhileTheDaemonRuns: what is remembered of an audit ends with it.
func TestAnAcceptedDifferenceRunsOutWhileTheDaemonRuns(t *testing.T) {
	w := provenWorld(t)
	w.contract(func(c *fakeapi.Contract) { c.Devices[1].Allowed = &yes })
	at := time.Now()
	w.opt.Now = func(string) time.Time { return at }
	w.more = func(o *audit.ChainOptions) {
		o.Accept = []audit.Accept{{
			Chain: "test", Contract: w.kms.Address(), List: audit.Device, ID: dev2.Hex(),
			Kind: audit.ClaimAllowedChainDenied, Reason: "rollout", Expires: at.Add(time.Hour),
		}}
	}
	a := w.auditor()
	for _, row := range []struct {
		after   time.Duration
		verdict audit.Verdict
	}{{0, audit.Consistent}, {time.Minute, audit.Consistent}, {time.Hour, audit.Drift}, {0, audit.Consistent}} {
		at = time.Now().Add(row.after)
		if r := w.auditWith(a); r.Verdict != row.verdict {
			t.Errorf("after %s: %s, want %s", row.after, r.Verdict, row.verdict)
		}
	}
}
