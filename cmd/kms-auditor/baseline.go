package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

var errNothing = &exitError{exitNothing, errors.New("no audit in the state file has seen such a contract: run kms-auditor audit first")}

type baselineFlags struct {
	targetFlags
	output format
}

func newBaseline(g *global) *cobra.Command {
	f := &baselineFlags{targetFlags: targetFlags{global: g}}
	show := &cobra.Command{
		Use:   "show",
		Short: "Compare the baseline with the last report",
		Long: "Show for each contract who controls it and what runs there: by the baseline, and by the last report.\n\n" +
			"Exit codes: 0 shown, 1 no audit has seen such a contract, 2 usage, configuration or state file, 3 not written.",
		Args: noArgs,
		RunE: f.show,
	}
	f.output.addTo(show, "`FORMAT`: text or json")
	accept := &cobra.Command{
		Use:   "accept",
		Short: "Accept the last report's control as the baseline",
		Long: "Make the owner, code, public keys and so on of the last report the new baseline. Nothing is read from the chain, so\n" +
			"look at the report first with baseline show. If a daemon has the state file open, it accepts at the beginning of its\n" +
			"next audit, and logs the result.\n\n" +
			"Exit codes: 0 accepted, 1 no audit has seen such a contract, 2 usage, configuration or state file, 3 not written.",
		Example: "  kms-auditor baseline accept -c auditor.yaml --chain base --contract 0x2f83…",
		Args:    noArgs,
		RunE:    f.accept,
	}
	cmd := group(&cobra.Command{
		Use:   "baseline",
		Short: "Show or accept who controls the contracts",
		Long: "Show or accept the baselines. The baseline of a contract has its owner, implementation, code, public keys, gateway,\n" +
			"app implementation and allowed measurements, as they were first seen or last accepted. The state file keeps it, and\n" +
			"audits compare the contract with it. A finding stays open until the change is reverted or accepted.",
	}, show, accept)
	f.addTo(cmd)
	return cmd
}

// known reads from the state file what it has about the contracts that the flags select.
func (f *baselineFlags) known(ctx context.Context) (path string, out []state.Controlled, err error) {
	cfg, err := f.choose(ctx, true)
	if err != nil {
		return "", nil, err
	}
	s, err := viewState(cfg)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, errNothing
	}
	if err != nil {
		return "", nil, &exitError{exitUsage, err}
	}
	for _, chain := range chainNames(cfg) {
		for _, k := range s.Controlled() {
			if k.Target.Chain == chain && (f.Chain == "" || f.Chain == chain) && (f.contract == "" || f.Contract == k.Target.Contract) {
				out = append(out, k)
			}
		}
	}
	if len(out) == 0 {
		return "", nil, errNothing
	}
	return cfg.State, out, nil
}

// accept accepts what is not accepted yet, and prints one line for each contract.
func (f *baselineFlags) accept(cmd *cobra.Command, _ []string) error {
	path, all, err := f.known(cmd.Context())
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(k state.Controlled) bool { return k.Seen == nil })
	if len(all) == 0 {
		return errNothing
	}
	name := func(k state.Controlled) string { return sanitize.Plain(k.Target.Chain) + " " + k.Target.Contract.Hex() }
	stdout := cmd.OutOrStdout()
	var fresh []state.Controlled
	var wanted []state.Request
	for _, k := range all {
		if k.Baseline != nil && k.Baseline.Accepted && reflect.DeepEqual(k.Baseline.Control, k.Seen.Control) {
			if err := printf(stdout, "%s: accepted already, at %s\n", name(k), k.Baseline.Since.Format(time.RFC3339)); err != nil {
				return err
			}
			continue
		}
		fresh = append(fresh, k)
		wanted = append(wanted, state.Request{Kind: state.Accept, Chain: k.Target.Chain, Contract: k.Target.Contract, Control: &k.Seen.Control, At: time.Now().UTC(), By: operator()})
	}
	done, err := request(path, nil, "accept it", "accepted", wanted...)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	for _, k := range fresh {
		if err := printf(stdout, "%s: as of block %d, %s\n", name(k), k.Seen.Block.Number, done); err != nil {
			return err
		}
	}
	return nil
}

// baselines is what baseline show prints.
type baselines struct {
	Contracts []contractBaseline `json:"contracts"`
}

type contractBaseline struct {
	Chain    string          `json:"chain"`
	ChainID  uint64          `json:"chain_id"`
	Contract string          `json:"contract"`
	Baseline *audit.Baseline `json:"baseline"` // null if none is recorded
	Seen     *state.Seen     `json:"seen"`     // by the last audit that read the contract; null if none did
	Differs  []string        `json:"differs"`  // names of the fields of control that differ
}

func (f *baselineFlags) show(cmd *cobra.Command, _ []string) error {
	_, all, err := f.known(cmd.Context())
	if err != nil {
		return err
	}
	var out baselines
	for _, k := range all {
		out.Contracts = append(out.Contracts, contractBaseline{k.Target.Chain, k.ChainID, k.Target.Contract.Hex(), k.Baseline, k.Seen, k.Differs()})
	}
	return f.output.show(cmd.OutOrStdout(), out, false)
}

// WriteText shows both sides of each contract, and the command that accepts a difference.
func (all baselines) WriteText(b *bytes.Buffer, opt render.TextOptions) {
	for i, c := range all.Contracts {
		if i > 0 {
			b.WriteByte('\n')
		}
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
		fmt.Fprintf(b, "%s %s\n  baseline: %s\n  last report: %s\n", chain, c.Contract, since, seen)
		rows := []baselineRow{
			{"owner", "owner", was.Owner, is.Owner},
			{"pending_owner", "pending owner", was.PendingOwner, is.PendingOwner},
			{"implementation", "implementation", was.Implementation, is.Implementation},
			{"kms_pubkeys", "public keys", strings.Join(was.KMSPubkeys, ", "), strings.Join(is.KMSPubkeys, ", ")},
			{"gateway_app_id", "gateway app id", was.GatewayAppID, is.GatewayAppID},
			{"app_implementation", "apps' implementation", was.AppImplementation, is.AppImplementation},
			{"aggregated_mrs", "measurements", strings.Join(was.AggregatedMRs, ", "), strings.Join(is.AggregatedMRs, ", ")},
		}
		table := render.Table{Heads: []string{"FIELD", "BASELINE", "LAST REPORT", "DIFFERS"}, Drop: []string{render.Shorten}}
		for _, row := range append(rows, codeRows(c.Contract, &was, &is)...) {
			if row.was == "" && row.is == "" {
				continue
			}
			mark := ""
			if slices.Contains(c.Differs, row.name) && row.was != row.is {
				mark = "differs"
			}
			table.Rows = append(table.Rows, []string{row.label, render.Plain(row.was), render.Plain(row.is), mark})
		}
		table.Write(b, opt, "  ", "")
		if len(c.Differs) > 0 {
			fmt.Fprintf(b, "  to accept it: kms-auditor baseline accept --chain %s --contract %s\n", chain, c.Contract)
		}
	}
}

// baselineRow is one field of control on both sides.
type baselineRow struct{ name, label, was, is string }

// codeRows has a row for each account whose code runs.
func codeRows(contract string, was, is *audit.Control) (rows []baselineRow) {
	gone := slices.DeleteFunc(slices.Clone(was.Accounts), func(a footprint.Account) bool { return is.At(a.Address) != nil })
	for _, a := range slices.Concat(is.Accounts, gone) {
		row := baselineRow{name: "code", label: "code"}
		if a.Address != contract {
			row.label = "code of " + sanitize.Plain(string(a.Role)+" "+a.Address)
		}
		row.was = cmp.Or(was.At(a.Address), &footprint.Account{}).CodeHash
		row.is = cmp.Or(is.At(a.Address), &footprint.Account{}).CodeHash
		rows = append(rows, row)
	}
	return rows
}
