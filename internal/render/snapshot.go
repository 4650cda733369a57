package render

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
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
	for _, e := range t.Entries {
		if _, err := sanitize.ParseID(e.ID); err == nil && e.OnChain == audit.ChainUnknown {
			unread++
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
	for _, l := range audit.Lists {
		key := string(l) + "s"
		allowed := slices.DeleteFunc(slices.Clone(t.Entries), func(e audit.Entry) bool { return e.List != l || e.OnChain != audit.ChainAllowed })
		if len(allowed) == 0 {
			line("    %s: []", key)
			continue
		}
		line("    %s:", key)
		for _, e := range allowed {
			line("      - %s # %s", scalar(e.ID), cmp.Or(named(e.Name, e.Version), "the API does not name it"))
		}
	}
	c := t.Control
	if c == nil {
		return
	}
	pin := func(key, value, remark string) {
		if value != "" {
			line("    %s: %s%s", key, scalar(value), remark)
		}
	}
	leaving := ""
	if c.PendingOwner != "" {
		leaving = " # a transfer to " + Plain(c.PendingOwner) + " is under way"
	}
	pin("owner", c.Owner, leaving)
	pin("implementation", c.Implementation, "")
	if runs := c.In(footprint.Implementation); len(runs) == 1 {
		pin("code_hash", runs[0].CodeHash, "")
	}
	if !c.Complete {
		return
	}
	line("    code_hashes:")
	for _, a := range c.Accounts {
		line("      - %s # %s %s", scalar(a.CodeHash), a.Role, Plain(a.Address))
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
