package render

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// TextOptions choose how text for people looks. The zero value fits a pipe: nothing is cut.
type TextOptions struct {
	Color bool // terminal escapes
	Width int  // of the terminal, in columns, which tables and lines have to fit; 0: no limit
}

// defaultWidth is the width of a terminal that does not report one.
const defaultWidth = 80

// TerminalWidth returns the columns of the terminal that w writes to, or 0 if it is not a terminal.
func TerminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
		return width
	}
	return defaultWidth
}

// OptionsFor fits text to w. A non-empty NO_COLOR means no colour (no-color.org).
func OptionsFor(w io.Writer) TextOptions {
	width := TerminalWidth(w)
	return TextOptions{Color: width > 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb", Width: width}
}

// Table is a table of cells that are printable. Columns without a value in any row are left out.
type Table struct {
	Heads []string

	// Drop names columns in the order in which they are left out of a table that is too wide. After Shorten, ids are
	// shortened, and columns that fit then are back.
	Drop []string
	Rows [][]string
}

// Shorten in Table.Drop shortens all ids instead of dropping a column.
const Shorten = ""

// Add adds a row whose cells may hold foreign text.
func (t *Table) Add(cells ...string) {
	for i, c := range cells {
		cells[i] = sanitize.Plain(c)
	}
	t.Rows = append(t.Rows, cells)
}

// Write writes the table, or none if it has no rows.
func (t *Table) Write(b *bytes.Buffer, opt TextOptions, indent, none string) {
	if len(t.Rows) == 0 {
		b.WriteString(none)
		return
	}
	all := append([][]string{t.Heads}, t.Rows...)
	columns := t.fit(all, opt.Width-len(indent), opt.Width == 0)
	tab := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, row := range all {
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = cmp.Or(row[c], "-")
		}
		fmt.Fprintln(tab, indent+strings.Join(cells, "\t"))
	}
	_ = tab.Flush() // a buffer takes everything
}

// fit returns the columns to show, and shortens the ids in rows where that is needed.
func (t *Table) fit(rows [][]string, width int, unlimited bool) []int {
	var used []int
	for i := range t.Heads {
		if slices.ContainsFunc(rows[1:], func(row []string) bool { return row[i] != "" }) {
			used = append(used, i)
		}
	}
	columns, shortened := used, false
	for n := 0; !unlimited && n < len(t.Drop) && widthOf(rows, columns) > width; n++ {
		if t.Drop[n] != Shorten || shortened {
			columns = slices.DeleteFunc(slices.Clone(columns), func(i int) bool { return t.Heads[i] == t.Drop[n] })
			continue
		}
		for i, row := range rows {
			rows[i] = each(row, shorten)
		}
		columns, shortened, n = used, true, -1
	}
	return columns
}

// widthOf is the width of some columns, with two spaces between them.
func widthOf(rows [][]string, columns []int) int {
	total := -2
	for _, i := range columns {
		widest := 0
		for _, row := range rows {
			widest = max(widest, visible(row[i]))
		}
		total += widest + 2
	}
	return total
}

var (
	escapes = regexp.MustCompile(`\x1b\[[0-9]+m`)
	longHex = regexp.MustCompile(`\b(0x)?[0-9a-fA-F]{21,}\b`)
)

// visible is the number of runes of s that a terminal shows.
func visible(s string) int { return utf8.RuneCountInString(escapes.ReplaceAllString(s, "")) }

// shorten cuts each id, hash, key and address in s to its head and tail.
func shorten(s string) string {
	return longHex.ReplaceAllStringFunc(s, func(hex string) string {
		head := 8
		if strings.HasPrefix(hex, "0x") {
			head = 10
		}
		return hex[:head] + "…" + hex[len(hex)-3:]
	})
}

// wrap breaks a line at spaces to fit width. It indents the rest by hang, or by two if the line has no indentation. It shortens
// ids in a word that is too long for a line; other long words stay.
func wrap(line string, width, hang int) string {
	if width <= 0 || visible(line) <= width {
		return line
	}
	text := strings.TrimLeft(line, " ")
	at := len(line) - len(text) // columns of the current line
	if hang = max(hang, at); at == 0 {
		hang = 2
	}
	var out strings.Builder
	out.WriteString(line[:at])
	for i, word := range strings.Split(text, " ") {
		if hang+visible(word) > width {
			word = shorten(word)
		}
		switch {
		case i == 0:
		case at+1+visible(word) > width:
			out.WriteString("\n" + strings.Repeat(" ", hang))
			at = hang
		default:
			out.WriteByte(' ')
			at++
		}
		out.WriteString(word)
		at += visible(word)
	}
	return out.String()
}

// list writes the pairs of a name and a value that have one.
func list(b *bytes.Buffer, opt TextOptions, indent string, pairs [][2]string) {
	pairs = slices.DeleteFunc(pairs, func(p [2]string) bool { return p[1] == "" })
	names := 0
	for _, p := range pairs {
		names = max(names, len(p[0]))
	}
	for _, p := range pairs {
		value := sanitize.Plain(p[1])
		if opt.Width > 0 && len(indent)+names+2+visible(value) > opt.Width {
			value = shorten(value)
		}
		fmt.Fprintf(b, "%s%-*s  %s\n", indent, names, p[0], value)
	}
}
