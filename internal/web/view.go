package web

import (
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/quote"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

// maxName is the number of characters of a foreign name that the page shows; the rest is in its title.
const maxName = 48

// functions are what the templates say things with.
var functions = template.FuncMap{
	"ago":      func(now, t time.Time) string { return span(now.Sub(t)) },
	"cut":      cut,
	"day":      day,
	"iso":      iso,
	"meaning":  func(f audit.Finding) string { return render.NewKnown(f).Meaning },
	"plain":    quote.Plain,
	"say":      say,
	"sentence": sentence,
	"table":    table,
	"tally":    tally,
	"version":  version,
	"when":     when,
}

func day(t time.Time) string  { return t.UTC().Format(time.DateOnly) }
func iso(t time.Time) string  { return t.UTC().Format(time.RFC3339) }
func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" }

// span tells a time span for people, as page.js does.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(0, d)/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

// cut makes a foreign text printable and short.
func cut(s string) string {
	s = quote.Plain(s)
	if utf8.RuneCountInString(s) > maxName {
		s = string([]rune(s)[:maxName-1]) + "…"
	}
	return s
}

// sentence makes a sentence printable. It is cut word by word: a sentence is ours, only the words in it may be foreign.
func sentence(s string) string {
	words := strings.Fields(s)
	for i, w := range words {
		words[i] = quote.Plain(w)
	}
	return strings.Join(words, " ")
}

// count is how many entries have a verdict.
type count struct {
	N       int
	Verdict audit.EntryVerdict
}

// tally counts what there is, the worst first.
func tally(c audit.Counts) (out []count) {
	for _, v := range worst {
		if n := c.Of(v); n > 0 {
			out = append(out, count{n, v})
		}
	}
	return out
}

// changed tells whether the last change of any of the entries is known, and wanted whether the operator wants anything of any.
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
