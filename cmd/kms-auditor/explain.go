package main

import (
	"cmp"
	"errors"
	"io/fs"
	"slices"

	"github.com/spf13/cobra"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

func newExplain(g *global) *cobra.Command {
	p := onceFlags{targetFlags: targetFlags{global: g}}
	var output format
	var wide bool
	cmd := &cobra.Command{
		Use:   "explain ID|KIND",
		Short: "Show all that is known about an id or a finding",
		Long: "Show all that is known about one id, on every chain: what the API claims, what the contract says, since when and by\n" +
			"whom, your policy, and its findings with what they mean and what to do. ID is 64 hex digits, the first eight or\n" +
			"more of them, or the API's name for one id. KIND is a kind of finding.\n\n" +
			"The answer comes from the last audit in the state file: no source is asked, and a daemon may be running. With --block,\n" +
			"or without a remembered audit, it audits once and stores nothing.\n\n" +
			"Exit codes: 0 shown, 2 usage, configuration or an ambiguous id, 3 the id, or what the contract says of it, is unknown.",
		Example: "  kms-auditor explain 0x05c7a1b2 -c auditor.yaml\n" +
			"  kms-auditor explain dstack-0.5.9 --chain base\n" +
			"  kms-auditor explain unlisted_chain_allowed",
		Args: oneArg("an id, a name, or a kind of finding"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "" {
				return errors.New("the id is empty: give an id, a name, or a kind of finding")
			}
			if kind := audit.Kind(args[0]); slices.Contains(audit.Kinds, kind) {
				return output.show(cmd.OutOrStdout(), render.NewKindExplanation(kind), wide)
			}
			cfg, err := p.choose(cmd.Context(), false)
			if err != nil {
				return err
			}
			// An audit keeps in cfg only the chain and the contract that it needs.
			policies, names := policiesOf(cfg), chainNames(cfg)
			known, err := p.known(cmd, cfg)
			if err != nil {
				return err
			}
			id, err := known.Find(args[0], p.Filter)
			if err != nil {
				return err
			}
			id = cmp.Or(id, sanitize.Plain(args[0]))
			key, _ := sanitize.ParseID(id) // a malformed id is in no policy
			x := known.Explain(id, p.Filter, names, func(chain, contract string, l audit.List) audit.PolicyState {
				return policies[[2]string{chain, contract}].State(l, key)
			})
			if err := output.show(cmd.OutOrStdout(), x, wide); err != nil {
				return err
			}
			if len(x.Places) == 0 || slices.ContainsFunc(x.Places, func(at render.Place) bool { return at.OnChain == audit.ChainUnknown }) {
				return &exitError{code: exitUnknown}
			}
			return nil
		},
	}
	p.addTo(cmd)
	output.addTo(cmd, "`FORMAT`: text, or json as docs/history.md describes it")
	cmd.Flags().BoolVar(&wide, "wide", false, "print all columns and whole ids, however narrow the terminal")
	ids := g.completed(idsOf)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return ids(cmd, args, typed)
	}
	return cmd
}

// known returns what the state file has. With --block, or without a remembered audit, it audits once.
func (p *onceFlags) known(cmd *cobra.Command, cfg *config.Config) (*state.State, error) {
	known, err := viewState(cfg)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &exitError{exitUnknown, err}
	}
	if !cmd.Flags().Changed("block") && len(known.Last()) > 0 {
		return known, nil
	}
	report, err := p.audit(cmd, cfg)
	if err != nil {
		return nil, err
	}
	known.ReplaceWith(report)
	return known, nil
}

// policiesOf returns the policies of the configuration by chain and contract.
func policiesOf(cfg *config.Config) map[[2]string]audit.Policy {
	policies := map[[2]string]audit.Policy{}
	for _, c := range cfg.Chains {
		for _, contract := range c.Contracts {
			policies[[2]string{c.Name, contract.Address.Hex()}] = contract.Policy
		}
	}
	return policies
}
