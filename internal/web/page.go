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
	"net/url"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// The policy allows the page's own style and script by their digests, and no others.
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

// page serves the status page. The banner is rendered for each request, and the rest once a minute, as it shows ages.
type page struct {
	opt   Options
	began time.Time
	turns cache[*audit.Report, struct{}] // numbers the reports
	body  cache[bodyKey, body]
}

type bodyKey struct {
	turn   int
	minute int64
}

// body is what follows the banner, and what both show.
type body struct {
	view *view
	html []byte
}

func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	report, now := p.opt.Report(), time.Now().UTC()
	_, turn, _ := p.turns.get(report, func() (struct{}, error) { return struct{}{}, nil })
	s := p.status(report, turn, now)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("ETag", s.Tag)
	if r.Method == http.MethodHead {
		return
	}
	var top bytes.Buffer
	b, _, err := p.body.get(bodyKey{turn, now.Unix() / 60}, func() (body, error) {
		var html bytes.Buffer
		v := newView(p.opt, report, now)
		err := templates.ExecuteTemplate(&html, "body", v)
		return body{v, html.Bytes()}, err
	})
	if err == nil {
		s.view = b.view
		err = templates.ExecuteTemplate(&top, "top", s)
	}
	if err != nil {
		p.opt.Logger.Error("rendering the status page", zap.Error(err))
		w.Header().Del("ETag")
		http.Error(w, "the status page cannot be shown; /api/v1/report has the last report", http.StatusInternalServerError)
		return
	}
	_, _ = top.WriteTo(w) // an error means that the client has gone
	_, _ = w.Write(b.html)
}

// status is the banner.
type status struct {
	*view
	Version      string
	Style        template.CSS
	Now, Heard   time.Time // Heard is the end of the last audit, else the start of the process
	Due, Overdue time.Time // of the next audit; zero if none is scheduled
	Config       string    // a sentence about the running configuration; optional
	Tag          string    // changes with the content of the page
}

func (p *page) status(r *audit.Report, turn int, now time.Time) status {
	s := status{Version: p.opt.Version, Style: css, Now: now, Heard: p.began.UTC()}
	if r != nil {
		s.Heard = r.FinishedAt.UTC()
	}
	s.Due, s.Overdue = p.opt.Plan().after(s.Heard)
	if running := p.opt.Config.Running; running != nil {
		s.Config = running()
	}
	s.Tag = fmt.Sprintf(`"%x-%d-%x-%x"`, p.began.UnixNano(), turn, s.Overdue.Unix(), crc32.ChecksumIEEE([]byte(s.Config)))
	return s
}

// Stale reports whether the next audit should have finished by now.
func (s status) Stale() bool { return !s.Overdue.IsZero() && s.Now.After(s.Overdue) }

// Icon is the favicon.
func (s status) Icon() template.URL {
	switch {
	case s.Stale():
		return icon("stale")
	case s.Report == nil:
		return icon("none")
	case s.OpenDrift:
		return icon("drift")
	}
	return icon(s.Report.Verdict.String())
}

// Plan is the schedule of audits.
type Plan struct {
	Schedule cron.Schedule // nil if no audit is scheduled
	Timeout  time.Duration // of one audit
}

// after returns when the next audit is due after one that ended at t, and when it is overdue: after two periods of the
// schedule, or after the audit's timeout, whichever is later. It returns zero times if no audit follows.
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

// How many characters of a foreign text the page shows.
const (
	maxName  = 48 // its title has the rest
	maxBrief = 160
)

// functions are those of the templates.
var functions = template.FuncMap{
	"brief":    func(s string) string { return strings.TrimSuffix(render.Cut(render.Plain(s), maxBrief), ".") },
	"cut":      func(s string) string { return render.Cut(s, maxName) },
	"day":      func(t time.Time) string { return t.UTC().Format(time.DateOnly) },
	"differs":  differs,
	"icon":     icon,
	"iso":      func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"label":    label,
	"plain":    sanitize.Plain,
	"plural":   plural,
	"ref":      newRef,
	"sentence": render.Plain,
	"since":    since,
	"span":     func(from, to time.Time) string { return render.Span(to.Sub(from)) },
	"tail":     tail,
	"text":     newText,
	"verdicts": func(t *audit.Target) []render.Count { return render.CountEntries(*t) },
	"version":  version,
	"when":     when,
}

func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" }

// since is the age of t, a time or a pointer to one, with t itself on hover. The script keeps it up to date.
func since(now time.Time, t any) template.HTML {
	at, ok := t.(time.Time)
	if !ok {
		at = *t.(*time.Time)
	}
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%s">%s ago</time>`, // #nosec G203 -- digits
		at.UTC().Format(time.RFC3339), when(at), render.Span(now.Sub(at))))
}

func plural(n int, one string) string {
	if n != 1 {
		one += "s"
	}
	return fmt.Sprint(n, " ", one)
}

// tail is the end of a long id, which the style shows behind its head.
func tail(id string) string {
	if len(id) < 12 || strings.Trim(id, "0123456789abcdefxABCDEF") != "" {
		return ""
	}
	return id[len(id)-3:]
}

// differs reports whether the API, or the policy, and the contract say opposite things.
func differs(said, chain any) bool {
	switch fmt.Sprint(said) {
	case string(audit.ClaimAllowed):
		return chain == audit.ChainDenied
	case string(audit.ClaimDenied), string(audit.ClaimUnlisted):
		return chain == audit.ChainAllowed
	}
	return false
}

// ref is an id, and its address at the chain's explorer.
type ref struct{ ID, URL string }

// newRef links an id to the explorer. what is the kind of id as in the explorer's path: address, tx or block. Without an explorer
// there is no URL.
func newRef(explorer, what, id string) ref {
	r := ref{ID: id}
	if explorer != "" {
		r.URL = explorer + "/" + what + "/" + url.PathEscape(id)
	}
	return r
}

// version is empty if the name contains it.
func version(name, version string) string {
	if strings.Contains(name, version) {
		return ""
	}
	return version
}

// icons are the colour and the sign of each favicon.
var icons = map[string][2]string{
	"consistent": {"#0a6638", "M4.5 8.4 7 11l4.6-5.6"},
	"drift":      {"#b0141d", "M5 5l6 6M11 5l-6 6"},
	"unknown":    {"#a86200", "M8 4v5M8 11.4v.2"},
	"stale":      {"#5c060b", "M8 4.2V8l2.8 2"},
	"none":       {"#536071", "M5 8h6"},
}

func icon(name string) template.URL {
	i := icons[name]
	return template.URL("data:image/svg+xml," + url.PathEscape(fmt.Sprintf( // #nosec G203 -- our own
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="8" fill="%s"/>`+
			`<path d="%s" fill="none" stroke="#fff" stroke-width="2" stroke-linecap="round"/></svg>`, i[0], i[1])))
}

// labels explain the report's words.
var labels = map[any]string{
	audit.Consistent: "Every claim, or your policy where nothing is claimed, was compared with its contract and agrees.",
	audit.Drift:      "The API and a contract differ, or a contract is not as it should be.",
	audit.Unknown:    "No difference is confirmed, but something could not be checked.",

	audit.Match:        "the claim or the policy agrees with the chain",
	audit.Mismatch:     "the claim or the policy differs from the chain",
	audit.Unverifiable: "one side is missing, or the difference was not confirmed",
	audit.Pending:      "the newest block already agrees with the API, or with your policy",
	audit.Accepted:     "you accept the difference until a date",
	audit.Unclaimed:    "neither the API nor your policy mentions the id",

	audit.Assurance(""): "Nothing was read.",
	audit.Single:        "The answers come from one provider.",
	audit.Agreed:        "The configured number of providers gave the same answers.",
	audit.Proven:        "All answers were verified against the block's state root.",

	audit.Unchecked:  "Ids that the API does not list were not looked for.",
	audit.EventsOnly: "Ids that the API does not list were looked for in the contract's events. A write without an event is not seen.",
	audit.Complete:   "Everything that the contract stores is accounted for: nothing is hidden at this block.",
	audit.Incomplete: "Some events could not be read, or do not explain the storage. Ids that the API does not list may be missing.",

	audit.ReasonUnconfirmed: "only one of two reads saw the difference",
	audit.ReasonNotRead:     "the chain could not be read",
	audit.ReasonNoClaim:     "the API was not read",
	audit.ReasonWentBack:    "the block is older than one audited before",
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

// label explains a word. A word without a label is returned unchanged.
func label(word any) string {
	if s, ok := labels[word]; ok {
		return s
	}
	return fmt.Sprint(word)
}
