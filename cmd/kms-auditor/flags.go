package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

// format is the -o of the commands that print their result as text or as JSON.
type format string

// addTo gives a command and its subcommands the flag. They do not run with another format.
func (f *format) addTo(cmd *cobra.Command, usage string) {
	cmd.PersistentFlags().StringVarP((*string)(f), "output", "o", "text", usage)
	cmd.PersistentPreRunE = func(*cobra.Command, []string) error {
		if *f != "text" && *f != "json" {
			return fmt.Errorf("--output %q is neither text nor json", *f)
		}
		return nil
	}
}

func (f format) show(w io.Writer, a render.Answer) error {
	return exitWith(exitUnknown, render.Show(w, a, f == "json"))
}

// targetFlags narrows a command to one chain and one contract.
type targetFlags struct {
	*global
	state.Filter        // choose fills in its Contract
	contract     string // as it was given
}

func (p *targetFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.Chain, "chain", "", "only this configured chain (`NAME`)")
	cmd.Flags().StringVar(&p.contract, "contract", "", "only this contract (`ADDRESS`)")
}

// choose reads the configuration, and checks that what the flags name is in it. A configuration without a state is an error
// that says stateless, unless that is empty.
func (p *targetFlags) choose(ctx context.Context, stateless string) (cfg *config.Config, err error) {
	if cfg, err = p.load(ctx); err != nil {
		return nil, err
	}
	if p.contract != "" {
		if p.Contract, err = sanitize.ParseAddress(p.contract); err != nil {
			return nil, fmt.Errorf("--contract: %w", err)
		}
	}
	if p.Chain != "" && !slices.Contains(chainNames(cfg), p.Chain) {
		return nil, fmt.Errorf("--chain %q is not configured", p.Chain)
	}
	if cfg.State == "" && stateless != "" {
		return nil, &exitError{exitUsage, errors.New(stateless)}
	}
	return cfg, nil
}

// onceFlags are the flags of a command that audits once and prints a part of the report.
type onceFlags struct {
	targetFlags
	block string
}

func (p *onceFlags) flags(cmd *cobra.Command) {
	p.targetFlags.flags(cmd)
	cmd.Flags().StringVar(&p.block, "block", "", "block `POLICY` instead of the configured ones: finalized, safe, latest, latest-N, a number or a 0x hash")
}

// audit audits once, and keeps nothing of it. With --contract, the report has no other.
func (p *onceFlags) audit(cmd *cobra.Command, cfg *config.Config) (*audit.Report, error) {
	f := &auditFlags{global: p.global, block: p.block}
	if p.Chain != "" {
		f.chains = []string{p.Chain}
	}
	if err := f.applyFlags(cfg, cmd.Flags().Changed("block")); err != nil {
		return nil, err
	}
	if p.Contract != (common.Address{}) {
		if len(cfg.Chains) > 1 {
			return nil, errors.New("--contract needs --chain: the same address on another chain is another contract")
		}
		// It need not be configured.
		c := &cfg.Chains[0]
		c.Contracts = slices.DeleteFunc(c.Contracts, func(c config.Contract) bool { return c.Address != p.Contract })
		if len(c.Contracts) == 0 {
			c.Contracts = []config.Contract{{Address: p.Contract}}
		}
	}
	cfg.State = "" // the daemon may hold the lock, and an audit of an old block must not change the state
	// The report says what the log says below errors.
	d, report, err := p.auditOnce(cmd, cfg, zap.ErrorLevel, false)
	if err != nil {
		return nil, err
	}
	d.Close()
	for i := range report.Chains {
		c := &report.Chains[i]
		c.Targets = slices.DeleteFunc(c.Targets, func(t audit.Target) bool { return p.Contract != common.Address{} && t.Contract != p.Contract.Hex() })
	}
	return report, nil
}
