package observe_test

import (
	"context"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
)

func TestAccept(t *testing.T) {
	lies := func(w *world) { w.contract(func(c *fakeapi.Contract) { c.Devices[1].Allowed = &yes }) }
	silent := func(w *world) { w.contract(func(c *fakeapi.Contract) { c.Devices[1].Allowed = nil }) }
	device := audit.Exception{List: audit.Device, ID: dev2.Hex(), Kind: audit.ClaimAllowedChainDenied, Reason: "rollout"}
	claimless := device
	claimless.Kind = audit.ClaimUnknownKind
	unwanted := device
	unwanted.ID, unwanted.Kind = hidden.Hex(), audit.PolicyDeniedAllowed
	unlisted := unwanted
	unlisted.Kind = audit.UnlistedChainAllowed
	sneaked := audit.Exception{List: audit.OSImage, ID: hidden.Hex(), Kind: audit.UnlistedChainAllowed, Reason: "known"}
	storage := audit.Exception{Kind: audit.StorageUnaccounted, Reason: "known"}
	elsewhere := device
	elsewhere.Contract = common.Address{1}
	hide := func(w *world) { must(t, w.kms.AllowDevice(context.Background(), hidden)) }
	for _, row := range []struct {
		sentence string
		change   func(*world)
		accept   []audit.Exception
		expired  bool
		verdict  audit.Verdict
		kinds    string
		accepted int // entries
		aside    int // findings that are accepted
	}{
		{"a difference is accepted", lies, []audit.Exception{device}, false, audit.Consistent, "", 1, 1},
		{"until it runs out", lies, []audit.Exception{device}, true, audit.Drift, "claim_allowed_chain_denied accept_expired", 0, 0},
		{"there is no such difference", func(*world) {}, []audit.Exception{device}, false, audit.Consistent, "accept_unused", 0, 0},
		{"there is no such difference any more", func(*world) {}, []audit.Exception{device}, true, audit.Consistent, "accept_unused", 0, 0},
		{"the difference is another one", silent, []audit.Exception{device}, false, audit.Unknown, "claim_unknown", 0, 0},
		{"the API's silence is accepted", silent, []audit.Exception{claimless}, false, audit.Consistent, "", 1, 1},
		{"of two differences one is accepted", hide, []audit.Exception{unlisted}, false, audit.Drift, "policy_denied_chain_allowed", 0, 1},
		{"of two differences both are accepted", hide, []audit.Exception{unlisted, unwanted}, false, audit.Consistent, "", 1, 2},
		{"a back door is accepted", func(w *world) {
			w.backdoor()
		}, []audit.Exception{storage}, false, audit.Consistent, "", 0, 1},
		{"nothing but what is accepted names the id", func(w *world) { w.backdoor() }, []audit.Exception{sneaked}, false, audit.Consistent, "", 1, 1},
		{"the contract is none of the chain's", lies, []audit.Exception{device, elsewhere}, false, audit.Consistent, "accept_unused", 1, 1},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			w := provenWorld(t)
			row.change(w)
			w.want(audit.Policy{Devices: []common.Hash{dev1}})
			for _, x := range row.accept {
				if row.expired {
					x.Expires = time.Now().Add(-time.Hour)
				}
				w.accept(x)
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

// TestWhatIsAcceptedWithoutAComparisonIsNotConsistent: nothing else was compared.
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
			w.accept(audit.Exception{List: audit.Device, ID: row.id, Kind: row.kind, Reason: "a test"})
			r := w.audit()
			if target := r.Chains[0].Targets[0]; r.Verdict != audit.Unknown || target.Counts.Accepted != 1 || target.Compared() {
				t.Errorf("%s\n%s", r.Verdict, text(t, r))
			}
		})
	}
}

// TestAContractThatOnlyTheListNames is not audited. Once accepted, it does not affect the others.
func TestAContractThatOnlyTheListNames(t *testing.T) {
	w := provenWorld(t)
	w.intent.CrossChecks = true
	stranger := common.Address{0x55}
	w.api.UpdateKMS(func(k *[]fakeapi.KMS) {
		more := (*k)[1]
		more.ID, more.Contract = "kc_more", stranger.Hex()
		*k = append(*k, more)
	})
	if r := w.audit(); r.Verdict != audit.Drift || len(r.Chains[0].Targets) != 2 {
		t.Errorf("%s with %d contracts", r.Verdict, len(r.Chains[0].Targets))
	}
	w.accept(audit.Exception{Contract: stranger, Kind: audit.KMSContractMismatch, Reason: "a test"})
	r := w.audit()
	if target := r.Chains[0].Targets[0]; r.Verdict != audit.Consistent || len(r.Chains[0].Targets) != 1 || len(target.Accepted) != 1 {
		t.Errorf("%s\n%s", r.Verdict, text(t, r))
	}
}

// TestAnAcceptedDifferenceRunsOutWhileTheDaemonRuns: then it is drift, and a finding opens.
func TestAnAcceptedDifferenceRunsOutWhileTheDaemonRuns(t *testing.T) {
	w := provenWorld(t)
	w.contract(func(c *fakeapi.Contract) { c.Devices[1].Allowed = &yes })
	expires := time.Now().Add(2 * time.Second)
	w.accept(audit.Exception{List: audit.Device, ID: dev2.Hex(), Kind: audit.ClaimAllowedChainDenied, Reason: "rollout", Expires: expires})
	a := w.auditor()
	a.says(audit.Consistent, "")
	a.says(audit.Consistent, "")
	time.Sleep(time.Until(expires))
	a.says(audit.Drift, "claim_allowed_chain_denied accept_expired")
}
