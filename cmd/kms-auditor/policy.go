package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

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
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, f, err := p.choose(cmd.Context(), "")
			if err != nil {
				return err
			}
			report, err := p.audit(cmd, cfg, f.Contract)
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
