package render_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

// proven is a report that leaves nothing open: two ids are allowed, one is not.
func proven() *audit.Report {
	r := backdoor()
	t := &r.Chains[0].Targets[0]
	t.Completeness, t.Control = audit.Complete, governed().Chains[0].Targets[0].Control
	t.Entries = append(t.Entries, audit.Entry{List: audit.AggregatedMR, ID: "0x" + strings.Repeat("31", 32), Claim: audit.ClaimNone, OnChain: audit.ChainAllowed, Verdict: audit.Unclaimed, Assurance: audit.Proven})
	t.Entries = append(t.Entries, audit.Entry{List: audit.OSImage, ID: refused, Claim: audit.ClaimDenied, OnChain: audit.ChainDenied, Verdict: audit.Match, Assurance: audit.Proven})
	return r
}

func snapshotOf(t *testing.T, r *audit.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := render.Snapshot(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// configured puts sections into a configuration and reads it as config check does.
func configured(t *testing.T, contracts, top string) *config.Config {
	t.Helper()
	file := "chains:\n  - name: base\n    chain_id: 8453\n    providers: [{name: local, url: \"http://127.0.0.1\"}]\n" + contracts + top
	cfg, err := config.Parse([]byte(file), config.Env{Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatalf("%v in\n%s", err, file)
	}
	return cfg
}

func TestSnapshot(t *testing.T) {
	golden(t, "snapshot.yaml", snapshotOf(t, proven()))
	golden(t, "snapshot-doubtful.yaml", snapshotOf(t, governed()))
}

func TestASnapshotIsAPolicy(t *testing.T) {
	hash := func(s string) common.Hash { return common.HexToHash(s) }
	at := func(s string) *common.Address { a := common.HexToAddress(s); return &a }
	code := hash(strings.Repeat("c1", 32))
	none := consistent()
	none.Chains[0].Targets[0].Entries = nil
	odd := proven()
	odd.Chains[0].Chain, odd.Chains[0].Policy = evil, evil
	for i := range odd.Chains[0].Targets[0].Entries {
		odd.Chains[0].Targets[0].Entries[i].Name = evil + "\u2028\n        - [}"
	}
	want := &audit.Policy{
		Devices: []common.Hash{hash(device), hash(strings.Repeat("09", 32))}, OSImages: []common.Hash{hash(allowed)},
		Owner: at(owner), Implementation: at(runs), CodeHash: &code, CodeHashes: []common.Hash{hash(strings.Repeat("c0", 32)), code},
		AggregatedMRs: []common.Hash{hash(strings.Repeat("31", 32))}, KMSPubkeys: []string{"02ab", "30cd"}, GatewayAppID: "0xAb", AppImplementation: at(runs),
	}
	unprintable := proven()
	unprintable.Chains[0].Targets[0].Control.GatewayAppID = evil
	unprintable.Chains[0].Targets[0].Control.KMSPubkeys = []string{"02ab (9999 bytes)", ""}
	unread := proven()
	unread.Chains[0].Targets[0].Control.Read = nil
	less := func(change func(*audit.Policy)) *audit.Policy {
		p := *want
		change(&p)
		return &p
	}
	for _, tt := range []struct {
		name   string
		report *audit.Report
		want   *audit.Policy
	}{
		{"what is allowed on chain is wanted, and who controls it", proven(), want},
		{"foreign text stays in its comments", odd, want},
		{"what no configuration can spell is left out", unprintable, less(func(p *audit.Policy) { p.GatewayAppID, p.KMSPubkeys = "", nil })},
		{"measurements that were not read are not wanted away", unread, less(func(p *audit.Policy) { p.AggregatedMRs = nil })},
		{"where nothing is allowed, nothing is wanted", none, &audit.Policy{Devices: []common.Hash{}, OSImages: []common.Hash{}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := configured(t, snapshotOf(t, tt.report), "").Chains[0].Contracts
			if len(got) != 1 || got[0].Address.Hex() != contract {
				t.Fatalf("contracts %+v", got)
			}
			if diff := cmp.Diff(tt.want, &got[0].Policy); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDoubts(t *testing.T) {
	change := func(f func(*audit.Target)) *audit.Report {
		r := proven()
		f(&r.Chains[0].Targets[0])
		return r
	}
	for _, tt := range []struct {
		name   string
		report *audit.Report
		want   []string
	}{
		{"a proof leaves none", proven(), nil},
		{"one that was looked through in events only", change(func(t *audit.Target) { t.Completeness = audit.EventsOnly }), []string{"completeness is events"}},
		{"one that a provider vouches for", change(func(t *audit.Target) { t.Assurance = audit.Single }), []string{"assurance is single"}},
		{"an id that was not read", change(func(t *audit.Target) { t.Entries[0].OnChain = audit.ChainUnknown }), []string{"1 id could not be read"}},
		{"measurements that were not read", change(func(t *audit.Target) { t.Control.Read = nil }), []string{"its aggregated measurements"}},
		{"control that was not read", change(func(t *audit.Target) { t.Control = nil }), []string{"who controls it"}},
		{"a contract that was not asked for is none of ours", change(func(t *audit.Target) {
			t.Findings = []audit.Finding{{Kind: audit.ContractUnexpected}}
		}), []string{"base: no contract was audited"}},
		{"a chain without contracts", report(audit.Unknown, base(audit.Unknown)), []string{"base: no contract was audited"}},
		{"a source that failed tells why", unknown(), []string{"completeness is unchecked", "1 id could not", "assurance is none", "who controls", "base: public: asking", "ethereum: no contract", "ethereum: api: fetching"}},
		{"a report of nothing", report(audit.Unknown), []string{"nothing was audited"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := render.Doubts(tt.report)
			if len(got) != len(tt.want) {
				t.Fatalf("doubts %q, want %q", got, tt.want)
			}
			for i := range got {
				if !strings.Contains(got[i], tt.want[i]) {
					t.Errorf("doubt %q, want %q", got[i], tt.want[i])
				}
			}
		})
	}
}

func TestTheAcceptBlockIsAcceptedOnceItHasReasons(t *testing.T) {
	_, block, _ := strings.Cut(text(t, governed(), render.TextOptions{}), "\naccept:\n")
	block, _, _ = strings.Cut(block, "\n\n")
	cfg := configured(t, "", "accept:\n"+strings.ReplaceAll(block, `reason: ""`, `reason: "it is known"`)+"\n")
	end := time.Date(2026, 12, 1, 23, 59, 59, 0, time.UTC)
	about := func(index int, k audit.Kind, l audit.List, id string) config.Exception {
		return config.Exception{Chain: "base", Exception: audit.Exception{
			Index: index, Contract: common.HexToAddress(contract), Kind: k, List: l, ID: id, Reason: "it is known", Expires: end,
		}}
	}
	want := []config.Exception{
		about(0, audit.PolicyDeniedAllowed, audit.OSImage, allowed),
		about(1, audit.ClaimAllowedChainDenied, audit.OSImage, refused),
		about(2, audit.MalformedID, audit.Device, `"64a0"…`),
		about(3, audit.NoHash, audit.OSImage, ""),
	}
	if diff := cmp.Diff(want, cfg.Accept); diff != "" {
		t.Error(diff)
	}
}
