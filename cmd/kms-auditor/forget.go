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
		Long: "Stop auditing a contract that an earlier audit knew and that is retired: its open findings are closed, and the\n" +
			"history says who closed them and when. A contract that is configured, or that the API still lists, is audited again.\n" +
			"If a daemon has the state file open, it is asked to do so at the beginning of its next audit.\n\n" +
			"Exit codes: 0 done, 2 usage, configuration, or a contract that is configured or that no audit knows.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if p.Chain == "" || p.contract == "" {
				return errors.New("forget needs --chain and --contract")
			}
			cfg, err := p.choose(cmd.Context(), "no state is configured: without a state file nothing is remembered")
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
	p.flags(cmd)
	return cmd
}

// operator names who runs the command, for the history.
func operator() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return cmp.Or(os.Getenv("USER"), "unknown")
}

// request has requests carried out, at once or by the process that has the state open, and says which.
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
