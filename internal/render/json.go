package render

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"unicode"
	"unicode/utf16"

	"github.com/kms-auditor/kms-auditor/audit"
)

// noEntries is an empty list in the text. Strings cannot contain it, since their quotes are escaped.
var noEntries = []byte(`"entries": []`)

// JSON writes r as docs/report.schema.json describes it: indented, one entry per line, and with a final newline.
// Equal reports give equal bytes. Entries are written one by one, so that 100,000 need no memory.
func JSON(w io.Writer, r *audit.Report) error {
	bare := *r // with empty lists of entries
	bare.Chains = slices.Clone(r.Chains)
	for i := range bare.Chains {
		bare.Chains[i].Targets = slices.Clone(bare.Chains[i].Targets)
	}
	for _, t := range Targets(&bare) {
		t.Entries = t.Entries[:0]
	}
	rest, err := json.MarshalIndent(bare, "", "  ")
	if err != nil {
		return wrote(r, "JSON", err)
	}
	out := bufio.NewWriterSize(w, 1<<16) // Flush returns the error
	const indent = "\n            "      // indentation of an entry
	for _, t := range Targets(r) {
		if t.Entries == nil {
			continue
		}
		before, after, _ := bytes.Cut(rest, noEntries)
		fmt.Fprintf(out, `%s"entries": [`, before)
		separator, end := "", ""
		for i := range t.Entries {
			entry, err := json.Marshal(&t.Entries[i])
			if err != nil {
				return wrote(r, "JSON", err)
			}
			fmt.Fprintf(out, "%s%s%s", separator, indent, entry)
			separator, end = ",", indent[:len(indent)-2]
		}
		fmt.Fprintf(out, "%s]", end)
		rest = after
	}
	fmt.Fprintf(out, "%s\n", rest)
	return wrote(r, "JSON", out.Flush())
}

// Answer is the result of a command: it writes itself as text, and its fields are its JSON.
type Answer interface {
	WriteText(*bytes.Buffer, TextOptions)
}

// Show writes a as text or, for programs, as JSON.
func Show(w io.Writer, a Answer, opt TextOptions, asJSON bool) error {
	var b bytes.Buffer
	if asJSON {
		enc := json.NewEncoder(&b)
		enc.SetIndent("", "  ")
		if err := enc.Encode(a); err != nil {
			return fmt.Errorf("writing the answer as JSON: %w", err)
		}
		b = escaped(b.Bytes())
	} else {
		a.WriteText(&b, opt)
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

// escaped replaces what a terminal would not print, such as control and bidirectional characters, by JSON escapes. In valid JSON
// such characters occur only in strings.
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
