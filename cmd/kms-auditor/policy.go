package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

func newPolicy(g *global) *cobra.Command {
	return group(&cobra.Command{Use: "policy", Short: "Work with the operator's policy"}, "snapshot or diff", newPolicySnapshot(g), newPolicyDiff(g))
}

func newPolicySnapshot(g *global) *cobra.Command {
	p := onceFlags{targetFlags: targetFlags{global: g}}
	var incomplete bool
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Print a policy that wants what is on chain now",
		Long: "Audit once, and print for each contract the policy that wants what is on chain: the devices and OS images that it\n" +
			"allows, who owns it and what code runs. It is YAML for the contracts of a chain in the configuration.\n" +
			"A policy that lacks what a search did not find would call it refused: nothing is printed unless all is proven.\n\n" +
			"Exit codes: 0 printed, 2 usage or configuration, 3 not everything is proven (see --allow-incomplete).",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := p.choose(cmd.Context(), "")
			if err != nil {
				return err
			}
			report, err := p.audit(cmd, cfg)
			if err != nil {
				return err
			}
			if doubts := render.Doubts(report); len(doubts) > 0 && !incomplete {
				return &exitError{exitUnknown, fmt.Errorf("nothing is printed, since not all is proven:\n  %s\n--allow-incomplete prints what is known, with warnings", strings.Join(doubts, "\n  "))}
			}
			return exitWith(exitUnknown, render.Snapshot(cmd.OutOrStdout(), report))
		},
	}
	p.flags(cmd)
	cmd.Flags().BoolVar(&incomplete, "allow-incomplete", false, "also print what is not proven, or not whole, with a warning in a comment")
	return cmd
}

func newPolicyDiff(g *global) *cobra.Command {
	p := onceFlags{targetFlags: targetFlags{global: g}}
	var incomplete bool
	var output format
	cmd := &cobra.Command{
		Use:   "diff",
		Short: "Compare the configured policies with what is on chain now",
		Long: "Audit once, and print how the policies of the configuration differ from what is on chain, in the lines of a policy:\n" +
			"what is to go (-) and to come (+) for the policy to be what policy snapshot would print. A contract without a policy is\n" +
			"new, and a key that a policy does not have is not compared. As with policy snapshot, all has to be proven.\n\n" +
			"Exit codes: 0 no difference, 1 a difference, 2 usage or configuration, 3 not everything is proven (see\n" +
			"--allow-incomplete), or could be read.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := p.choose(cmd.Context(), "")
			if err != nil {
				return err
			}
			policies := policiesOf(cfg) // an audit leaves in cfg what it needs
			cfg.ConfirmDelay = 0        // a difference is what is asked for: it is no alert that has to wait
			report, err := p.audit(cmd, cfg)
			if err != nil {
				return err
			}
			doubts := render.Doubts(report)
			if len(doubts) > 0 && !incomplete {
				return &exitError{exitUnknown, fmt.Errorf("nothing is compared, since not all is proven:\n  %s\n--allow-incomplete compares what is known", strings.Join(doubts, "\n  "))}
			}
			diff := render.NewPolicyDiff(report, func(chain, contract string) audit.Policy { return policies[[2]string{chain, contract}] })
			if err := output.show(cmd.OutOrStdout(), diff); err != nil {
				return err
			}
			switch {
			case len(diff.Unread) > 0 || len(diff.Contracts) == 0:
				return &exitError{exitUnknown, fmt.Errorf("not everything could be compared:\n  %s", strings.Join(append(diff.Unread, doubts...), "\n  "))}
			case diff.Differs:
				return &exitError{code: exitDiffers}
			}
			return nil
		},
	}
	p.flags(cmd)
	output.addTo(cmd, "text, or json as docs/policy.md describes it")
	cmd.Flags().BoolVar(&incomplete, "allow-incomplete", false, "also compare what is not proven, or not whole: an id that nobody names may be missing")
	return cmd
}
