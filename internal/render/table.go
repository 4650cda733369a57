package render

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
)

// WorstFirst is the order of entries by verdict: what disagrees comes first.
var WorstFirst = []audit.EntryVerdict{audit.Mismatch, audit.Unverifiable, audit.Pending, audit.Accepted, audit.Unclaimed, audit.Match}

// CompareEntries orders entries, the worst verdict first, and of that the most severe.
func CompareEntries(a, b audit.Entry) int {
	return cmp.Or(slices.Index(WorstFirst, a.Verdict)-slices.Index(WorstFirst, b.Verdict), CompareSeverities(a.Severity, b.Severity))
}

// storage tells what is proven of the contract as a whole, and what of it rests on the operator's word.
func (t *text) storage(target *audit.Target) {
	if s := target.Storage; s != nil {
		only := "only "
		if target.Completeness == audit.Complete {
			only = ""
		}
		t.printf("  storage root %s, %s%s explained", t.id(s.Root), only, plural(s.Slots, "slot"))
		if t.opt.Wide {
			t.printf("; code hash %s", t.id(s.CodeHash))
		}
		t.printf("\n")
	}
	for _, e := range target.Explained {
		t.printf("  explained slot %s: %s\n", Plain(e.Slot), Plain(e.Reason))
	}
}

func (t *text) entries(entries []audit.Entry) {
	if len(entries) == 0 {
		return
	}
	orDash := func(s string) string { return cmp.Or(s, "-") } // the column is there, whatever the others have
	g := grid{{t.paint(bold, "VERDICT"), "LIST", "ID", "NAME", "VERSION", "CLAIM", "ON CHAIN", "POLICY", "LAST CHANGE", "WHY"}}
	for _, e := range slices.SortedStableFunc(slices.Values(entries), CompareEntries) {
		g = append(g, []string{
			t.paint(entryColors[e.Verdict], string(e.Verdict)), orDash(string(e.List)), orDash(t.id(e.ID)), orDash(t.name(e.Name)), orDash(t.name(e.Version)),
			orDash(string(e.Claim)), orDash(string(e.OnChain)), string(e.Policy), t.changed(e.Changed), orDash(why(e)),
		})
	}
	g.write(t.Buffer, "  ")
}

// changed gives the block of the last event of an id and whoever caused it; wide, time and transaction too.
func (t *text) changed(c *audit.Changed) string {
	if c == nil {
		return ""
	}
	s := fmt.Sprintf("block %d", c.Block)
	if t.opt.Wide && c.Time != nil {
		s += " of " + c.Time.UTC().Format(time.RFC3339)
	}
	if c.Actor != "" {
		s += ", by " + t.id(c.Actor)
	}
	if t.opt.Wide {
		s += ", in " + t.id(c.Tx)
	}
	return s
}

// why gives kind and reason, each once.
func why(e audit.Entry) string {
	if e.Reason == "" || e.Reason == string(e.Kind) {
		return string(e.Kind)
	}
	if e.Kind == "" {
		return Plain(e.Reason)
	}
	return string(e.Kind) + " (" + Plain(e.Reason) + ")"
}
