package web

import (
	"cmp"
	"html/template"
	"slices"
	"strings"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

// The page's limits: more rows make browsers slow.
const (
	maxRows     = 1000 // entries
	maxFindings = 100  // findings, and as many accepted differences
	maxResolved = 50   // findings that were resolved
	maxChanges  = 50   // of the lists
)

const (
	foldFrom     = 25             // matching entries of a contract from which they are folded away
	resolvedDays = 30             // how long a resolved finding is shown
	day          = 24 * time.Hour //
)

// view is a report as the page shows it.
type view struct {
	Report            *audit.Report // nil before the first audit
	Now               time.Time     // of the rendering
	Groups            []*group      // the findings, the most severe first
	Shown, Findings   int           // findings
	Critical, Warning int           // findings
	Worst             *finding      // the first of Groups, or nil if there is no finding above severity info
	Open              int           // findings that the last audit could not look at again
	OpenDrift         bool          // one of them makes drift
	Accepted          int           // differences
	Pending           int           // entries
	Failed            string        // why a chain is unknown: its first error, or reason; optional
	FailedChain       string        // the chain that Failed is about
	Compared          *state.Chain  // the last audit that compared that chain, if the last one did not
	Chains            []*chainView
	Resolved          []resolved // the latest first
	Forgotten         int        // resolved findings of the same days that are not shown
	History           []event    // the latest first
	Scanned           []render.Scanned
	Script            template.JS
}

// More is how many findings there are beside the worst that are not of severity info.
func (v *view) More() int { return v.Critical + v.Warning - 1 }

// group has the findings of one kind, the oldest first.
type group struct {
	Kind     audit.Kind
	Severity audit.Severity
	Runbook  string
	Rows     []*finding
}

// finding is a finding with its chain, contract and entry.
type finding struct {
	*audit.Finding
	Now                       time.Time
	Chain, Contract, Explorer string
	Entry                     *audit.Entry // of the finding's id; nil if it has no entry
}

// text is a message around an id.
type text struct{ Before, ID, After string }

// newText puts the whole id where the message has its head and tail, else behind the message.
func newText(message, id string) text {
	before, after, found := strings.Cut(message, short(id))
	if !found && id != "" {
		before += " "
	}
	return text{clean(before), id, clean(after)}
}

// clean is render.Plain, but for a space at either end.
func clean(s string) string {
	const mark = "."
	return strings.TrimSuffix(strings.TrimPrefix(render.Plain(mark+s+mark), mark), mark)
}

// Headline is the message as the predicate of a sentence about the contract, or after a colon.
func (f *finding) Headline() text {
	t := newText(f.Message, f.ID)
	if does, ok := strings.CutPrefix(t.Before, "the contract "); ok {
		t.Before = " " + does
	} else {
		t.Before = ": " + t.Before
	}
	return t
}

// short is the head and tail of an id, as messages have it.
func short(id string) string {
	if tail(id) == "" {
		return id
	}
	return id[:6] + "…" + tail(id)
}

// chainView is what the page shows of a chain.
type chainView struct {
	*audit.Chain
	Explorer string
	Compared *state.Chain // the last audit that compared, if the report's did not
	Targets  []*targetView
}

// targetView is what the page shows of a contract.
type targetView struct {
	*audit.Target
	Chain, Explorer string
	Now             time.Time
	Compared        *state.Chain // as the chain's
	Accepted        []audit.Acceptance
	Visible, Folded table         // those to be seen at once, the worst first, and those that match if they are many
	Last            *audit.Target // in the last audit that compared, if the report's did not
	Then            table         // the entries of Last
}

// Rows is how many entries of the report the page shows.
func (v *targetView) Rows() int { return len(v.Visible.Rows) + len(v.Folded.Rows) }

// table is a table of entries.
type table struct {
	Rows     []*audit.Entry
	Explorer string
	Now      time.Time
}

// Changed reports whether the last change of any of the entries is known.
func (t table) Changed() bool {
	return slices.ContainsFunc(t.Rows, func(e *audit.Entry) bool { return e.Changed != nil })
}

// Wanted reports whether the operator wants anything of any of the entries.
func (t table) Wanted() bool {
	return slices.ContainsFunc(t.Rows, func(e *audit.Entry) bool { return e.Policy != "" })
}

// resolved is a finding that is over.
type resolved struct {
	state.Resolved
	Explorer string
}

// Lasted is how long the finding was open, if that is known.
func (r resolved) Lasted() string {
	if r.Finding.FirstSeen == nil {
		return ""
	}
	return render.Span(r.ResolvedAt.Sub(*r.Finding.FirstSeen))
}

// event is a change of a list.
type event struct {
	render.Event
	Explorer string
}

func (o Options) explorers() map[string]string {
	if o.Explorers == nil {
		return nil
	}
	return o.Explorers()
}

func newView(o Options, r *audit.Report, now time.Time) *view {
	explorers := o.explorers()
	v := &view{Report: r, Now: now, Script: js}
	h := o.State.Timeline(state.Filter{Lists: state.Lists[:shownLists], Limit: maxChanges})
	for _, e := range slices.Backward(h.Events) {
		v.History = append(v.History, event{e, explorers[e.Chain]})
	}
	v.Scanned = h.Scanned
	if r == nil {
		return v
	}
	for _, f := range slices.Backward(o.State.Resolved()) {
		if f.ResolvedAt.Before(r.FinishedAt.Add(-resolvedDays * day)) {
			break
		}
		if len(v.Resolved) == maxResolved {
			v.Forgotten++
			continue
		}
		v.Resolved = append(v.Resolved, resolved{f, explorers[f.Chain]})
	}
	accepted := maxFindings
	var all []*finding
	for i := range r.Chains {
		c := &chainView{Chain: &r.Chains[i], Explorer: explorers[r.Chains[i].Chain], Compared: o.State.LastCompared(&r.Chains[i])}
		v.Chains = append(v.Chains, c)
		v.fail(c)
		for j := range c.Chain.Targets {
			t := &targetView{Target: &c.Chain.Targets[j], Chain: c.Chain.Chain, Explorer: c.Explorer, Now: now, Compared: c.Compared}
			rows := table{Explorer: c.Explorer, Now: now}
			t.Visible, t.Folded, t.Then = rows, rows, rows
			t.Accepted = t.Target.Accepted[:min(accepted, len(t.Target.Accepted))]
			accepted -= len(t.Accepted)
			if c.Compared != nil {
				if k := slices.IndexFunc(c.Compared.Targets, func(l audit.Target) bool { return l.Contract == t.Contract }); k >= 0 {
					t.Last = &c.Compared.Targets[k]
				}
			}
			c.Targets = append(c.Targets, t)
			v.Accepted += len(t.Target.Accepted)
			v.Pending += t.Counts.Pending
			for k := range t.Findings {
				all = append(all, &finding{Finding: &t.Findings[k], Now: now, Chain: t.Chain, Contract: t.Contract, Explorer: t.Explorer})
			}
		}
	}
	v.group(all)
	v.rows()
	return v
}

// fail records why a chain is unknown, unless an earlier chain already is.
func (v *view) fail(c *chainView) {
	if v.Failed != "" || c.Verdict != audit.Unknown {
		return
	}
	v.FailedChain, v.Compared = c.Chain.Chain, c.Compared
	if len(c.Errors) > 0 {
		v.Failed = c.Errors[0].Message
		return
	}
	for _, t := range c.Chain.Targets {
		if t.Verdict == audit.Unknown && len(t.Reasons) > 0 {
			v.Failed = t.Reasons[0]
			return
		}
	}
}

// group counts the findings and puts those that are shown into groups.
func (v *view) group(all []*finding) {
	for _, f := range all {
		switch f.Severity {
		case audit.Critical:
			v.Critical++
		case audit.Warning:
			v.Warning++
		}
		if f.State == audit.Still {
			v.Open++
			v.OpenDrift = v.OpenDrift || f.Kind.Makes() == audit.Drift
		}
	}
	worst := func(a, b *finding) int {
		return cmp.Or(render.CompareSeverities(a.Severity, b.Severity), compareTimes(a.FirstSeen, b.FirstSeen))
	}
	slices.SortStableFunc(all, worst)
	v.Findings, v.Shown = len(all), min(maxFindings, len(all))
	// Of each kind and contract one is shown before a second of any other, unless it is of severity info.
	var first, rest []*finding
	seen := map[[3]string]bool{}
	for _, f := range all {
		if k := [3]string{f.Chain, f.Contract, string(f.Kind)}; seen[k] || f.Severity == audit.Info {
			rest = append(rest, f)
		} else {
			seen[k], first = true, append(first, f)
		}
	}
	all = append(first, rest...)[:v.Shown]
	slices.SortStableFunc(all, worst)
	of := map[audit.Kind]*group{}
	for _, f := range all {
		g := of[f.Kind]
		if g == nil {
			g = &group{Kind: f.Kind, Severity: f.Severity, Runbook: f.Runbook}
			of[f.Kind], v.Groups = g, append(v.Groups, g)
		}
		g.Rows = append(g.Rows, f)
	}
	v.describe(all)
	if v.Shown > 0 && all[0].Severity != audit.Info {
		v.Worst = all[0]
	}
}

// compareTimes has the earlier first, and an unknown time last.
func compareTimes(a, b *time.Time) int {
	switch {
	case a == b:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return a.Compare(*b)
}

// describe finds the entries of the findings.
func (v *view) describe(all []*finding) {
	type key struct {
		contract, list, id string
	}
	wanted := map[key][]*finding{}
	for _, f := range all {
		if f.ID != "" {
			k := key{f.Chain + f.Contract, string(f.List), f.ID}
			wanted[k] = append(wanted[k], f)
		}
	}
	for _, c := range v.Chains {
		for _, t := range c.Targets {
			for _, of := range []*audit.Target{t.Target, t.Last} {
				if of == nil {
					continue
				}
				for i := range of.Entries {
					e := &of.Entries[i]
					for _, f := range wanted[key{t.Chain + t.Contract, string(e.List), e.ID}] {
						f.Entry = cmp.Or(f.Entry, e)
					}
				}
			}
		}
	}
}

// rows chooses the entries that are shown: the worst of all contracts. If a chain was not compared, these are the entries
// of the last comparison, and of the report's those that were judged without one.
func (v *view) rows() {
	type row struct {
		*audit.Entry
		to *[]*audit.Entry
	}
	var all []row
	for _, c := range v.Chains {
		for _, t := range c.Targets {
			for i := range t.Entries {
				switch e := &t.Entries[i]; {
				case t.Last != nil && e.Verdict == audit.Unverifiable:
				case e.Verdict == audit.Match && t.Counts.Match >= foldFrom:
					all = append(all, row{e, &t.Folded.Rows})
				default:
					all = append(all, row{e, &t.Visible.Rows})
				}
			}
			if t.Last != nil {
				for i := range t.Last.Entries {
					all = append(all, row{&t.Last.Entries[i], &t.Then.Rows})
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b row) int { return render.CompareEntries(a.Entry, b.Entry) })
	for _, r := range all[:min(maxRows, len(all))] {
		*r.to = append(*r.to, r.Entry)
	}
}
