package render

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

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

// colors are those of verdicts and severities.
var colors = map[any]color{
	audit.Consistent: green, audit.Unknown: yellow, audit.Drift: red,
	audit.Match: green, audit.Mismatch: red, audit.Unverifiable: yellow, audit.Pending: cyan, audit.Accepted: magenta, audit.Unclaimed: blue,
	audit.Critical: red, audit.Warning: yellow, audit.Info: cyan,
}

func (t *text) word(format string, word any) string {
	return t.paint(colors[word], fmt.Sprintf(format, word))
}

// Plain makes a sentence printable. It is cut word by word: a sentence is ours, and only the words in it may be foreign.
func Plain(s string) string {
	words := strings.Fields(s)
	for i, w := range words {
		words[i] = sanitize.Plain(w)
	}
	return strings.Join(words, " ")
}

func nonEmpty(parts ...string) []string {
	return slices.DeleteFunc(parts, func(s string) bool { return s == "" })
}

// spaced joins what is not empty.
func spaced(parts ...string) string { return Plain(strings.Join(parts, " ")) }

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
	if all := []rune(s); len(all) > runes {
		return string(all[:runes-1]) + "…"
	}
	return s
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Count is how many entries have a verdict.
type Count struct {
	N       int
	Verdict audit.EntryVerdict
}

// CountEntries counts the entries of contracts by the verdicts that occur, the worst first.
func CountEntries(targets ...audit.Target) (out []Count) {
	for _, v := range VerdictOrder {
		n := 0
		for _, t := range targets {
			n += t.Counts.Of(v)
		}
		if n > 0 {
			out = append(out, Count{n, v})
		}
	}
	return out
}

// counts spells the verdicts that occur, as in "3 entries: 1 mismatch, 2 match".
func counts(targets ...audit.Target) string {
	total, parts := 0, []string(nil)
	for _, c := range CountEntries(targets...) {
		total += c.N
		parts = append(parts, fmt.Sprintf("%d %s", c.N, c.Verdict))
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

// grid is rows of printable cells. The first row are headings.
type grid [][]string

// add adds a row of which cells may be foreign.
func (g *grid) add(cells ...string) {
	for i, c := range cells {
		cells[i] = sanitize.Plain(c)
	}
	*g = append(*g, cells)
}

// write leaves columns out where no row has anything. Without rows it writes none, a line that says so.
func (g grid) write(b *bytes.Buffer, indent, none string) {
	if len(g) == 1 {
		b.WriteString(none)
		return
	}
	used := make([]bool, len(g[0]))
	for _, row := range g[1:] {
		for i, c := range row {
			used[i] = used[i] || c != ""
		}
	}
	tab := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, row := range g {
		var cells []string
		for i, c := range row {
			if used[i] {
				cells = append(cells, cmp.Or(c, "-"))
			}
		}
		fmt.Fprintln(tab, indent+strings.Join(cells, "\t"))
	}
	_ = tab.Flush() // a buffer takes everything
}

// list writes what is there of names and values.
func list(b *bytes.Buffer, indent string, pairs [][2]string) {
	tab := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, p := range pairs {
		if p[1] != "" {
			fmt.Fprintf(tab, "%s%s\t%s\n", indent, p[0], sanitize.Plain(p[1]))
		}
	}
	_ = tab.Flush() // a buffer takes everything
}

// named is a name with a version that is not in it.
func named(name, version string) string {
	name, version = sanitize.Plain(name), sanitize.Plain(version)
	if strings.HasSuffix(name, version) {
		return name
	}
	return spaced(name, version)
}
