package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

func newPolicy(g *global) *cobra.Command {
	return group(&cobra.Command{Use: "policy", Short: "Write or compare a policy of your own"}, newPolicySnapshot(g), newPolicyDiff(g))
}

func newPolicySnapshot(g *global) *cobra.Command {
	p := onceFlags{targetFlags: targetFlags{global: g}}
	var incomplete bool
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Print a policy that matches the chain now",
		Long: "Audit once, and print for each contract a policy that matches what is on chain: the devices and OS images that it\n" +
			"allows, its owner and its code. The output is YAML for the contracts of a chain in the configuration.\n" +
			"A policy refuses every id that it does not list, so nothing is printed unless everything is proven.\n\n" +
			"Exit codes: 0 printed, 2 usage or configuration, 3 not everything is proven (see --allow-incomplete).",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := p.choose(cmd.Context(), false)
			if err != nil {
				return err
			}
			report, err := p.audit(cmd, cfg)
			if err != nil {
				return err
			}
			if doubts := render.Doubts(report); len(doubts) > 0 && !incomplete {
				return &exitError{exitUnknown, fmt.Errorf("not everything is proven, so nothing is printed:\n  %s\nuse --allow-incomplete to print what is known, with warnings", strings.Join(doubts, "\n  "))}
			}
			return exitWith(exitUnknown, render.Snapshot(cmd.OutOrStdout(), report))
		},
	}
	p.addTo(cmd)
	cmd.Flags().BoolVar(&incomplete, "allow-incomplete", false, "also print what is not proven or not complete, with warnings in comments")
	return cmd
}

func newPolicyDiff(g *global) *cobra.Command {
	p := onceFlags{targetFlags: targetFlags{global: g}}
	var incomplete bool
	var output format
	cmd := &cobra.Command{
		Use:   "diff",
		Short: "Compare the configured policies with the chain now",
		Long: "Audit once, and print how the configured policies differ from what is on chain: which lines to remove (-) and\n" +
			"add (+) to get what policy snapshot prints. Keys that a policy does not have are not compared. As with policy\n" +
			"snapshot, everything must be proven.\n\n" +
			"Exit codes: 0 no difference, 1 a difference, 2 usage or configuration, 3 not everything was read or is proven\n" +
			"(see --allow-incomplete).",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := p.choose(cmd.Context(), false)
			if err != nil {
				return err
			}
			policies := policiesOf(cfg) // before the audit narrows cfg
			cfg.ConfirmDelay = 0        // a difference needs no confirmation here: it raises no alert
			report, err := p.audit(cmd, cfg)
			if err != nil {
				return err
			}
			doubts := render.Doubts(report)
			if len(doubts) > 0 && !incomplete {
				return &exitError{exitUnknown, fmt.Errorf("not everything is proven, so nothing is compared:\n  %s\nuse --allow-incomplete to compare what is known", strings.Join(doubts, "\n  "))}
			}
			diff := render.NewPolicyDiff(report, func(chain, contract string) audit.Policy { return policies[[2]string{chain, contract}] })
			if err := output.show(cmd.OutOrStdout(), diff, false); err != nil {
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
	p.addTo(cmd)
	output.addTo(cmd, "`FORMAT`: text, or json as docs/policy.md describes it")
	cmd.Flags().BoolVar(&incomplete, "allow-incomplete", false, "also compare what is not proven or not complete; unknown ids may be missing")
	return cmd
}
