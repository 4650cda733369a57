package web

import (
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
	for _, v := range render.WorstFirst {
		if n := c.Of(v); n > 0 {
			out = append(out, count{n, v})
		}
	}
	return out
}

// changed reports whether the last change of any of the entries is known, and wanted whether the operator wants anything of any.
func changed(list []audit.Entry) bool {
	return slices.ContainsFunc(list, func(e audit.Entry) bool { return e.Changed != nil })
}

func wanted(list []audit.Entry) bool {
	return slices.ContainsFunc(list, func(e audit.Entry) bool { return e.Policy != "" })
}

// version is what the name does not say already.
func version(name, version string) string {
	if strings.Contains(name, version) {
		return ""
	}
	return version
}
