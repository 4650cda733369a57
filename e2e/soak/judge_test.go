//go:build e2e

package soak_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kms-auditor/kms-auditor/audit"
)

// judged is the result of comparing a journal with the truth.
type judged struct {
	audits, cut      int // audits that ended, and audits that a kill interrupted
	verdicts         map[audit.Verdict]int
	twice            int // events that were logged again, because a kill came before they were marked as logged
	opened, resolved int
	again            int              // audits at an older block than the one before
	open             map[finding]line // after the last line
	wrong            []string

	unlike map[finding]int // consecutive audits with a verdict that left a finding in the wrong state
}

// few is how many audits may pass until a difference is found or resolved, since each needs two looks.
const few = 3

func (v *judged) lie(l *line, format string, args ...any) {
	v.wrong = append(v.wrong, fmt.Sprintf("%s in run %d: %s", l.AuditID, l.run, fmt.Sprintf(format, args...)))
}

// claimed are the kinds of findings that the world causes. Others come from broken answers.
var claimed = []audit.Kind{audit.ClaimAllowedChainDenied, audit.ClaimDeniedChainAllowed, audit.UnlistedChainAllowed}

// judge compares every verdict, and every opened or resolved finding, with the truth at the audit's block and claim. Only the
// process after a killed one may repeat an event, word for word.
func (w *world) judge(lines []line) *judged {
	v := &judged{verdicts: map[audit.Verdict]int{}, open: map[finding]line{}, unlike: map[finding]int{}}
	newest := map[string]uint64{}
	again := func(l *line, before line) bool {
		return l.run > before.run && l.AuditID == before.AuditID && l.FirstSeen.Equal(before.FirstSeen)
	}
	gone := map[finding]line{}
	var events []*line // of the current audit
	for i := range lines {
		l := &lines[i]
		switch l.Event {
		case "audit_started":
			if len(events) > 0 {
				v.cut++
			}
			events = nil
		case "finding_opened":
			v.opened++
			if before, known := v.open[l.finding()]; known && again(l, before) {
				v.twice++
			} else if known {
				v.lie(l, "%v opens again", l.finding())
			}
			v.open[l.finding()] = *l
			delete(gone, l.finding())
			events = append(events, l)
		case "finding_resolved":
			v.resolved++
			before, known := v.open[l.finding()]
			switch {
			case !known && again(l, gone[l.finding()]):
				v.twice++
			case !known:
				v.lie(l, "%v is resolved and was not open", l.finding())
			case !l.FirstSeen.Equal(before.FirstSeen):
				v.lie(l, "%v was first seen at %s, and now at %s", l.finding(), before.FirstSeen, l.FirstSeen)
			}
			delete(v.open, l.finding())
			gone[l.finding()] = *l
			events = append(events, l)
		case "audit_finished":
			v.audits++
			for _, c := range l.Chains {
				v.verdicts[c.Verdict]++
				older := c.Block < newest[c.Chain]
				if older && c.Block > 0 {
					v.again++
				}
				newest[c.Chain] = max(newest[c.Chain], c.Block)
				v.chain(w, l, c.Chain, c.Verdict, c.Block, c.Claim, events, older)
			}
			events = nil
		}
	}
	return v
}

func (v *judged) chain(w *world, l *line, name string, verdict audit.Verdict, block uint64, claim string, events []*line, older bool) {
	truth, known := w.chain(name).truth(block, claim)
	if !known {
		if verdict != audit.Unknown {
			v.lie(l, "%s of %s at block %d and by the claim %.8s, one of which never was", verdict, name, block, claim)
		}
		truth = nil
	}
	want := audit.Consistent
	if len(truth) > 0 {
		want = audit.Drift
	}
	if known && verdict != audit.Unknown && verdict != want {
		v.lie(l, "%s of %s at block %d, where %v differ", verdict, name, block, truth)
	}
	if known && verdict != audit.Unknown && !older { // an older block resolves nothing
		v.late(l, name, truth)
	}
	for _, e := range events {
		if e.Chain != name || !slices.Contains(claimed, e.Kind) {
			continue
		}
		if is := slices.Contains(truth, e.finding()); known && is != (e.Event == "finding_opened") {
			v.lie(l, "%s: %v, which is so: %t", e.Event, e.finding(), is)
		} else if !known && (e.Event != "finding_resolved" || !w.chain(name).over(e.finding(), block, claim)) {
			v.lie(l, "%s: %v without a comparison", e.Event, e.finding())
		}
	}
}

// late counts the consecutive audits that leave a finding in the wrong state.
func (v *judged) late(l *line, name string, truth []finding) {
	unlike := map[finding]int{}
	for f, n := range v.unlike {
		if f.Chain != name {
			unlike[f] = n
		}
	}
	note := func(f finding) {
		if unlike[f] = v.unlike[f] + 1; unlike[f] == few {
			_, open := v.open[f]
			v.lie(l, "after %d audits that saw it: %v, open: %t", few, f, open)
		}
	}
	for _, f := range truth {
		if _, open := v.open[f]; !open {
			note(f)
		}
	}
	for f := range v.open {
		if f.Chain == name && slices.Contains(claimed, f.Kind) && !slices.Contains(truth, f) {
			note(f)
		}
	}
	v.unlike = unlike
}

// stays returns the findings that are open according to the journal.
func (v *judged) stays() (out []finding) {
	for f := range v.open {
		out = append(out, f)
	}
	return sorted(out)
}

func (v *judged) String() string {
	return fmt.Sprintf("%d audits (%d consistent, %d drift, %d unknown verdicts of chains), %d at an older block than the one before, %d findings opened, %d resolved, %d told twice, %d lies%s",
		v.audits, v.verdicts[audit.Consistent], v.verdicts[audit.Drift], v.verdicts[audit.Unknown], v.again, v.opened, v.resolved, v.twice, len(v.wrong),
		strings.Join(append([]string{""}, v.wrong[:min(len(v.wrong), 20)]...), "\n"))
}
