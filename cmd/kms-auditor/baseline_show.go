package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

// baselines is what baseline show prints.
type baselines struct {
	Contracts []contractBaseline `json:"contracts"`
}

type contractBaseline struct {
	Chain    string          `json:"chain"`
	ChainID  uint64          `json:"chain_id"`
	Contract string          `json:"contract"`
	Baseline *audit.Baseline `json:"baseline"` // null: there is none
	Seen     *state.Seen     `json:"seen"`     // by the last audit that read it; null: none did
	Differs  []string        `json:"differs"`  // the fields of control that do
}

func (f *baselineFlags) show(ctx context.Context, stdout io.Writer) error {
	_, all, err := f.known(ctx)
	if err != nil {
		return err
	}
	var out baselines
	for _, k := range all {
		out.Contracts = append(out.Contracts, contractBaseline{k.Target.Chain, k.ChainID, k.Target.Contract.Hex(), k.Baseline, k.Seen, k.Differs()})
	}
	return f.output.show(stdout, out)
}

func (all baselines) WriteText(b *bytes.Buffer) {
	for i, c := range all.Contracts {
		if i > 0 {
			b.WriteByte('\n')
		}
		c.writeText(b)
	}
}

// writeText shows both sides, and how to accept what differs.
func (c contractBaseline) writeText(b *bytes.Buffer) {
	var was, is audit.Control
	since, seen := "none", "not seen"
	if c.Baseline != nil {
		was = c.Baseline.Control
		since = map[bool]string{true: "accepted ", false: "first seen "}[c.Baseline.Accepted] + c.Baseline.Since.UTC().Format(time.RFC3339)
	}
	if c.Seen != nil {
		is = c.Seen.Control
		seen = fmt.Sprintf("block %d of %s", c.Seen.Block.Number, c.Seen.Block.Time.UTC().Format(time.RFC3339))
	}
	chain := sanitize.Plain(c.Chain)
	fmt.Fprintf(b, "%s %s\n", chain, c.Contract)
	tab := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tab, "  \tBASELINE (%s)\tLAST REPORT (%s)\t\n", since, seen)
	for _, row := range []struct{ name, label, was, is string }{
		{"owner", "owner", was.Owner, is.Owner},
		{"pending_owner", "pending owner", was.PendingOwner, is.PendingOwner},
		{"implementation", "implementation", was.Implementation, is.Implementation},
		{"code_hash", "code hash", was.CodeHash, is.CodeHash},
		{"implementation_code_hash", "its code hash", was.ImplementationCodeHash, is.ImplementationCodeHash},
	} {
		if row.was == "" && row.is == "" {
			continue
		}
		mark := ""
		if slices.Contains(c.Differs, row.name) {
			mark = "differs"
		}
		fmt.Fprintf(tab, "  %s\t%s\t%s\t%s\n", row.label, cmp.Or(sanitize.Plain(row.was), "-"), cmp.Or(sanitize.Plain(row.is), "-"), mark)
	}
	_ = tab.Flush() // a buffer takes everything
	if len(c.Differs) > 0 {
		fmt.Fprintf(b, "  to accept it: kms-auditor baseline accept --chain %s --contract %s\n", chain, c.Contract)
	}
}
