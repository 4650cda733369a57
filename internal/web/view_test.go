package web_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/web"
)

func TestFindingsOfAKindAreOneGroup(t *testing.T) {
	r := audited(time.Now(), audit.Target{Verdict: audit.Drift})
	other := r.Chains[0]
	other.Chain, other.Targets = "ethereum", []audit.Target{{Contract: "0x0000000000000000000000000000000000000001", Verdict: audit.Drift}}
	r.Chains = append(r.Chains, other)
	add := func(chain int, k audit.Kind, n int, ago time.Duration) {
		at := time.Now().Add(-ago)
		r.Chains[chain].Targets[0].Findings = append(r.Chains[chain].Targets[0].Findings, audit.Finding{
			Kind: k, Severity: k.Severity(), List: audit.Device, ID: id(n), Message: "the contract does it", Runbook: k.Runbook(), FirstSeen: &at, State: audit.Confirmed,
		})
	}
	add(0, audit.ClaimAllowedChainDenied, 1, time.Hour)
	add(0, audit.NoHash, 2, 9*time.Hour)
	add(0, audit.UnlistedChainAllowed, 3, time.Hour)
	add(1, audit.ClaimAllowedChainDenied, 4, 2*time.Hour)
	add(1, audit.UnlistedChainAllowed, 5, 3*time.Hour)
	body := shown(t, options(r))
	_, findings, _ := strings.Cut(body, `<section id="findings"`)
	findings, _, _ = strings.Cut(findings, "</section>")
	var got []string
	for _, m := range regexp.MustCompile(`<article class="group (\w+)">|<i>(0x0{60}\w+)</i>`).FindAllStringSubmatch(findings, -1) {
		got = append(got, m[1]+strings.TrimLeft(m[2], "0x"))
	}
	if want := []string{"critical", "5", "3", "warning", "4", "1", "info", "2"}; !slices.Equal(got, want) {
		t.Errorf("the groups and their rows are %q, want %q", got, want)
	}
	for _, k := range []audit.Kind{audit.ClaimAllowedChainDenied, audit.NoHash, audit.UnlistedChainAllowed} {
		if n := strings.Count(findings, k.Meaning()+"<"); n != 1 || strings.Count(findings, `href="`+k.Runbook()) != 1 {
			t.Errorf("the meaning of %s is there %d times", k, n)
		}
	}
	if want := "on <bdi>ethereum</bdi><bdi> does it " + shortened(5) + "</bdi></p>"; !strings.Contains(body, want) || !strings.Contains(body, ">and 3 more</a>") {
		t.Errorf("the banner has not %s", want)
	}
}

// Whoever can open findings at will must not push another kind, or another contract, off the page.
func TestManyFindingsHideNoOther(t *testing.T) {
	now, old := time.Now(), time.Now().Add(-time.Hour)
	r := audited(now, audit.Target{Verdict: audit.Drift})
	other := r.Chains[0]
	other.Chain, other.Targets = "ethereum", []audit.Target{{Contract: "0x0000000000000000000000000000000000000001", Verdict: audit.Drift, Findings: []audit.Finding{
		{Kind: audit.UnlistedChainAllowed, Severity: audit.Critical, List: audit.Device, ID: id(777), FirstSeen: &now}}}}
	r.Chains = append(r.Chains, other)
	target := &r.Chains[0].Targets[0]
	for i := range 300 {
		target.Findings = append(target.Findings, audit.Finding{Kind: audit.UnlistedChainAllowed, Severity: audit.Critical, List: audit.Device, ID: id(1000 + i), FirstSeen: &old})
	}
	target.Findings = append(target.Findings, audit.Finding{Kind: audit.OwnerChanged, Severity: audit.Critical, Message: "another owner", FirstSeen: &now})
	body := shown(t, options(r))
	for _, want := range []string{"another owner", shortened(777), "100 of 302 findings are shown"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestAnOutageShowsTheLastComparison(t *testing.T) {
	now := time.Now()
	good := audited(now.Add(-42*time.Minute), audit.Target{Verdict: audit.Consistent, Counts: audit.Counts{Match: 1}, Entries: []audit.Entry{
		{List: audit.Device, ID: id(1), Name: "prod9", Claim: audit.ClaimAllowed, OnChain: audit.ChainAllowed, Verdict: audit.Match}}})
	good.Chains[0].Claim, good.Chains[0].Block = &audit.Claim{}, &audit.Block{Number: 7}
	bad := audited(now, audit.Target{Reasons: []string{"the API could not be read"}, Counts: audit.Counts{Unverifiable: 1, Mismatch: 1}, Entries: []audit.Entry{
		{List: audit.Device, ID: id(1), Claim: audit.ClaimUnknown, OnChain: audit.ChainAllowed, Verdict: audit.Unverifiable, Reason: audit.ReasonNoClaim},
		{List: audit.Device, ID: id(2), Claim: audit.ClaimUnknown, OnChain: audit.ChainAllowed, Policy: audit.PolicyDenied, Verdict: audit.Mismatch}}})
	bad.AuditID = "A2"
	bad.Chains[0].Block, bad.Chains[0].Errors = &audit.Block{Number: 9}, []audit.SourceError{{Stage: audit.StageAPI, Source: "api", Message: "status 500."}}
	o := options(bad)
	for _, r := range []*audit.Report{good, bad, bad} {
		o.State.Record(r, nil, nil)
	}
	body := shown(t, o)
	for _, want := range []string{
		`<bdi>base</bdi> could not be checked: <bdi>status 500</bdi>. The last comparison was <time`, ">42 min ago</time>: <b>consistent</b>.",
		"<summary>The last comparison, <time", "Audit <code>A1</code> at block", ">prod9</bdi>", "<b>match</b>", shortened(2), "Of the last audit, 1 of 2 entries are shown here",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(body, "<b>unverifiable</b>") {
		t.Error("the entries that could not be compared are shown before one asks for them")
	}
	bad.Chains[0].Targets[0].Findings = []audit.Finding{{Kind: audit.OwnerChanged, Severity: audit.Critical, Message: "the owner changed", State: audit.Still}}
	if body := shown(t, o); strings.Contains(body, "<b>consistent</b>") || strings.Contains(body, "</time>: consistent") || !strings.Contains(body, "The last comparison was <time") {
		t.Error("while a finding is open, the page calls the last comparison consistent")
	}
	o.State.Record(good, nil, nil)
	o.Report = func() *audit.Report { return good }
	if body := shown(t, o); strings.Contains(body, "The last comparison") {
		t.Error("after the outage the page still shows the last comparison")
	}
}

func TestPastFindings(t *testing.T) {
	now := time.Now().UTC()
	r := audited(now, audit.Target{Verdict: audit.Consistent})
	o := options(r)
	resolve := func(n int, ago time.Duration) {
		opened := now.Add(-ago - 90*time.Minute)
		past := *r
		past.FinishedAt = now.Add(-ago)
		o.State.Record(&past, nil, []audit.Change{{Type: audit.Resolved, Chain: "base", Contract: contract, Finding: audit.Finding{
			Kind: audit.UnlistedChainAllowed, Severity: audit.Critical, ID: id(n), Message: "the contract trusts prod9 (0x0000…00" + fmt.Sprint(n) + ")", FirstSeen: &opened}}})
	}
	resolve(1, 31*24*time.Hour)
	for i := range 60 {
		resolve(2+i%8, 29*24*time.Hour-time.Duration(i)*time.Hour)
	}
	body := shown(t, o)
	_, past, _ := strings.Cut(body, `<table class="resolved">`)
	past, more, _ := strings.Cut(past, "</table>")
	rows := strings.Split(past, "<tr>")[2:] // the first is the head
	if len(rows) != 50 || !strings.Contains(more, "10 more were resolved") {
		t.Fatalf("%d past findings are shown, and then %.100s", len(rows), more)
	}
	for _, want := range []string{"<td>1 h</td>", `<td class="critical">critical</td>`, "unlisted_chain_allowed", "(" + shortened(2+59%8) + ")", ">26 days ago<", contract} {
		if !strings.Contains(rows[0], want) {
			t.Errorf("the latest of them lacks %q: %s", want, rows[0])
		}
	}
	if strings.Contains(past, shortened(1)) {
		t.Error("one of 31 days ago is shown")
	}
}

func TestLinksToTheExplorer(t *testing.T) {
	at := time.Now()
	tx := common.HexToHash(id(7))
	r := audited(at, audit.Target{Verdict: audit.Drift, Control: &audit.Control{Owner: "0xA1"},
		Findings: []audit.Finding{{Kind: audit.UnlistedChainAllowed, Severity: audit.Critical, List: audit.Device, ID: id(5), State: audit.Confirmed}},
		Entries:  []audit.Entry{{List: audit.Device, ID: id(5), Verdict: audit.Mismatch, Changed: &audit.Changed{Block: 6, Time: &at, Tx: tx}}}})
	r.Chains[0].Block = &audit.Block{Number: 9}
	o := options(r)
	if body := shown(t, o); strings.Contains(body, `aria-label="Explorer"`) {
		t.Error("without an explorer there are links to it")
	}
	explorer := "https://explorer.test"
	o.Explorers = func() map[string]string { return map[string]string{"base": explorer, "ethereum": "https://other.test"} }
	body := shown(t, o)
	for path, n := range map[string]int{"address/" + contract: 4, "address/0xA1": 1, "tx/" + tx.Hex(): 2, "block/9": 1} {
		if got := strings.Count(body, `href="https://explorer.test/`+path+`"`); got != n {
			t.Errorf("%d links lead to %s, want %d", got, path, n)
		}
	}
	if strings.Contains(body, "other.test") {
		t.Error("a link leads to the explorer of another chain")
	}
	explorer = `javascript:alert(1)//"><script>`
	if body := shown(t, o); strings.Contains(body, `href="javascript`) || strings.Contains(body, `"><script>/`) {
		t.Error("an explorer runs a script")
	}
}

func TestTheIconFollowsTheVerdict(t *testing.T) {
	icon := regexp.MustCompile(`<link rel="icon" href="(data:image/svg&#43;xml,[^"]+)"`)
	seen := map[string]string{}
	for name, o := range map[string]web.Options{
		"none": options(nil), "consistent": options(audited(time.Now(), audit.Target{Verdict: audit.Consistent})),
		"drift": options(audited(time.Now(), audit.Target{Verdict: audit.Drift})), "unknown": options(audited(time.Now(), audit.Target{})),
		"stale": options(audited(time.Now().Add(-time.Hour), audit.Target{Verdict: audit.Consistent})),
	} {
		if name == "stale" {
			o.Plan = func() web.Plan { return web.Plan{Schedule: minutely{}} }
		}
		m := icon.FindStringSubmatch(shown(t, o))
		if m == nil {
			t.Fatalf("%s has no icon", name)
		}
		if seen[m[1]] != "" {
			t.Errorf("%s and %s have one icon", name, seen[m[1]])
		}
		seen[m[1]] = name
	}
}
