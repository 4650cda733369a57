package web_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
	"github.com/kms-auditor/kms-auditor/internal/web"
)

const contract = "0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C"

func id(n int) string { return fmt.Sprintf("0x%064x", n) }

// audited is a report of one contract that ended at a time.
func audited(at time.Time, t audit.Target) *audit.Report {
	t.Contract = contract
	return &audit.Report{
		AuditID: "A1", FinishedAt: at, Verdict: t.Verdict,
		Chains: []audit.Chain{{Chain: "base", ChainID: 8453, Verdict: t.Verdict, Policy: "finalized", Targets: []audit.Target{t}}},
	}
}

// entries are n of one verdict.
func entries(v audit.EntryVerdict, n int) (out []audit.Entry) {
	for i := range n {
		out = append(out, audit.Entry{List: audit.Device, ID: id(i), Claim: audit.ClaimAllowed, OnChain: audit.ChainAllowed, Verdict: v})
	}
	return out
}

// shortened is an id as the page has it: whole for readers, and cut by the style.
func shortened(n int) string {
	return `<code class="id" title="` + id(n) + `" data-t="` + id(n)[63:] + `"><i>` + id(n) + "</i></code>"
}

// shown is the page of a report, in one line, so that a row can name what it must hold.
func shown(t *testing.T, o web.Options) string {
	t.Helper()
	s := serve(t, o, 1)
	resp, body := ask(t, client, request(t, "GET", "http://"+s.addrs[0]+"/"))
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("%d %s: %s", resp.StatusCode, resp.Header.Get("Content-Type"), body)
	}
	return strings.Join(strings.Fields(body), " ")
}

func TestThePageTells(t *testing.T) {
	at := time.Date(2026, 11, 23, 3, 4, 5, 0, time.UTC)
	recently := time.Now().Add(-3*time.Hour - time.Minute)
	block := &audit.Changed{Block: 51375546, Time: &at, Tx: common.HexToHash(id(7)), Actor: contract}
	for _, tt := range []struct {
		name   string
		target audit.Target
		want   []string
	}{
		{"that all is well", audit.Target{Verdict: audit.Consistent}, []string{"<title>consistent ·", ">Consistent</h1>", "was compared with its contract and agrees."}},
		{"that a difference is on its way, and who lives with another", audit.Target{Verdict: audit.Consistent, Counts: audit.Counts{Pending: 2},
			Accepted: []audit.Acceptance{{Kind: audit.ClaimAllowedChainDenied, Expires: at}}},
			[]string{">Consistent <b>1 accepted</b> <b>2 pending</b></h1>", ">Nothing differs, except what is accepted or pending.</p>"}},
		{"that something could not be checked, and why", audit.Target{Reasons: []string{"the API could not be asked"}},
			[]string{">Unknown</h1>", "No difference is confirmed, but", "<bdi>base</bdi> could not be checked: <bdi>the API could not be asked</bdi>.", "<li><bdi>the API could not be asked</bdi></li>"}},
		{"what is open since the last audit could not look again, and for how long",
			audit.Target{Findings: []audit.Finding{
				{Kind: audit.UnlistedChainAllowed, Severity: audit.Critical, State: audit.Still, Message: "it is trusted", FirstSeen: &at, LastConfirmedAt: &recently},
				{Kind: audit.ClaimAllowedChainDenied, Severity: audit.Warning, State: audit.Still, FirstSeen: &at, LastConfirmedAt: &recently},
			}},
			[]string{"<title>unknown, 2 open ·", `<header id="status" class="unknown open" `, ">Unknown <b>1 critical</b> <b>1 warning</b> <b>2 open</b></h1>",
				"on <bdi>base</bdi><bdi>: it is trusted</bdi></p>", "The last audit could not check it again; last confirmed <time", ">3 h ago</time>", ">and 1 more</a>",
				"2 are open: the last audit could not check them again.", `since <time datetime="2026-11-23T03:04:05Z" title="2026-11-23 03:04:05 UTC">`}},
		{"that a single one is open, and of whom it is not the verdict",
			audit.Target{Verdict: audit.Drift, Findings: []audit.Finding{
				{Kind: audit.ClaimAllowedChainDenied, Severity: audit.Warning, State: audit.Confirmed, FirstSeen: &at, LastConfirmedAt: &at},
				{Kind: audit.ClaimUnknownKind, Severity: audit.Info, State: audit.Still},
			}},
			[]string{`<header id="status" class="drift" `, ">Drift <b>1 warning</b> <b>1 open</b></h1>", "One is open: the last audit could not check it again."}},
		{"what is wrong, what it means and what to do",
			audit.Target{Verdict: audit.Drift, Findings: []audit.Finding{{
				Kind: audit.ClaimDeniedChainAllowed, Severity: audit.Critical, List: audit.Device, ID: id(5), Message: "the contract trusts device prod9 (0x0000…005), which the API says is refused",
				Runbook: audit.ClaimDeniedChainAllowed.Runbook(), FirstSeen: &at,
			}}},
			[]string{">Drift <b>1 critical</b></h1>", `KMS contract <code class="id" title="` + contract + `" data-t="a9C"><i>` + contract + "</i></code> on <bdi>base</bdi><bdi> trusts device prod9 (" + shortened(5) + "), which the API says is refused</bdi></p>",
				"<bdi>the contract trusts device prod9 (" + shortened(5), "the contract trusts an id that the API says is refused",
				"2026-11-23 03:04:05 UTC", `docs/findings.md#claim_denied_chain_allowed"`}},
		{"who changed an entry and when",
			audit.Target{Entries: []audit.Entry{{List: audit.OSImage, ID: id(3), Name: "dstack", Version: "0.5.9", Verdict: audit.Mismatch,
				Claim: audit.ClaimAllowed, OnChain: audit.ChainDenied, Policy: audit.PolicyAllowed, Changed: block}}, Counts: audit.Counts{Mismatch: 1}},
			[]string{"<b>mismatch</b>", shortened(3), "0.5.9", `<td class="x">denied</td>`, "block 51375546", id(7), contract}},
		{"why an entry was not compared",
			audit.Target{Entries: []audit.Entry{{Verdict: audit.Unverifiable, Reason: audit.ReasonNotRead}}, Counts: audit.Counts{Unverifiable: 1}},
			[]string{"the chain could not be read"}},
		{"what you live with, why and until when",
			audit.Target{Accepted: []audit.Acceptance{{Kind: audit.ClaimAllowedChainDenied, Message: "it differs", Reason: "the rollout waits", Expires: at}}},
			[]string{"1 accepted", "the rollout waits", ">2026-11-23</time>"}},
		{"who controls the contract, and whom it is offered to",
			audit.Target{Control: &audit.Control{Owner: "0xA1", PendingOwner: "0xA2", Implementation: "0xA3", Code: footprint.Code{Accounts: []footprint.Account{
				{Address: "0xA4", Role: footprint.Library, CodeHash: id(9)}}}}},
			[]string{"0xA1", "0xA2</i></code> <span>A transfer of ownership waits", "0xA3", "library", "0xA4", id(9)}},
		{"how sure it is", audit.Target{Assurance: audit.Proven, Completeness: audit.EventsOnly},
			[]string{"verified against the block&#39;s state root", "A write without an event is not seen"}},
		{"few entries in order at once", audit.Target{Entries: entries(audit.Match, 24), Counts: audit.Counts{Match: 24}}, []string{id(23)}},
		{"many entries in order folded away", audit.Target{Entries: entries(audit.Match, 1234), Counts: audit.Counts{Match: 1234}},
			[]string{"<details", "1234 entries match</summary>", id(999), "1000 of 1234 entries", `href="entries?chain=base&amp;contract=` + contract + `"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := shown(t, options(audited(time.Now(), tt.target)))
			for _, want := range tt.want {
				if !strings.Contains(body, want) {
					t.Errorf("the page lacks %q:\n%s", want, body[strings.Index(body, "<body>"):][:4000])
				}
			}
			if strings.Contains(body, "No difference is confirmed") && strings.Contains(body, "could not check it again") {
				t.Error("an open finding is called unconfirmed")
			}
			if strings.Contains(body, "<details") != (tt.target.Counts.Match > 24) {
				t.Error("what is in order is folded where there is little of it, or open where there is much")
			}
		})
	}
}

func TestWhatComesFromOutsideStaysText(t *testing.T) {
	hostile := `</td><script>alert(1)</script>"'` + "\u202e\U0001F4A9" + strings.Repeat("x", 10_000)
	r := audited(time.Now(), audit.Target{
		Reasons:  []string{hostile},
		Findings: []audit.Finding{{Message: hostile, ID: hostile, Runbook: "javascript:alert(1)"}},
		Accepted: []audit.Acceptance{{Message: hostile, Reason: hostile}},
		Entries:  []audit.Entry{{ID: hostile, Name: hostile, Version: hostile, Verdict: audit.Match}},
		Counts:   audit.Counts{Match: 1},
	})
	r.Chains[0].Chain = hostile
	r.Chains[0].Claim = &audit.Claim{RequestID: hostile}
	r.Chains[0].Errors = []audit.SourceError{{Source: hostile, Message: hostile}}
	body := shown(t, options(r))
	for _, bad := range []string{"<script>alert", "\u202e", "javascript:alert", strings.Repeat("x", 300)} {
		if strings.Contains(body, bad) {
			t.Errorf("the page holds %.20q", bad)
		}
	}
	for _, good := range []string{"&lt;script&gt;", "\U0001F4A9", "…</bdi>"} {
		if !strings.Contains(body, good) {
			t.Errorf("the page lacks %q", good)
		}
	}
}

type minutely struct{}

func (minutely) Next(t time.Time) time.Time { return t.Truncate(time.Minute).Add(time.Minute) }

type never struct{}

func (never) Next(time.Time) time.Time { return time.Time{} }

func TestAnOldPageSaysSo(t *testing.T) {
	ago := func(d time.Duration) *audit.Report {
		return audited(time.Now().Add(-d), audit.Target{Verdict: audit.Consistent})
	}
	soon := web.Plan{Schedule: minutely{}, Timeout: time.Second}
	for _, tt := range []struct {
		name   string
		report *audit.Report
		plan   web.Plan
		class  string
	}{
		{"the last audit is within its period", ago(0), soon, "consistent"},
		{"two periods have gone by", ago(2*time.Minute + time.Second), soon, "consistent stale"},
		{"an audit may take longer than a period", ago(3 * time.Minute), web.Plan{Schedule: minutely{}, Timeout: time.Hour}, "consistent"},
		{"but not for ever", ago(2 * time.Hour), web.Plan{Schedule: minutely{}, Timeout: time.Hour}, "consistent stale"},
		{"nothing is ever due", ago(time.Hour), web.Plan{Schedule: never{}}, "consistent"},
		{"nothing was heard of yet", nil, soon, "none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := options(tt.report)
			o.Plan = func() web.Plan { return tt.plan }
			body := shown(t, o)
			if !strings.Contains(body, `<header id="status" class="`+tt.class+`" `) {
				t.Errorf("want class %q: %s", tt.class, body[strings.Index(body, "<header"):][:200])
			}
			if strings.Contains(body, "<title>out of date ·") != strings.HasSuffix(tt.class, "stale") {
				t.Error("the title and the page differ")
			}
		})
	}
}

// TestTheTagFollowsWhatIsShown: the script loads the page again only if its tag has changed.
func TestTheTagFollowsWhatIsShown(t *testing.T) {
	report, plan := audited(time.Now(), audit.Target{}), web.Plan{Schedule: minutely{}}
	o := options(nil)
	o.Report = func() *audit.Report { return report }
	o.Plan = func() web.Plan { return plan }
	config := "is of 1 o'clock"
	o.Config.Running = func() string { return config }
	s := serve(t, o, 1)
	last := ""
	for _, tt := range []struct {
		name    string
		change  func()
		another bool
	}{
		{"the first page", func() {}, true},
		{"nothing is new", func() {}, false},
		{"another report", func() { report = audited(report.FinishedAt, audit.Target{}) }, true},
		{"another event, which comes with the next report", func() { remember(t, o.State, 1) }, false},
		{"that report", func() { report = audited(report.FinishedAt, audit.Target{}) }, true},
		{"another schedule", func() { plan.Timeout = time.Hour }, true},
		{"another configuration", func() { config = "is of 2 hours" }, true},
	} {
		tt.change()
		head, _ := ask(t, client, request(t, "HEAD", "http://"+s.addrs[0]+"/"))
		page, body := ask(t, client, request(t, "GET", "http://"+s.addrs[0]+"/"))
		tag := head.Header.Get("ETag")
		if tag == "" || (tag != last) != tt.another || page.Header.Get("ETag") != tag {
			t.Errorf("%s: the tag is %s after %s, and the page's %s", tt.name, tag, last, page.Header.Get("ETag"))
		}
		if !strings.Contains(body, strings.ReplaceAll(config, "'", "&#39;")) {
			t.Errorf("%s: the page does not tell which configuration runs", tt.name)
		}
		if !strings.Contains(body, `data-tag="`+strings.ReplaceAll(tag, `"`, "&#34;")) {
			t.Errorf("%s: the page does not name its tag", tt.name)
		}
		last = tag
	}
}

func TestThePolicyAllowsNothingButThePage(t *testing.T) {
	s := serve(t, options(first), 1)
	resp, body := ask(t, client, request(t, "GET", "http://"+s.addrs[0]+"/"))
	policy := resp.Header.Get("Content-Security-Policy")
	for _, element := range []string{"style", "script"} {
		_, text, _ := strings.Cut(body, "<"+element+">")
		text, _, _ = strings.Cut(text, "</"+element+">")
		digest := sha256.Sum256([]byte(text))
		if want := element + "-src 'sha256-" + base64.StdEncoding.EncodeToString(digest[:]) + "'"; !strings.Contains(policy, want) {
			t.Errorf("policy %s has no %s", policy, want)
		}
		if strings.Count(body, "<"+element) != 1 {
			t.Errorf("there is more than one %s", element)
		}
	}
	for _, open := range []string{"unsafe", "*", "http"} {
		if strings.Contains(policy, open) {
			t.Errorf("policy %s has %s", policy, open)
		}
	}
}

// TestALaterReaderCostsLittle counts the allocations of a request for a page that was rendered before.
func TestALaterReaderCostsLittle(t *testing.T) {
	o := options(crowd(1, 10_000))
	h, err := web.Handler(o)
	if err != nil {
		t.Fatal(err)
	}
	for path, most := range map[string]float64{"/": 1000, "/api/v1/report": 100} {
		req := request(t, "GET", path)
		s := sink{header: http.Header{}}
		h.ServeHTTP(&s, req)
		if got := testing.AllocsPerRun(5, func() { h.ServeHTTP(&sink{header: http.Header{}}, req) }); got > most {
			t.Errorf("one more look at %s allocates %.0f times", path, got)
		}
		if path == "/" && s.n > 2<<20 {
			t.Errorf("the page of 10,000 entries has %d bytes", s.n)
		}
	}
}

func TestEveryWordIsExplained(t *testing.T) {
	for _, c := range audit.Completenesses {
		if body := shown(t, options(audited(time.Now(), audit.Target{Completeness: c}))); strings.Contains(body, "<span>"+string(c)+"</span>") {
			t.Errorf("completeness %s is not", c)
		}
	}
	for _, v := range audit.EntryVerdicts {
		body := shown(t, options(audited(time.Now(), audit.Target{Counts: audit.Counts{Match: 1, Mismatch: 1, Unverifiable: 1, Pending: 1, Accepted: 1, Unclaimed: 1}})))
		if strings.Contains(body, `title="`+string(v)+`"`) || !strings.Contains(body, "</b> "+string(v)) {
			t.Errorf("entry verdict %s is not", v)
		}
	}
	for _, reason := range []string{audit.ReasonUnconfirmed, audit.ReasonNotRead, audit.ReasonNoClaim, audit.ReasonWentBack, audit.ReasonHeadAgrees,
		audit.ReasonNotAudited, audit.ReasonClaimAbsent, audit.ReasonMalformed, audit.ReasonNoHash} {
		target := audit.Target{Entries: []audit.Entry{{Verdict: audit.Unverifiable, Reason: reason}}}
		if body := shown(t, options(audited(time.Now(), target))); strings.Contains(body, "<small>"+reason) {
			t.Errorf("reason %s is not", reason)
		}
	}
	for _, a := range []audit.Assurance{"", audit.Single, audit.Agreed, audit.Proven} {
		if body := shown(t, options(audited(time.Now(), audit.Target{Assurance: a, Completeness: audit.Complete}))); strings.Contains(body, "<span>"+string(a)+"</span>") {
			t.Errorf("assurance %q is not", a)
		}
	}
	for _, v := range audit.Verdicts {
		if body := shown(t, options(audited(time.Now(), audit.Target{Verdict: v}))); strings.Contains(body, `<p class="fresh headline">`+v.String()) {
			t.Errorf("verdict %s is not", v)
		}
	}
}
