package web

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// entriesPage is one page of the entries of a contract.
type entriesPage struct {
	Style         template.CSS
	Icon          template.URL
	Now           time.Time
	Report        *audit.Report
	Chain         *audit.Chain
	Target        *audit.Target
	Page, Pages   int
	Before, After int // the neighbouring pages; 0 at either end
	Entries       table
}

// entries serves all entries of a contract, maxRows a page and the worst first.
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
		l.Now = time.Now().UTC()
		l.Entries.Now, l.Entries.Explorer = l.Now, o.explorers()[l.Chain.Chain]
		var body bytes.Buffer
		if err := templates.ExecuteTemplate(&body, "entriesPage", l); err != nil {
			o.Logger.Error("rendering a page of entries", zap.Error(err))
			http.Error(w, "the entries cannot be shown; /api/v1/report has the last report", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(body.Bytes()) // an error means that the client has gone
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
		l := &entriesPage{Style: css, Icon: icon(t.Verdict.String()), Report: r, Chain: c, Target: t, Page: page, Pages: (len(t.Entries) + maxRows - 1) / maxRows}
		if page < 1 || page > l.Pages {
			return nil, fmt.Errorf("there is no page %d of %d", page, l.Pages)
		}
		l.Before, l.After = page-1, (page+1)%(l.Pages+1)
		l.Entries.Rows = render.WorstFirst(t.Entries)[(page-1)*maxRows : min(page*maxRows, len(t.Entries))]
		return l, nil
	}
	return nil, fmt.Errorf("the last report has no contract %s on chain %s", contract.Hex(), sanitize.Quote(values.Get("chain")))
}
