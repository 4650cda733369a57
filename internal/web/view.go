package web

import (
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// maxName is the number of characters of a foreign name that the page shows; the rest is in its title.
const maxName = 48

// functions are what the templates say things with.
var functions = template.FuncMap{
	"ago":      func(now, t time.Time) string { return render.Span(now.Sub(t)) },
	"changed":  changed,
	"cut":      func(s string) string { return render.Cut(s, maxName) },
	"day":      day,
	"iso":      iso,
	"label":    label,
	"meaning":  func(f audit.Finding) string { return render.NewKnown(f).Meaning },
	"plain":    sanitize.Plain,
	"sentence": render.Plain,
	"verdicts": verdictCounts,
	"version":  version,
	"wanted":   wanted,
	"when":     when,
}

func day(t time.Time) string  { return t.UTC().Format(time.DateOnly) }
func iso(t time.Time) string  { return t.UTC().Format(time.RFC3339) }
func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" }

// count is how many entries have a verdict.
type count struct {
	N       int
	Verdict audit.EntryVerdict
}

// verdictCounts counts entries by verdict, the worst first.
func verdictCounts(c audit.Counts) (out []count) {
	for _, v := range render.VerdictOrder {
		if n := c.Of(v); n > 0 {
			out = append(out, count{n, v})
		}
	}
	return out
}

// changed reports whether the last change of any of the entries is known, and wanted whether the operator wants anything of any.
func changed(list []*audit.Entry) bool {
	return slices.ContainsFunc(list, func(e *audit.Entry) bool { return e.Changed != nil })
}

func wanted(list []*audit.Entry) bool {
	return slices.ContainsFunc(list, func(e *audit.Entry) bool { return e.Policy != "" })
}

// version is what the name does not say already.
func version(name, version string) string {
	if strings.Contains(name, version) {
		return ""
	}
	return version
}

// labels explain the report's words.
var labels = map[any]string{
	audit.Consistent: "Every claim of the API was compared with the contract, and agrees.",
	audit.Drift:      "The API and the contract differ, or the contract is not as it should be.",
	audit.Unknown:    "No difference is confirmed, but something could not be checked.",

	audit.Match:        "claim and chain agree",
	audit.Mismatch:     "claim and chain differ",
	audit.Unverifiable: "one side is missing, or the difference was not confirmed",
	audit.Pending:      "the newest block already agrees with the API",
	audit.Accepted:     "you accept the difference for a time",
	audit.Unclaimed:    "neither the API nor your policy says anything of it",

	audit.Assurance(""): "Nothing was read.",
	audit.Single:        "Answers rest on the word of one provider.",
	audit.Agreed:        "As many providers as configured gave the same answers.",
	audit.Proven:        "Every answer was verified against the block's state root.",

	audit.Unchecked:  "Ids that the API does not list were not looked for.",
	audit.EventsOnly: "Ids that the API does not list were looked for in the contract's events. What was written without one is not seen.",
	audit.Complete:   "All that the contract stores is accounted for: nothing is hidden at this block.",
	audit.Incomplete: "Events could not all be read, or do not explain what is stored. Ids that the API does not list may be missing here.",

	audit.ReasonUnconfirmed: "only one look saw the difference",
	audit.ReasonNotRead:     "the chain's answer could not be had",
	audit.ReasonNoClaim:     "the API was not read",
	audit.ReasonWentBack:    "the block is older than one that was audited before",
	audit.ReasonHeadAgrees:  "the newest block already agrees",
	audit.ReasonNotAudited:  "the claim is about another chain",
	audit.ReasonClaimAbsent: "the API gives no answer",
	audit.ReasonMalformed:   "not 32 bytes of hex",
	audit.ReasonNoHash:      "the API gives no hash",

	audit.Device:          "device",
	audit.OSImage:         "OS image",
	string(audit.Device):  "device", // as events spell it
	string(audit.OSImage): "OS image",
}

// label explains a word. One that has no label stays as it is.
func label(word any) string {
	if s, ok := labels[word]; ok {
		return s
	}
	return fmt.Sprint(word)
}
