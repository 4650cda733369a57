// Package render writes an audit's report for readers: people at a terminal, and programs.
// It decides nothing: what it shows is what the report says, in the report's words.
package render

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"slices"

	"github.com/kms-auditor/kms-auditor/audit"
)

// noEntries is an empty list in the text. No string looks like it, since quotes are escaped there.
var noEntries = []byte(`"entries": []`)

// JSON writes r as docs/report.schema.json describes it: indented, an entry a line, and with a final newline.
// Equal reports give equal bytes. Entries are written one by one, so that 100,000 need no memory.
func JSON(w io.Writer, r *audit.Report) error {
	rest, err := json.MarshalIndent(withoutEntries(r), "", "  ")
	if err != nil {
		return wrote(r, "JSON", err)
	}
	out := bufio.NewWriterSize(w, 1<<16) // its Flush tells what went wrong
	for _, c := range r.Chains {
		for _, t := range c.Targets {
			if t.Entries == nil {
				continue
			}
			var before []byte
			before, rest, _ = bytes.Cut(rest, noEntries)
			out.Write(before)
			if err := writeEntries(out, t.Entries); err != nil {
				return wrote(r, "JSON", err)
			}
		}
	}
	out.Write(rest)
	out.WriteByte('\n')
	return wrote(r, "JSON", out.Flush())
}

// withoutEntries returns a copy of r whose lists of entries are empty.
func withoutEntries(r *audit.Report) *audit.Report {
	bare := *r
	bare.Chains = slices.Clone(r.Chains)
	for i := range bare.Chains {
		c := &bare.Chains[i]
		c.Targets = slices.Clone(c.Targets)
		for j := range c.Targets {
			if t := &c.Targets[j]; t.Entries != nil {
				t.Entries = []audit.Entry{}
			}
		}
	}
	return &bare
}

// writeEntries writes a list as deep as it stands in a report.
func writeEntries(out *bufio.Writer, list []audit.Entry) error {
	const indent = "\n            "
	out.WriteString(`"entries": [`)
	for i := range list {
		entry, err := json.Marshal(&list[i])
		if err != nil {
			return err
		}
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteString(indent)
		out.Write(entry)
	}
	if len(list) > 0 {
		out.WriteString(indent[:len(indent)-2])
	}
	return out.WriteByte(']')
}
