package metrics_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/metrics"
)

var tx = common.HexToHash("0x" + strings.Repeat("ab", 32))

// info returns the labels of the one open_finding_info series of a kind.
func info(t *testing.T, g prometheus.Gatherer, kind audit.Kind) map[string]string {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() == "kms_auditor_open_finding_info" && labels["kind"] == string(kind) {
				all = append(all, labels)
			}
		}
	}
	if len(all) != 1 {
		t.Fatalf("%d series of %s, want 1: %v", len(all), kind, all)
	}
	return all[0]
}

// finds is a target with one finding of a kind about a device, or about the contract as a whole.
func finds(kind audit.Kind, message string) audit.Target {
	t, seen := drifted(), noon.Add(-time.Hour)
	f := audit.Finding{Kind: kind, State: audit.Confirmed, Message: message, FirstSeen: &seen}
	if kind.OfEntry() {
		f.List, f.ID = audit.Device, refused
		t.Entries = []audit.Entry{{List: f.List, ID: f.ID, Name: "prod9", Kind: kind, Verdict: audit.Mismatch, Changed: &audit.Changed{Tx: tx}}}
	}
	t.Findings = []audit.Finding{f}
	return t
}

func TestWhatAnAlertSays(t *testing.T) {
	const of, device = "KMS contract " + contract + " on base", "device " + refused + " (prod9?)"
	for kind, want := range map[audit.Kind]string{
		audit.UnlistedChainAllowed:    of + " trusts " + device + ", which the API does not list",
		audit.ClaimDeniedChainAllowed: of + " trusts " + device + ", which the API says is refused",
		audit.PolicyDeniedAllowed:     of + " trusts " + device + ", which your policy does not list",
		audit.ClaimAllowedChainDenied: of + " refuses " + device + ", which the API says is allowed",
		audit.PolicyAllowedDenied:     of + " refuses " + device + ", which your policy allows",
		audit.DuplicateConflict:       of + ": in other words",
		audit.OwnerChanged:            of + ": in other words",
		audit.StorageUnaccounted:      of + " stores more than it should",
	} {
		t.Run(string(kind), func(t *testing.T) {
			reg, m := fresh()
			message := "in other words"
			if kind == audit.StorageUnaccounted {
				message = "the contract stores more than it should"
			}
			m.Report(report(finds(kind, message)))
			got := info(t, reg, kind)
			if got["message"] != want {
				t.Errorf("it says %q, want %q", got["message"], want)
			}
			wantTx, wantName := "", ""
			if kind.OfEntry() {
				wantTx, wantName = tx.Hex(), "prod9"
			}
			if got["tx"] != wantTx || got["name"] != wantName {
				t.Errorf("tx %q, name %q, want %q and %q", got["tx"], got["name"], wantTx, wantName)
			}
			if seen := series(t, reg, "open_finding_first_seen_timestamp_seconds"); len(seen) != 1 || !strings.HasSuffix(seen[0], " 1.7935308e+09") {
				t.Errorf("first seen: %q", seen)
			}
		})
	}
}

func TestForeignTextInWhatAnAlertSays(t *testing.T) {
	const evil = "<!channel> <https://evil.example|prod9>\n*RESOLVED* "
	reg, m := fresh()
	target := finds(audit.UnlistedChainAllowed, "")
	target.Entries[0].Name = strings.Repeat(evil, 20)
	long := finds(audit.KMSPubkeyMismatch, strings.Repeat(evil, 20))
	target.Findings = append(target.Findings, long.Findings...)
	m.Report(report(target))
	for kind, most := range map[audit.Kind]int{audit.UnlistedChainAllowed: 260, audit.KMSPubkeyMismatch: 300} {
		for label, text := range info(t, reg, kind) {
			if strings.ContainsAny(text, "<>|*\n") || strings.Contains(text, "evil.") || strings.Contains(text, "://") || len(text) > most {
				t.Errorf("%s of %s: %q", label, kind, text)
			}
		}
	}
	if name := info(t, reg, audit.UnlistedChainAllowed)["name"]; len(name) > 43 || !strings.Contains(name, "!channel") {
		t.Errorf("name %q", name)
	}
}

// Two replicas, and two scrapes of one, must not disagree about which of several findings an alert is about.
func TestFindingsWithTheSameLabelsAreOneAlert(t *testing.T) {
	want := "KMS contract " + contract + " on base: a"
	for _, messages := range [][]string{{"a", "b"}, {"b", "a"}} {
		reg, m := fresh()
		target := finds(audit.KMSPubkeyMismatch, messages[0])
		target.Findings = append(target.Findings, finds(audit.KMSPubkeyMismatch, messages[1]).Findings...)
		m.Report(report(target))
		if got := info(t, reg, audit.KMSPubkeyMismatch)["message"]; got != want {
			t.Errorf("%q: it says %q, want %q", messages, got, want)
		}
	}
}

func TestAnOutageDoesNotTakeTheNameFromAnAlert(t *testing.T) {
	reg, m := fresh()
	m.Report(report(finds(audit.UnlistedChainAllowed, "")))
	before := info(t, reg, audit.UnlistedChainAllowed)
	out := finds(audit.UnlistedChainAllowed, "")
	out.Entries, out.Findings[0].State = nil, audit.Still
	for range 2 {
		m.Report(report(out))
		if diff := cmp.Diff(before, info(t, reg, audit.UnlistedChainAllowed)); diff != "" {
			t.Errorf("in an outage (-before +after):\n%s", diff)
		}
	}
	seen := finds(audit.UnlistedChainAllowed, "")
	seen.Entries[0].Name, seen.Entries[0].Changed = "", nil
	m.Report(report(seen))
	if got := info(t, reg, audit.UnlistedChainAllowed); got["name"]+got["tx"] != "" {
		t.Errorf("the audit saw it without a name, and the alert still says %q", got)
	}
	m.Report(report(consistent()))
	if got := series(t, reg, "open_finding_info"); got != nil {
		t.Errorf("nothing is open, and still %q", got)
	}
}

func TestTheLinksOfAChain(t *testing.T) {
	reg, m := fresh()
	for _, c := range []metrics.Chain{
		{Name: "base", Explorer: "https://basescan.org", ExternalURL: "https://audit.example.com"},
		{Name: "ethereum"},
	} {
		m.Configure([]metrics.Chain{c})
		want := []string{`kms_auditor_chain_info{chain="` + c.Name + `",explorer="` + c.Explorer + `",external_url="` + c.ExternalURL + `"} 1`}
		if diff := cmp.Diff(want, series(t, reg, "chain_info")); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
