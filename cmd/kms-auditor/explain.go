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
		Use:   "explain ID",
		Short: "Tell all that is known of one device or OS image",
		Long: "Tell all that is known of one id, on every chain: what the API says, what the contract says, since when and by whom,\n" +
			"your policy, the findings about it, what they mean and what to do. The id is 64 hex digits, its first eight or more,\n" +
			"or a name that the API has for one id.\n\n" +
			"The answer comes from the last audit in the state file: nobody is asked, and the daemon may be running. With --block,\n" +
			"or where no audit is remembered, it audits once, and remembers nothing of it.\n\n" +
			"Exit codes: 0 told, 2 usage, configuration or an ambiguous id, 3 the id is not known, or what the contract says\n" +
			"of it is not.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "" {
				return errors.New("the id is empty")
			}
			cfg, err := p.choose(cmd.Context(), "")
			if err != nil {
				return err
			}
			// An audit leaves in cfg what it needs.
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
			key, _ := sanitize.ParseID(id) // what is malformed is in no policy
			x := known.Explain(id, p.Filter, names, func(chain, contract string, l audit.List) audit.PolicyState {
				return policies[[2]string{chain, contract}].State(l, key)
			})
			x.Wide = wide
			if err := output.show(cmd.OutOrStdout(), x); err != nil {
				return err
			}
			if len(x.Places) == 0 || slices.ContainsFunc(x.Places, func(at render.Place) bool { return at.OnChain == audit.ChainUnknown }) {
				return &exitError{code: exitUnknown}
			}
			return nil
		},
	}
	p.flags(cmd)
	output.addTo(cmd, "text, or json as docs/history.md describes it")
	cmd.Flags().BoolVar(&wide, "wide", false, "print addresses and hashes whole")
	return cmd
}

// known is what the state file remembers, with an audit of its own where that is asked for, or nothing is remembered.
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
