package web

import (
	"html/template"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// maxName is the number of characters of a foreign name that the page shows; the rest is in its title.
const maxName = 48

// functions are what the templates say things with.
var functions = template.FuncMap{
	"ago":      func(now, t time.Time) string { return render.Span(now.Sub(t)) },
	"cut":      cut,
	"day":      day,
	"iso":      iso,
	"label":    label,
	"meaning":  func(f audit.Finding) string { return render.NewKnown(f).Meaning },
	"plain":    sanitize.Plain,
	"sentence": sentence,
	"table":    table,
	"verdicts": verdictCounts,
	"version":  version,
	"when":     when,
}

func day(t time.Time) string  { return t.UTC().Format(time.DateOnly) }
func iso(t time.Time) string  { return t.UTC().Format(time.RFC3339) }
func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" }

// cut makes a foreign text printable and short.
func cut(s string) string {
	s = sanitize.Plain(s)
	if utf8.RuneCountInString(s) > maxName {
		s = string([]rune(s)[:maxName-1]) + "…"
	}
	return s
}

// sentence makes a sentence printable. It is cut word by word: a sentence is ours, only the words in it may be foreign.
func sentence(s string) string {
	words := strings.Fields(s)
	for i, w := range words {
		words[i] = sanitize.Plain(w)
	}
	return strings.Join(words, " ")
}

// count is how many entries have a verdict.
type count struct {
	N       int
	Verdict audit.EntryVerdict
}

// verdictCounts counts entries by verdict, the worst first.
func verdictCounts(c audit.Counts) (out []count) {
	for _, v := range worst {
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
