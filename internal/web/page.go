package web

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

// The page as it is written. Its style and its script are part of it, and the policy allows them by their digests alone.
var (
	//go:embed page.html
	markup string
	//go:embed page.css
	style string
	//go:embed page.js
	script string

	css = template.CSS(style) // #nosec G203 -- our own
	js  = template.JS(script) // #nosec G203 -- our own

	templates = template.Must(template.New("page").Funcs(functions).Parse(markup))

	policy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; img-src data:; connect-src 'self'; " +
		"style-src " + digest(style) + "; script-src " + digest(script)
)

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// shownChanges is how many changes of the lists the page shows.
const shownChanges = 50

// page serves the status page. The report, and the history, which only an audit makes longer, are rendered once a report;
// what depends on the clock, for every request.
type page struct {
	opt   Options
	began time.Time
	body  cache[[]byte] // what follows the status
}

func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	report := p.opt.Report()
	body, turn, err := p.body.get(report, p.render)
	s := p.status(report, turn, time.Now())
	var top bytes.Buffer
	if err == nil {
		err = templates.ExecuteTemplate(&top, "top", s)
	}
	if err != nil {
		p.opt.Logger.Error("rendering the status page", zap.Error(err))
		http.Error(w, "the status page cannot be shown; /api/v1/report has the last report", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("ETag", s.Tag)
	_, _ = top.WriteTo(w) // whoever asked has gone
	_, _ = w.Write(body)
}

func (p *page) render(report *audit.Report) ([]byte, error) {
	h := p.opt.State.Timeline(state.Filter{Lists: state.Lists[:shownLists], Limit: shownChanges})
	slices.Reverse(h.Events)
	var body bytes.Buffer
	err := templates.ExecuteTemplate(&body, "body", struct {
		Report  *audit.Report
		Chains  []chainView
		History render.History
		Script  template.JS
	}{report, chainViews(report), h, js})
	return body.Bytes(), err
}

// status is what the page says first.
type status struct {
	Version           string
	Style             template.CSS
	Report            *audit.Report // nil: no audit has ended
	Now, Heard        time.Time     // Heard is the end of the last audit, else the start of the program
	Due, Overdue      time.Time     // of the next audit; zero: none is expected
	Critical, Warning int           // findings
	Open              int           // findings that the last audit could not look at again
	WorstOpen         *audit.Finding
	OpenDrift         bool   // one of them makes drift
	Accepted          int    // differences that the operator accepts
	Pending           int    // entries whose difference the newest block has settled
	Config            string // the one that is running, in a sentence; empty: nobody says
	Tag               string // changes with what the page shows
}

func (p *page) status(r *audit.Report, turn int, now time.Time) status {
	s := status{Version: p.opt.Version, Style: css, Report: r, Now: now.UTC(), Heard: p.began.UTC()}
	if r != nil {
		s.Heard = r.FinishedAt.UTC()
		s.Open, s.WorstOpen = render.Open(r)
		for _, t := range render.Targets(r) {
			s.Accepted += len(t.Accepted)
			s.Pending += t.Counts.Pending
			for _, f := range t.Findings {
				s.OpenDrift = s.OpenDrift || f.State == audit.Still && f.Kind.Makes() == audit.Drift
				switch f.Severity {
				case audit.Critical:
					s.Critical++
				case audit.Warning:
					s.Warning++
				}
			}
		}
	}
	s.Due, s.Overdue = p.opt.Plan().after(s.Heard)
	if running := p.opt.Config.Running; running != nil {
		s.Config = running()
	}
	s.Tag = fmt.Sprintf(`"%x-%d-%x-%x"`, p.began.UnixNano(), turn, s.Overdue.Unix(), crc32.ChecksumIEEE([]byte(s.Config)))
	return s
}

// Stale reports whether the next audit should have been heard of.
func (s status) Stale() bool { return !s.Overdue.IsZero() && s.Now.After(s.Overdue) }

// Plan is when audits are to be expected.
type Plan struct {
	Schedule cron.Schedule // nil: nothing is expected
	Timeout  time.Duration // of one audit
}

// after returns when the next audit is due after one that ended at t, and when it is overdue: after two periods of the
// schedule, or once an audit that began in time must have ended, whichever is later. Zero times: never.
func (p Plan) after(t time.Time) (due, overdue time.Time) {
	if p.Schedule == nil {
		return due, overdue
	}
	if due = p.Schedule.Next(t); due.IsZero() {
		return due, overdue
	}
	if overdue = p.Schedule.Next(due); overdue.Before(due.Add(p.Timeout)) {
		overdue = due.Add(p.Timeout)
	}
	return due.UTC(), overdue.UTC()
}

// maxName is the number of characters of a foreign name that the page shows; the rest is in its title.
const maxName = 48

// functions are what the templates say things with.
var functions = template.FuncMap{
	"ago":      func(now, t time.Time) string { return render.Span(now.Sub(t)) },
	"changed":  changed,
	"cut":      func(s string) string { return render.Cut(s, maxName) },
	"day":      func(t time.Time) string { return t.UTC().Format(time.DateOnly) },
	"iso":      func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"label":    label,
	"meaning":  func(f audit.Finding) string { return f.Kind.Meaning() },
	"plain":    sanitize.Plain,
	"sentence": render.Plain,
	"verdicts": func(t *audit.Target) []render.Count { return render.CountEntries(*t) },
	"version":  version,
	"wanted":   wanted,
	"when":     func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" },
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
	audit.Consistent: "Every claim of the API, or your policy where there are none, was compared with the contract, and agrees.",
	audit.Drift:      "The API and the contract differ, or the contract is not as it should be.",
	audit.Unknown:    "No difference is confirmed, but something could not be checked.",

	audit.Match:        "claim, or policy, and chain agree",
	audit.Mismatch:     "claim, or policy, and chain differ",
	audit.Unverifiable: "one side is missing, or the difference was not confirmed",
	audit.Pending:      "the newest block already agrees with the API, or with your policy",
	audit.Accepted:     "you accept the difference for a time",
	audit.Unclaimed:    "neither the API nor your policy says anything of it",

	audit.Assurance(""): "Nothing was read.",
	audit.Single:        "Answers rest on the word of one provider.",
	audit.Agreed:        "As many providers as configured gave the same answers.",
	audit.Proven:        "Every answer was verified against the block's state root.",

	audit.Unchecked:  "Ids that nobody names were not looked for.",
	audit.EventsOnly: "Ids that nobody names were looked for in the contract's events. What was written without one is not seen.",
	audit.Complete:   "All that the contract stores is accounted for: nothing is hidden at this block.",
	audit.Incomplete: "Events could not all be read, or do not explain what is stored. Ids that nobody names may be missing here.",

	audit.ReasonUnconfirmed: "only one look saw the difference",
	audit.ReasonNotRead:     "the chain's answer could not be had",
	audit.ReasonNoClaim:     "the API was not read",
	audit.ReasonWentBack:    "the block is older than one that was audited before",
	audit.ReasonHeadAgrees:  "the newest block already agrees",
	audit.ReasonNotAudited:  "the claim is about another chain",
	audit.ReasonClaimAbsent: "the API gives no answer",
	audit.ReasonMalformed:   "not 32 bytes of hex",
	audit.ReasonNoHash:      "the API gives no hash",

	audit.Device:               "device",
	audit.OSImage:              "OS image",
	audit.AggregatedMR:         "measurement",
	string(audit.Device):       "device", // as events spell it
	string(audit.OSImage):      "OS image",
	string(audit.AggregatedMR): "measurement",
}

// label explains a word. One that has no label stays as it is.
func label(word any) string {
	if s, ok := labels[word]; ok {
		return s
	}
	return fmt.Sprint(word)
}

// What one page shows at most: a browser chokes on more, and nobody reads it there.
const (
	maxRows     = 1000 // entries
	maxFindings = 100  // findings, and as many accepted differences
)

// foldFrom is the number of entries in order from which they are folded away.
const foldFrom = 25

// chainView is what the status page shows of a chain: all of it, as far as the limits go, and the worst of all contracts first.
type chainView struct {
	audit.Chain
	Targets []*targetView
}

// targetView is what the page shows of a contract.
type targetView struct {
	*audit.Target
	Chain           string
	Findings        []audit.Finding
	Accepted        []audit.Acceptance
	Visible, Folded []*audit.Entry // those to be seen at once, the worst first, and those in order if they are many
}

// Rows is how many entries the page shows.
func (v *targetView) Rows() int { return len(v.Visible) + len(v.Folded) }

// placed is a finding or an entry with the contract that it is of.
type placed[T any] struct {
	in *targetView
	is *T
}

func chainViews(r *audit.Report) []chainView {
	if r == nil {
		return nil
	}
	chains := make([]chainView, len(r.Chains))
	accepted := maxFindings
	var findings []placed[audit.Finding]
	var entries []placed[audit.Entry]
	for i, c := range r.Chains {
		chains[i].Chain = c
		for j := range c.Targets {
			t := &c.Targets[j]
			v := &targetView{Target: t, Chain: c.Chain, Accepted: t.Accepted[:min(accepted, len(t.Accepted))]}
			accepted -= len(v.Accepted)
			for k := range t.Findings {
				findings = append(findings, placed[audit.Finding]{v, &t.Findings[k]})
			}
			for k := range t.Entries {
				entries = append(entries, placed[audit.Entry]{v, &t.Entries[k]})
			}
			chains[i].Targets = append(chains[i].Targets, v)
		}
	}
	slices.SortStableFunc(findings, func(a, b placed[audit.Finding]) int { return render.CompareSeverities(a.is.Severity, b.is.Severity) })
	for _, f := range findings[:min(maxFindings, len(findings))] {
		f.in.Findings = append(f.in.Findings, *f.is)
	}
	slices.SortStableFunc(entries, func(a, b placed[audit.Entry]) int { return render.CompareEntries(a.is, b.is) })
	for _, e := range entries[:min(maxRows, len(entries))] {
		if e.is.Verdict == audit.Match && e.in.Counts.Match >= foldFrom {
			e.in.Folded = append(e.in.Folded, e.is)
		} else {
			e.in.Visible = append(e.in.Visible, e.is)
		}
	}
	return chains
}

// entriesPage is one page of the entries of a contract.
type entriesPage struct {
	Style         template.CSS
	Report        *audit.Report
	Chain         *audit.Chain
	Target        *audit.Target
	Page, Pages   int
	Before, After int // the neighbouring pages; 0 at either end
	Entries       []*audit.Entry
}

// entries serves all entries of a contract, a thousand a page and the worst first, for those of which the status page has too many.
func entries(o Options) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		report := o.Report()
		if report == nil {
			http.Error(w, "no audit has finished yet", http.StatusServiceUnavailable)
			return
		}
		l, err := find(report, r.URL.RawQuery)
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		var body bytes.Buffer
		if err := templates.ExecuteTemplate(&body, "entriesPage", l); err != nil {
			o.Logger.Error("rendering a page of entries", zap.Error(err))
			http.Error(w, "the entries cannot be shown; /api/v1/report has the last report", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(body.Bytes()) // whoever asked has gone
	}
}

// find returns the page that a query names.
func find(r *audit.Report, query string) (*entriesPage, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, errors.New("the query cannot be read")
	}
	contract, err := sanitize.ParseAddress(values.Get("contract"))
	if err != nil {
		return nil, fmt.Errorf("contract %s is no address", sanitize.Quote(values.Get("contract")))
	}
	page := 1
	if p := values.Get("page"); p != "" {
		if page, err = strconv.Atoi(p); err != nil {
			return nil, fmt.Errorf("page %s is no number", sanitize.Quote(p))
		}
	}
	for c, t := range render.Targets(r) {
		if c.Chain != values.Get("chain") || t.Contract != contract.Hex() {
			continue
		}
		l := &entriesPage{Style: css, Report: r, Chain: c, Target: t, Page: page, Pages: (len(t.Entries) + maxRows - 1) / maxRows}
		if page < 1 || page > l.Pages {
			return nil, fmt.Errorf("there is no page %d of %d", page, l.Pages)
		}
		l.Before, l.After = page-1, (page+1)%(l.Pages+1)
		l.Entries = render.WorstFirst(t.Entries)[(page-1)*maxRows : min(page*maxRows, len(t.Entries))]
		return l, nil
	}
	return nil, fmt.Errorf("the last report has no contract %s on chain %s", contract.Hex(), sanitize.Quote(values.Get("chain")))
}
