package render

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// Snapshot writes, for each chain of r, the contracts of a configuration whose policies want what is on chain now:
// to be put under the chain as it is, at its indentation. What is in doubt is a comment that begins with WARNING.
func Snapshot(w io.Writer, r *audit.Report) error {
	var b bytes.Buffer
	for _, c := range r.Chains {
		at := "no block pinned"
		if c.Block != nil {
			at = fmt.Sprintf("%s block %d %s of %s", Plain(c.Policy), c.Block.Number, Plain(c.Block.Hash), when(&c.Block.Time))
		}
		fmt.Fprintf(&b, "# chain %s (%d): %s\n", Plain(c.Chain), c.ChainID, at)
		for j, t := range asked(&c) {
			if j == 0 {
				b.WriteString("    contracts:\n")
			}
			snapshot(&b, &t)
		}
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("writing the policy of report %s: %w", r.AuditID, err)
	}
	return nil
}

// Doubts tells what keeps a snapshot of r from being all that is on chain, and proven.
func Doubts(r *audit.Report) []string {
	var out []string
	for _, c := range r.Chains {
		before, targets := len(out), asked(&c)
		for _, t := range targets {
			for _, d := range doubts(&t) {
				out = append(out, Plain(c.Chain)+" "+Plain(t.Contract)+": "+d)
			}
		}
		if len(targets) == 0 {
			out = append(out, Plain(c.Chain)+": no contract was audited")
		}
		for _, e := range c.Errors {
			if len(out) > before { // else it did not matter
				out = append(out, Plain(c.Chain)+": "+Plain(e.Source)+": "+Plain(e.Message))
			}
		}
	}
	if len(r.Chains) == 0 {
		out = append(out, "nothing was audited")
	}
	return out
}

// asked returns the contracts of a chain, but for those that only the API lists and the operator did not ask for.
func asked(c *audit.Chain) []audit.Target {
	return slices.DeleteFunc(slices.Clone(c.Targets), func(t audit.Target) bool {
		return slices.ContainsFunc(t.Findings, func(f audit.Finding) bool { return f.Kind == audit.ContractUnexpected })
	})
}

func doubts(t *audit.Target) []string {
	var out []string
	if t.Completeness != audit.Complete {
		out = append(out, fmt.Sprintf("completeness is %s, not proven: %s", t.Completeness, remarks[t.Completeness]))
	}
	unread := 0
	for _, k := range policyKeys {
		if k.unread != nil {
			unread += k.unread(t)
		}
	}
	if unread > 0 {
		out = append(out, plural(unread, "id")+" could not be read")
	}
	if t.Assurance != audit.Proven && (t.Assurance != "" || t.Completeness != audit.Complete) {
		out = append(out, "assurance is "+cmp.Or(string(t.Assurance), "none")+", not proven")
	}
	if t.Control == nil {
		out = append(out, "who controls it was not read")
	} else if !slices.Contains(t.Control.Read, "aggregated_mrs") {
		out = append(out, "its aggregated measurements were not read")
	}
	return out
}

func snapshot(b *bytes.Buffer, t *audit.Target) {
	line := func(format string, args ...any) { fmt.Fprintf(b, "      "+format+"\n", args...) }
	line("# %s, completeness %s", assurance(t), t.Completeness)
	for _, d := range doubts(t) {
		line("# WARNING: %s", d)
	}
	line("- address: %s", scalar(t.Contract))
	line("  policy:")
	for _, k := range policyKeys {
		is := k.is(t)
		switch {
		case k.whole != nil && !k.whole(t), k.whole == nil && len(is) == 0:
			continue // an empty list would want none
		case k.list && len(is) == 0:
			line("    %s: []", k.key)
		case k.list:
			line("    %s:", k.key)
		}
		for _, l := range k.lines(is) {
			line("    %s", l)
		}
	}
}

// named is a name with a version that is not in it.
func named(name, version string) string {
	name, version = sanitize.Plain(name), sanitize.Plain(version)
	if strings.HasSuffix(name, version) {
		return name
	}
	return spaced(name, version)
}
