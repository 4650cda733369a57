package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

// baselineJSON is a contract of baseline show -o json.
type baselineJSON struct {
	Chain    string          `json:"chain"`
	ChainID  uint64          `json:"chain_id"`
	Contract string          `json:"contract"`
	Baseline *audit.Baseline `json:"baseline"` // null: there is none
	Seen     *state.Seen     `json:"seen"`     // by the last audit that read it; null: none did
	Differs  []string        `json:"differs"`  // the fields of control that do
}

func (f *baselineFlags) show(ctx context.Context, stdout io.Writer) error {
	if f.output != "text" && f.output != "json" {
		return fmt.Errorf("--output %q is neither text nor json", f.output)
	}
	_, all, err := f.known(ctx)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if f.output == "json" {
		var out struct {
			Contracts []baselineJSON `json:"contracts"`
		}
		for _, k := range all {
			out.Contracts = append(out.Contracts, baselineJSON{k.Target.Chain, k.ChainID, k.Target.Contract.Hex(), k.Baseline, k.Seen, k.Differs()})
		}
		enc := json.NewEncoder(&b)
		enc.SetIndent("", "  ")
		if err := enc.Encode(out); err != nil {
			return &exitError{exitUnknown, fmt.Errorf("writing the result: %w", err)}
		}
	} else {
		for i, k := range all {
			if i > 0 {
				b.WriteByte('\n')
			}
			k.text(&b)
		}
	}
	return printf(stdout, "%s", b.Bytes())
}

// text shows both sides, and how to accept what differs.
func (k known) text(b *bytes.Buffer) {
	var was, is audit.Control
	since, seen := "none", "not seen"
	if k.Baseline != nil {
		was = k.Baseline.Control
		since = map[bool]string{true: "accepted ", false: "first seen "}[k.Baseline.Accepted] + k.Baseline.Since.UTC().Format(time.RFC3339)
	}
	if k.Seen != nil {
		is = k.Seen.Control
		seen = fmt.Sprintf("block %d of %s", k.Seen.Block.Number, k.Seen.Block.Time.UTC().Format(time.RFC3339))
	}
	differs := k.Differs()
	fmt.Fprintf(b, "%s\n", k)
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
		if slices.Contains(differs, row.name) {
			mark = "differs"
		}
		fmt.Fprintf(tab, "  %s\t%s\t%s\t%s\n", row.label, cmp.Or(sanitize.Plain(row.was), "-"), cmp.Or(sanitize.Plain(row.is), "-"), mark)
	}
	_ = tab.Flush() // a buffer takes everything
	if len(differs) > 0 {
		fmt.Fprintf(b, "  to accept it: kms-auditor baseline accept --chain %s --contract %s\n", sanitize.Plain(k.Target.Chain), k.Target.Contract.Hex())
	}
}
