// Package render writes an audit's report for readers: people at a terminal, and programs.
// It decides nothing: what it shows is what the report says, in the report's words.
package render

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/kms-auditor/kms-auditor/audit"
)

// JSON writes r as docs/report.schema.json describes it: indented, an entry a line, and with a final newline.
// Equal reports give equal bytes. Entries are written one by one, so that 100,000 need no memory.
func JSON(w io.Writer, r *audit.Report) error {
	if err := writeJSON(w, r); err != nil {
		return fmt.Errorf("writing report %s as JSON: %w", r.AuditID, err)
	}
	return nil
}

// noEntries is an empty list in the text. No string looks like it, since quotes are escaped there.
var noEntries = []byte(`"entries": []`)

func writeJSON(w io.Writer, r *audit.Report) error {
	frame, err := json.MarshalIndent(withoutEntries(r), "", "  ")
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 1<<16) // its Flush tells what went wrong
	for _, c := range r.Chains {
		for _, t := range c.Targets {
			if t.Entries == nil {
				continue
			}
			before, after, _ := bytes.Cut(frame, noEntries)
			out.Write(before)
			if err := writeEntries(out, t.Entries); err != nil {
				return err
			}
			frame = after
		}
	}
	out.Write(frame)
	out.WriteByte('\n')
	return out.Flush()
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
	const indent = "            "
	var one bytes.Buffer
	enc := json.NewEncoder(&one)
	out.WriteString(`"entries": [`)
	for i := range list {
		one.Reset()
		if err := enc.Encode(&list[i]); err != nil {
			return err
		}
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteString("\n" + indent)
		out.Write(bytes.TrimSuffix(one.Bytes(), []byte("\n")))
	}
	if len(list) > 0 {
		out.WriteString("\n" + indent[2:])
	}
	return out.WriteByte(']')
}
