package render_test

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

var tx = "0x" + strings.Repeat("7e", 32)

func events() []render.Event {
	at := noon.Add(-24 * time.Hour)
	return []render.Event{
		{Chain: "base", ChainID: 8453, Block: 39000000, Contract: contract, List: "os_image", Change: "added", ID: refused, Name: "dstack-0.5.9", Version: "0.5.9", Tx: tx},
		{Time: &at, Chain: "base", ChainID: 8453, Block: 51300000, LogIndex: 4, Contract: contract, List: "os_image", Change: "removed", ID: refused,
			Name: "dstack-0.5.9", Version: "0.5.9", Actor: owner, Tx: tx},
	}
}

func past() render.History {
	return render.History{Events: events(), Scanned: []render.Scanned{{Chain: "base", ChainID: 8453, Contract: contract, From: 31000000, To: 51375546}}}
}

// explained has an image that was taken from the contract, and another place that a later audit could not look at.
func explained() render.Explanation {
	first, last, fixed, failed := noon.Add(-23*time.Hour), noon.Add(-time.Hour), noon.Add(-9*time.Hour), noon.Add(time.Hour)
	f := finding(audit.ClaimAllowedChainDenied, audit.OSImage, refused, "the API says that image dstack-0.5.9 is allowed, the contract refuses it", &first)
	open, gone := render.NewKnown(f), render.NewKnown(f)
	open.LastConfirmedAt, gone.LastConfirmedAt, gone.ResolvedAt = &last, &first, &fixed
	audited := render.Audited{AuditID: "0198f3c2", FinishedAt: noon, Block: &audit.Block{Number: 51375546, Time: noon.Add(-15 * time.Minute)}}
	alone := open
	alone.Abandoned = true
	later := audited
	later.Later = &failed
	return render.Explanation{ID: refused, Failed: []string{}, Places: []render.Place{
		{Chain: "base", ChainID: 8453, Contract: contract, List: "os_image", Name: "dstack-0.5.9", Version: "0.5.9", Claim: audit.ClaimAllowed, OnChain: audit.ChainDenied,
			Policy: audit.PolicyAllowed, Verdict: audit.Mismatch, Kind: audit.ClaimAllowedChainDenied, Assurance: audit.Proven, Completeness: audit.Complete,
			Accepted: &audit.Accepting{Reason: retired, Expires: until}, Audit: &audited, Findings: []render.Known{open, gone}, Events: events()},
		{Chain: "ethereum", ChainID: 1, Contract: contract, List: "os_image", Claim: audit.ClaimUnlisted, OnChain: audit.ChainAllowed,
			Verdict: audit.Pending, Kind: audit.UnlistedChainAllowed, Reason: audit.ReasonHeadAgrees,
			Completeness: audit.EventsOnly, Audit: &later, Findings: []render.Known{}, Events: events()[1:]},
		{Chain: "polygon", ChainID: 137, Contract: contract, List: "os_image", Claim: audit.ClaimUnlisted, OnChain: audit.ChainUnknown,
			Completeness: audit.Unchecked, Audit: &render.Audited{FinishedAt: noon}, Findings: []render.Known{alone}, Events: []render.Event{}},
	}}
}

func answer(t *testing.T, a render.Answer, asJSON bool) string {
	t.Helper()
	return fitted(t, a, 0, asJSON)
}

func fitted(t *testing.T, a render.Answer, width int, asJSON bool) string {
	t.Helper()
	var b bytes.Buffer
	if err := render.Show(&b, a, render.TextOptions{Width: width}, asJSON); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestHistoryAndExplain(t *testing.T) {
	unheard := render.Explanation{ID: refused, Places: []render.Place{}, Failed: []string{"base: public: connection refused"}}
	golden(t, "history.txt", fitted(t, past(), 120, false))
	golden(t, "history-80.txt", fitted(t, past(), 80, false))
	golden(t, "history-wide.txt", answer(t, past(), false))
	golden(t, "history.answer.json", answer(t, past(), true))
	golden(t, "explain.txt", fitted(t, explained(), 120, false))
	golden(t, "explain-80.txt", fitted(t, explained(), 80, false))
	golden(t, "explain.answer.json", answer(t, explained(), true))
	golden(t, "explain-unheard.txt", answer(t, unheard, false))
}

func TestForeignTextInThePastIsPrintable(t *testing.T) {
	h, x := past(), explained()
	h.Events[0].Name, h.Events[0].Actor, h.Scanned[0].Chain = evil, evil, evil
	p := &x.Places[0]
	x.ID, p.Name, p.Version, p.Accepted.Reason, p.Findings[0].Message, x.Failed = evil, evil, evil, evil, evil, []string{evil}
	for _, a := range []render.Answer{h, x} {
		for _, asJSON := range []bool{false, true} {
			for _, r := range answer(t, a, asJSON) {
				if r != '\n' && !unicode.IsPrint(r) {
					t.Errorf("rune %U of a %T reaches the terminal", r, a)
				}
			}
		}
	}
}

// docs/history.md is the contract of the JSON.
func TestHistoryPageNamesEveryField(t *testing.T) {
	doc, err := os.ReadFile("../../docs/history.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range []any{render.History{}, render.Scanned{}, render.Event{}, render.Explanation{}, render.Place{}, render.Audited{}, render.Known{}} {
		for f := range reflect.TypeOf(of).Fields() {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "-" && !strings.Contains(string(doc), "`"+name+"`") && !strings.Contains(string(doc), `"`+name+`"`) {
				t.Errorf("%s of %T is not in docs/history.md", name, of)
			}
		}
	}
}
