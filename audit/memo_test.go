package audit_test

import (
	"context"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/history"
)

// TestAnUnchangedAuditSaysTheSame: an auditor that remembers says in every audit what one that knows nothing says.
func TestAnUnchangedAuditSaysTheSame(t *testing.T) {
	w := provenWorld(t)
	w.eager = true
	a := w.auditor()
	unchanged := func() {}
	for _, row := range []struct {
		sentence string
		change   func()
		verdict  audit.Verdict
	}{
		{"at first", unchanged, audit.Consistent},
		{"nothing changed", unchanged, audit.Consistent},
		{"a block came", func() { w.chain.Commit() }, audit.Consistent},
		{"the API tells another name", func() {
			name := "renamed"
			w.contract(func(c *fakeapi.Contract) { c.Devices[0].NodeName = &name })
		}, audit.Consistent},
		{"the API lists one image less", func() { w.contract(func(c *fakeapi.Contract) { c.OSImages = c.OSImages[:1] }) }, audit.Consistent},
		{"the API claims what the contract refuses", func() { w.contract(func(c *fakeapi.Contract) { c.Devices[1].Allowed = &yes }) }, audit.Drift},
		{"it still does", unchanged, audit.Drift},
		{"it does no more", func() { w.contract(func(c *fakeapi.Contract) { c.Devices[1].Allowed = &no }) }, audit.Consistent},
		{"the API cannot tell", func() { w.contract(func(c *fakeapi.Contract) { c.Devices[1].Allowed = nil }) }, audit.Unknown},
		{"it still cannot", unchanged, audit.Unknown},
		{"it can again", func() { w.contract(func(c *fakeapi.Contract) { c.Devices[1].Allowed = &no }) }, audit.Consistent},
		{"the contract trusts one more", func() { must(t, w.kms.AllowDevice(context.Background(), hidden)) }, audit.Drift},
		{"it trusts it no more", func() { must(t, w.kms.RemoveDevice(context.Background(), hidden)) }, audit.Consistent},
		{"the API is down", func() { w.api.Fail(fakeapi.Fault{Name: fakeapi.Status, Status: 403}) }, audit.Unknown},
		{"the API is back", w.api.Heal, audit.Consistent},
		{"the API names another chain", func() { w.api.Update("test", func(c *fakeapi.Chain) { c.ChainID++ }) }, audit.Unknown},
	} {
		row.change()
		got := w.auditWith(a)
		if got.Verdict != row.verdict {
			t.Errorf("%s: %s, want %s\n%s", row.sentence, got.Verdict, row.verdict, text(t, got))
		}
		fresh, err := history.Open("")
		must(t, err)
		mine := w.store
		w.store = fresh
		want := w.audit()
		w.store = mine
		must(t, fresh.Close())
		for _, r := range []*audit.Report{got, want} {
			for i, e := range r.Chains[0].Errors {
				r.Chains[0].Errors[i].Message, _, _ = strings.Cut(e.Message, "(request id")
			}
			r.Chains[0].Claim, r.StartedAt, r.FinishedAt, r.AuditID = nil, want.StartedAt, want.FinishedAt, want.AuditID
		}
		if a, b := text(t, got), text(t, want); a != b {
			t.Errorf("%s: it says\n%s\nand one that remembers nothing\n%s", row.sentence, a, b)
		}
	}
}

// judged counts how often the events of an entry are looked up, which every judgement does.
type judged struct {
	audit.Events
	n int
}

func (j *judged) Last(contract common.Address, list audit.List, id common.Hash) *audit.Changed {
	j.n++
	return j.Events.Last(contract, list, id)
}

func TestNothingNewIsNotJudgedAgain(t *testing.T) {
	w := provenWorld(t)
	w.eager = true
	counted := &judged{}
	w.events = func(e audit.Events) audit.Events { counted.Events = e; return counted }
	a := w.auditor()
	for range 3 { // until what events do not tell is known as well
		w.auditWith(a)
	}
	before := counted.n
	if r := w.auditWith(a); r.Verdict != audit.Consistent || counted.n != before {
		t.Errorf("%s, and %d entries were judged again", r.Verdict, counted.n-before)
	}
	w.contract(func(c *fakeapi.Contract) { c.Devices[1].Allowed = &yes })
	if r := w.auditWith(a); r.Verdict != audit.Drift || counted.n == before {
		t.Errorf("%s, and no entry was judged again", r.Verdict)
	}
}
