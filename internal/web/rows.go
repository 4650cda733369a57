package web

import (
	"html/template"
	"strconv"
	"strings"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// table writes entries as a table. It is no template, since there may be a thousand: a template takes forty times as long.
func table(list []audit.Entry) template.HTML {
	if len(list) == 0 {
		return ""
	}
	w := rows{changed: changed(list), wanted: wanted(list)}
	w.Grow(1024 * len(list))
	w.head()
	for i := range list {
		w.row(&list[i])
	}
	w.put("</tbody></table>")
	return template.HTML(w.String()) // #nosec G203 -- put escapes
}

// rows is a table that grows.
type rows struct {
	strings.Builder
	changed, wanted bool // the columns of the last change and of the policy are there
}

// put writes markup and text by turns. Text is escaped for an element and for a quoted attribute: nothing else may stand there.
func (w *rows) put(parts ...string) {
	for i, s := range parts {
		if i%2 == 1 {
			s = template.HTMLEscapeString(s)
		}
		w.WriteString(s)
	}
}

func (w *rows) head() {
	columns := []string{"Verdict", "List", "Name", "Id", "Claim", "Chain"}
	if w.wanted {
		columns = append(columns, "Policy")
	}
	if w.changed {
		columns = append(columns, "Since", "By")
	}
	w.put(`<table class="entries"><thead><tr>`)
	for _, c := range columns {
		w.put(`<th scope="col">`, c, "</th>")
	}
	w.put("</tr></thead><tbody>\n")
}

func (w *rows) row(e *audit.Entry) {
	w.put(`<tr class="`, string(e.Verdict), `"><td><b>`, string(e.Verdict), "</b>")
	if e.Reason != "" {
		w.put(" <small>", label(e.Reason), "</small>")
	}
	if e.Accepted != nil {
		w.put(" <small><bdi>", sanitize.Plain(e.Accepted.Reason), "</bdi>, until ", day(e.Accepted.Expires), "</small>")
	}
	w.put(`</td><td data-th="List">`, label(e.List), `</td><td data-th="Name">`)
	if e.Name != "" {
		w.put(`<bdi title="`, sanitize.Plain(e.Name), `">`, cut(e.Name), "</bdi>")
	} else {
		w.put(`<span class="dim">no name</span>`)
	}
	if v := version(e.Name, e.Version); v != "" {
		w.put(" <small><bdi>", cut(v), "</bdi></small>")
	}
	w.put(`</td><td data-th="Id">`)
	if e.ID != "" {
		w.id(e.ID)
	} else {
		w.put(`<span class="dim">none</span>`)
	}
	w.state("Claim", string(e.Claim))
	w.state("Chain", string(e.OnChain))
	if w.wanted {
		w.state("Policy", string(e.Policy))
	}
	if w.changed {
		w.lastChange(e.Changed)
	}
	w.put("</td></tr>\n")
}

// state writes what one side says into a cell of its own.
func (w *rows) state(side, says string) {
	w.put(`</td><td data-th="`, side, `" class="`, says, `">`, says)
}

func (w *rows) lastChange(c *audit.Changed) {
	w.put(`</td><td data-th="Since">`)
	if c != nil {
		if c.Time != nil {
			w.put(`<time datetime="`, iso(*c.Time), `">`, when(*c.Time), "</time>")
		}
		w.put(" <small>block ", strconv.FormatUint(c.Block, 10), "</small>")
	}
	w.put(`</td><td data-th="By">`)
	if c != nil {
		if c.Actor != "" {
			w.id(c.Actor)
		}
		w.put(" <small>in ")
		w.id(c.Tx)
		w.put("</small>")
	}
}

func (w *rows) id(s string) {
	s = sanitize.Plain(s)
	w.put(`<code class="id" title="`, s, `">`, s, "</code>")
}
