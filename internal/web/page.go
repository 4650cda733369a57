package web

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"html/template"
	"net/http"
	"slices"
	"time"

	"github.com/robfig/cron/v3"
	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
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
