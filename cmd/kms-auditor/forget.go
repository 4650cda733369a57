package main

import (
	"cmp"
	"errors"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"github.com/kms-auditor/kms-auditor/internal/daemon"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

func newForget(g *global) *cobra.Command {
	p := targetFlags{global: g}
	cmd := &cobra.Command{
		Use:   "forget",
		Short: "Stop auditing a contract that is retired",
		Long: "Stop auditing a retired contract that an earlier audit knew. Its open findings are closed, and the history shows who\n" +
			"closed them and when. A contract that is configured, or that the API still lists, is audited again.\n" +
			"If a daemon has the state file open, it does this at the beginning of its next audit.\n\n" +
			"Exit codes: 0 done, 2 usage, configuration, or a contract that is configured or that no audit knows.",
		Example: "  kms-auditor forget -c auditor.yaml --chain base --contract 0x2f83…",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if p.Chain == "" || p.contract == "" {
				return errors.New("forget needs --chain and --contract: name the contract that is retired")
			}
			cfg, err := p.choose(cmd.Context(), true)
			if err != nil {
				return err
			}
			done, err := request(cfg.State, daemon.Configured(cfg), "forget it", "forgotten", state.Request{
				Kind: state.Forget, Chain: p.Chain, Contract: p.Contract, At: time.Now().UTC(), By: operator(),
			})
			if err != nil {
				return &exitError{exitUsage, err}
			}
			return printf(cmd.OutOrStdout(), "%s %s: %s\n", p.Chain, p.Contract, done)
		},
	}
	p.addTo(cmd)
	return cmd
}

// operator names who runs the command, for the history.
func operator() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return cmp.Or(os.Getenv("USER"), "unknown")
}

// request carries out requests, or leaves them for the process that has the state open. It returns a sentence about which.
func request(path string, configured map[state.Target]bool, do, done string, wanted ...state.Request) (_ string, err error) {
	if len(wanted) == 0 {
		return "", nil
	}
	s, err := state.Open(path)
	if held, ok := errors.AsType[*state.HeldError](err); ok {
		who := "another process"
		if held.PID != "" {
			who = "process " + held.PID
		}
		return who + " has the state open and is asked to " + do + " at the beginning of its next audit", state.Enqueue(path, wanted...)
	}
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for _, r := range wanted {
		err = errors.Join(err, s.Apply(r, configured))
	}
	return done, errors.Join(err, s.Save())
}
