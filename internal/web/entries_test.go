package web_test

import (
	"html"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
)

var (
	onwards = regexp.MustCompile(`<a href="(entries\?[^"]*)">(?:page|all)`)
	rowIDs  = regexp.MustCompile(`<tr class="(?:mismatch|match)">.*?title="(0x[0-9a-f]{64})"`)
)

// TestEveryEntryIsReachedByLinks follows what a reader without JavaScript could click.
func TestEveryEntryIsReachedByLinks(t *testing.T) {
	r := audited(time.Now(), crowd(1, 2345).Chains[0].Targets[0])
	r.Chains[0].Chain = `base & <"co">`
	s := serve(t, options(r), 1)
	base, err := url.Parse("http://" + s.addrs[0] + "/")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	seen, next := map[string]bool{}, []string{""}
	for len(next) > 0 {
		to, err := base.Parse(html.UnescapeString(next[0]))
		if err != nil {
			t.Fatal(err)
		}
		resp, body := ask(t, client, request(t, "GET", to.String()))
		if resp.StatusCode != 200 || strings.Contains(body, "ZgotmplZ") {
			t.Fatalf("%s: %d %.300s", to, resp.StatusCode, body)
		}
		if next = next[1:]; to.Path != "/" {
			for _, m := range rowIDs.FindAllStringSubmatch(body, -1) {
				got = append(got, m[1])
			}
			if strings.Contains(body, "<script") {
				t.Error("the page of entries has a script")
			}
		}
		for _, m := range onwards.FindAllStringSubmatch(body, -1) {
			if !seen[m[1]] && !strings.HasSuffix(m[1], "page=1") {
				seen[m[1]], next = true, append(next, m[1])
			}
		}
	}
	var want []string
	for _, v := range []audit.EntryVerdict{audit.Mismatch, audit.Match} {
		for _, e := range r.Chains[0].Targets[0].Entries {
			if e.Verdict == v {
				want = append(want, e.ID)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the pages show %d entries, the worst first (-want +got):\n%.2000s", len(got), diff)
	}
}

func TestEntriesOfNothing(t *testing.T) {
	r := audited(time.Now(), audit.Target{Entries: entries(audit.Match, 1001), Counts: audit.Counts{Match: 1001}})
	for _, tt := range []struct {
		name, query string
		report      *audit.Report
		status      int
		says        string
	}{
		{"there is no report", "chain=base&contract=" + contract, nil, 503, "no audit"},
		{"the second page is the last", "chain=base&contract=" + contract + "&page=2", r, 200, id(1000)},
		{"the address may be spelled in lower case", "chain=base&contract=" + strings.ToLower(contract), r, 200, id(0)},
		{"there is no third page", "chain=base&contract=" + contract + "&page=3", r, 404, "no page 3 of 2"},
		{"nor one before the first", "chain=base&contract=" + contract + "&page=0", r, 404, "no page 0"},
		{"nor one before that", "chain=base&contract=" + contract + "&page=-9223372036854775808", r, 404, "no page -9223372036854775808"},
		{"a page is a number", "chain=base&contract=" + contract + "&page=1e1", r, 404, `page "1e1" is no number`},
		{"a contract is an address", "chain=base&contract=%3Cscript%3E", r, 404, `contract "<script>" is no address`},
		{"a long one is cut", "contract=" + strings.Repeat("x", 1000), r, 404, strings.Repeat("x", 200) + `"…`},
		{"another chain has it not", "chain=ethereum&contract=" + contract, r, 404, `on chain "ethereum"`},
		{"a query can be broken", "chain=%zz", r, 404, "cannot be read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, options(tt.report), 1)
			resp, body := ask(t, client, request(t, "GET", "http://"+s.addrs[0]+"/entries?"+tt.query))
			if resp.StatusCode != tt.status || !strings.Contains(body, tt.says) {
				t.Errorf("%d %.500s, want %d and %s", resp.StatusCode, body, tt.status, tt.says)
			}
			if tt.status != 200 && resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("the refusal is %s", resp.Header.Get("Content-Type"))
			}
		})
	}
}

// TestTheWorstOfAllContractsIsShown has a large contract that alone would reach the page's limits.
func TestTheWorstOfAllContractsIsShown(t *testing.T) {
	finding := func(s audit.Severity, n int) audit.Finding {
		return audit.Finding{Kind: audit.ClaimAllowedChainDenied, Severity: s, ID: id(n), Message: "it differs"}
	}
	large := audit.Target{Entries: entries(audit.Match, 5000), Counts: audit.Counts{Match: 5000}}
	for i := range 500 {
		large.Findings = append(large.Findings, finding(audit.Warning, i))
		large.Accepted = append(large.Accepted, audit.Acceptance{Message: "it differs"})
	}
	r := audited(time.Now(), large)
	small := audit.Target{Contract: "0x0000000000000000000000000000000000000001", Entries: entries(audit.Mismatch, 900), Counts: audit.Counts{Mismatch: 900},
		Findings: []audit.Finding{finding(audit.Info, 7001), finding(audit.Critical, 7000)}}
	small.Findings[0].Kind, small.Findings[1].Kind = audit.NoHash, audit.UnlistedChainAllowed
	r.Chains[0].Targets = append(r.Chains[0].Targets, small)
	r.Chains[0].Targets[1].Entries[899].Severity = audit.Critical
	body := shown(t, options(r))
	if _, of, _ := strings.Cut(body, `<code class="whole">`+small.Contract); strings.Index(of, id(899)) > strings.Index(of, id(0)) {
		t.Error("a critical entry stands behind others")
	}
	findings := body[strings.Index(body, `<section id="findings"`):strings.Index(body, `<section class="chain"`)]
	for text, n := range map[string]int{
		`<tr class="mismatch">`: 900, `<tr class="match">`: 100, `<article class="group critical">`: 1, `<article class="group warning">`: 1, `<article class="group info">`: 0,
		`<span class="severity">accepted</span>`: 100, "5000 entries match": 1, "100 of 5000 entries": 1, "100 of 502 findings": 1, "100 of 500 accepted": 1,
	} {
		if got := strings.Count(body, text); got != n {
			t.Errorf("the page has %d times %q, want %d", got, text, n)
		}
	}
	if rows := strings.Count(findings, "<li>"); rows != 100 {
		t.Errorf("the page has %d findings", rows)
	}
	if group, _, _ := strings.Cut(findings, "</article>"); !strings.Contains(group, shortened(7000)) || strings.Count(group, "<li>") != 1 {
		t.Errorf("the first group is not that of the critical finding alone: %s", group)
	}
	if strings.Index(body, id(7000)) > strings.Index(body, `<tr class="mismatch">`) {
		t.Error("findings do not come first")
	}
}
