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

// addTo adds the flag to a command and its subcommands, which do not run with another format.
func (f *format) addTo(cmd *cobra.Command, usage string) {
	cmd.PersistentFlags().StringVarP((*string)(f), "output", "o", "text", usage)
	complete(cmd, "output", formats...)
	cmd.PersistentPreRunE = func(*cobra.Command, []string) error { return oneOf("--output", string(*f), formats) }
}

func (f format) show(w io.Writer, a render.Answer, wide bool) error {
	return exitWith(exitUnknown, render.Show(w, a, textOptions(w, wide), f == "json"))
}

// targetFlags narrows a command to one chain and one contract.
type targetFlags struct {
	*global
	state.Filter        // choose fills in its Contract
	contract     string // as it was given
}

// addTo adds the flags to a command and its subcommands.
func (p *targetFlags) addTo(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&p.Chain, "chain", "", "only the configured chain `NAME`")
	cmd.PersistentFlags().StringVar(&p.contract, "contract", "", "only the contract `ADDRESS`")
	completeBy(cmd, "chain", p.completed(chainNames))
	completeBy(cmd, "contract", p.completed(contractsOf))
}

// choose reads the configuration and checks the flags against it. If the command needs a state file, a configuration without
// one is an error.
func (p *targetFlags) choose(ctx context.Context, needsState bool) (cfg *config.Config, err error) {
	if cfg, err = p.load(ctx); err != nil {
		return nil, err
	}
	if p.contract != "" {
		if p.Contract, err = sanitize.ParseAddress(p.contract); err != nil {
			return nil, fmt.Errorf("--contract: %w", err)
		}
	}
	if p.Chain != "" {
		if err := p.configured(cfg, p.Chain); err != nil {
			return nil, err
		}
	}
	if cfg.State == "" && needsState {
		todo := "add the key state with its path, and run kms-auditor audit"
		if p.config == "" {
			todo = "name a configuration that has one, as kms-auditor config init FILE writes it"
		}
		return nil, &exitError{exitUsage, fmt.Errorf("%s has no state file: %s", p.named(), todo)}
	}
	return cfg, nil
}

// onceFlags are the flags of a command that audits once and prints a part of the report.
type onceFlags struct {
	targetFlags
	block string
}

func (p *onceFlags) addTo(cmd *cobra.Command) {
	p.targetFlags.addTo(cmd)
	addBlock(cmd, &p.block)
}

func addBlock(cmd *cobra.Command, block *string) {
	cmd.Flags().StringVar(block, "block", "", "read the block of `POLICY`: finalized, safe, latest, latest-N, a number or a 0x hash")
	complete(cmd, "block", blockPolicies...)
}

// audit audits once and stores nothing. With --contract, the report has only that contract.
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
			return nil, errors.New("--contract needs --chain here: several chains are configured")
		}
		// It may be a contract that is not configured.
		c := &cfg.Chains[0]
		c.Contracts = slices.DeleteFunc(c.Contracts, func(c config.Contract) bool { return c.Address != p.Contract })
		if len(c.Contracts) == 0 {
			c.Contracts = []config.Contract{{Address: p.Contract}}
		}
	}
	cfg.State = "" // the daemon may hold the lock, and an audit of an old block must not change the state
	// Below errors, the log repeats the report.
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
