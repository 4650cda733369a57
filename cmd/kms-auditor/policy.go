package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

func newPolicy(g *global) *cobra.Command {
	return group(&cobra.Command{Use: "policy", Short: "Work with the operator's policy"}, "snapshot", newPolicySnapshot(g))
}

// pick narrows a command to one chain and one contract.
type pick struct{ chain, contract string }

func (p *pick) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.chain, "chain", "", "only this configured chain (`NAME`)")
	cmd.Flags().StringVar(&p.contract, "contract", "", "only this contract (`ADDRESS`)")
}

// filter chooses what the flags name.
func (p *pick) filter(cfg *config.Config) (f state.Filter, err error) {
	if p.contract != "" {
		if f.Contract, err = sanitize.ParseAddress(p.contract); err != nil {
			return f, fmt.Errorf("--contract: %w", err)
		}
	}
	if f.Chain = p.chain; p.chain != "" && !slices.Contains(chainNames(cfg), p.chain) {
		return f, fmt.Errorf("--chain %q is not configured", p.chain)
	}
	return f, nil
}

// pinned is an audit for what its report says of the chain, at the block that is asked for.
type pinned struct {
	pick
	block string
}

func (p *pinned) flags(cmd *cobra.Command) {
	p.pick.flags(cmd)
	cmd.Flags().StringVar(&p.block, "block", "", "block `POLICY` instead of the configured ones: finalized, safe, latest, latest-N, a number or a 0x hash")
}

// audit audits once, and keeps nothing of it. With a contract, the report has no other.
func (p *pinned) audit(cmd *cobra.Command, g *global, cfg *config.Config) (*audit.Report, error) {
	filter, err := p.filter(cfg)
	if err != nil {
		return nil, err
	}
	contract := filter.Contract
	f := &auditFlags{global: g, block: p.block}
	if p.chain != "" {
		f.chains = []string{p.chain}
	}
	if err := f.narrow(cfg, cmd.Flags().Changed("block")); err != nil {
		return nil, err
	}
	if contract != (common.Address{}) {
		if len(cfg.Chains) > 1 {
			return nil, errors.New("--contract needs --chain: the same address on another chain is another contract")
		}
		// It need not be configured.
		c := &cfg.Chains[0]
		c.Contracts = slices.DeleteFunc(c.Contracts, func(c config.Contract) bool { return c.Address != contract })
		if len(c.Contracts) == 0 {
			c.Contracts = []config.Contract{{Address: contract}}
		}
	}
	cfg.State = "" // the daemon may hold it, and what is asked of the past is none of its memory
	// The report says what the log says below errors.
	d, report, err := g.auditOnce(cmd, cfg, zap.ErrorLevel, false)
	if err != nil {
		return nil, err
	}
	d.Close()
	if contract != (common.Address{}) {
		for i := range report.Chains {
			c := &report.Chains[i]
			c.Targets = slices.DeleteFunc(c.Targets, func(t audit.Target) bool { return t.Contract != contract.Hex() })
		}
	}
	return report, nil
}

func newPolicySnapshot(g *global) *cobra.Command {
	p := &pinned{}
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
			cfg, err := g.load(cmd.Context())
			if err != nil {
				return err
			}
			report, err := p.audit(cmd, g, cfg)
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
