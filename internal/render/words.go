package render

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// maxName is the number of runes of a name that a table shows unless it is wide.
const maxName = 32

// color is an SGR parameter. All have two digits, so that coloured cells of a column stay aligned.
type color string

const (
	bold    color = "01"
	red     color = "31"
	green   color = "32"
	yellow  color = "33"
	blue    color = "34"
	magenta color = "35"
	cyan    color = "36"
)

func (t *text) paint(c color, s string) string {
	if !t.opt.Color {
		return s
	}
	return "\x1b[" + string(c) + "m" + s + "\x1b[0m"
}

var verdictColors = map[audit.Verdict]color{audit.Consistent: green, audit.Unknown: yellow, audit.Drift: red}

var entryColors = map[audit.EntryVerdict]color{
	audit.Match: green, audit.Mismatch: red, audit.Unverifiable: yellow, audit.Pending: cyan, audit.Accepted: magenta, audit.Unclaimed: blue,
}

var severityColors = map[audit.Severity]color{audit.Critical: red, audit.Warning: yellow, audit.Info: cyan}

// Plain makes a sentence printable. It is cut word by word: a sentence is ours, and only the words in it may be foreign.
func Plain(s string) string {
	words := strings.Fields(s)
	for i, w := range words {
		words[i] = sanitize.Plain(w)
	}
	return strings.Join(words, " ")
}

// name makes a foreign name fit a cell.
func (t *text) name(s string) string {
	if t.opt.Wide {
		return sanitize.Plain(s)
	}
	return Cut(s, maxName)
}

// id shortens an id, a hash or an address to 0x, eight digits and the last three; what is malformed is cut like a name.
func (t *text) id(s string) string {
	_, notID := sanitize.ParseID(s)
	_, notAddress := sanitize.ParseAddress(s)
	if t.opt.Wide || notID != nil && notAddress != nil || !strings.HasPrefix(s, "0x") {
		return t.name(s)
	}
	return s[:10] + "…" + s[len(s)-3:]
}

// Cut makes a foreign text printable and short.
func Cut(s string, runes int) string {
	s = sanitize.Plain(s)
	if utf8.RuneCountInString(s) <= runes {
		return s
	}
	return string([]rune(s)[:runes-1]) + "…"
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// counts spells the verdicts that occur, as in "3 entries: 1 mismatch, 2 match".
func counts(of func(audit.EntryVerdict) int) string {
	total, parts := 0, []string(nil)
	for _, v := range VerdictOrder {
		if n := of(v); n > 0 {
			total += n
			parts = append(parts, fmt.Sprintf("%d %s", n, v))
		}
	}
	switch total {
	case 0:
		return "no entries"
	case 1:
		return "1 entry: " + parts[0]
	default:
		return fmt.Sprintf("%d entries: %s", total, strings.Join(parts, ", "))
	}
}
