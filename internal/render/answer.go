package render

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf16"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// Answer is what a command was asked for: text for people, and by its fields JSON for programs.
type Answer interface{ WriteText(*bytes.Buffer) }

// Show writes a for people or, as JSON, for programs.
func Show(w io.Writer, a Answer, asJSON bool) error {
	var b bytes.Buffer
	if asJSON {
		enc := json.NewEncoder(&b)
		enc.SetIndent("", "  ")
		if err := enc.Encode(a); err != nil {
			return fmt.Errorf("writing the answer as JSON: %w", err)
		}
		b = escaped(b.Bytes())
	} else {
		a.WriteText(&b)
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

// escaped spells what a terminal would not print, such as control and bidirectional characters, as JSON escapes. In
// valid JSON it can only stand in a text.
func escaped(b []byte) (out bytes.Buffer) {
	for _, r := range string(b) {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			out.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out
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

// write leaves columns out where no row has anything.
func (g grid) write(b *bytes.Buffer, indent string) {
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
