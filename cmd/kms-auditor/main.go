// Command kms-auditor tells, with evidence, whether what Phala Cloud's API claims about a dstack KMS contract is what
// the contract says.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"
)

// The exit codes; every usage or configuration error of any command exits with exitUsage.
const (
	exitDrift    = 1
	exitServe    = 1 // of the daemon
	exitSelftest = 1
	exitNothing  = 1 // no audit has seen such a contract
	exitDiffers  = 1 // a policy, from what is on chain
	exitUsage    = 2
	exitUnknown  = 3
	exitRefuted  = 4 // the evidence does not hold
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	// A container's limit is the garbage collector's too. Most of the memory is of registered apps, and lives as long as an audit.
	_, _ = memlimit.Set() // there may be no limit
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var exit *exitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &exit):
		exit = &exitError{exitUsage, err}
		defer fmt.Fprintln(stderr, "Run it with --help for usage.")
	}
	if exit.err != nil {
		fmt.Fprintf(stderr, "kms-auditor: %v\n", exit.err)
	}
	return exit.code
}

// exitError ends the program with a code; a nil err says nothing more.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return fmt.Sprint(e.err) }
func (e *exitError) Unwrap() error { return e.err }

// exitWith makes an error end the program with a code.
func exitWith(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code, err}
}

// global holds the flags of every command.
type global struct {
	config, logLevel, logFormat string
}

func newRoot() *cobra.Command {
	g := &global{}
	root := &cobra.Command{
		Use:           "kms-auditor",
		Short:         "Audit what Phala Cloud's API claims about dstack KMS contracts against the chain",
		SilenceUsage:  true,
		SilenceErrors: true,
		// Silence with exit code 0 would read as consistent where a script lost the command.
		RunE: func(*cobra.Command, []string) error {
			return errors.New("a command is missing: anchor, audit, baseline, config, explain, forget, history, kms, policy, selftest, verify or version")
		},
	}
	f := root.PersistentFlags()
	f.StringVarP(&g.config, "config", "c", os.Getenv("KMS_AUDITOR_CONFIG"), "configuration `FILE` (or env KMS_AUDITOR_CONFIG); without one the built-in default applies")
	f.StringVar(&g.logLevel, "log.level", "info", "debug, info, warn or error")
	f.StringVar(&g.logFormat, "log.format", "json", "json or console")
	root.Version = build().String()
	root.SetVersionTemplate("{{.Version}}\n")
	root.AddCommand(newAnchor(g), newAudit(g), newBaseline(g), newConfig(g), newExplain(g), newForget(g), newHistory(g), newKMS(g), newPolicy(g), newSelftest(), newVerify(), newVersion())
	return root
}

// noArgs refuses arguments. One that is the name of a flag lacks its dashes.
func noArgs(cmd *cobra.Command, args []string) error {
	err := cobra.NoArgs(cmd, args)
	if err != nil && cmd.Flags().Lookup(args[0]) != nil {
		return fmt.Errorf("unknown argument %q: did you mean --%s?", args[0], args[0])
	}
	return err
}

// printf writes a command's result; what cannot be written must not end in exit code 0.
func printf(w io.Writer, format string, args ...any) error {
	if _, err := fmt.Fprintf(w, format, args...); err != nil {
		return &exitError{exitUnknown, fmt.Errorf("writing the result: %w", err)}
	}
	return nil
}

// group makes a command of its subcommands: without one of them it is an error.
func group(cmd *cobra.Command, names string, subcommands ...*cobra.Command) *cobra.Command {
	cmd.Args = noArgs
	// Silence with exit code 0 would read as success where a script lost the subcommand.
	cmd.RunE = func(*cobra.Command, []string) error {
		return fmt.Errorf("%s needs a subcommand: %s", cmd.Name(), names)
	}
	cmd.AddCommand(subcommands...)
	return cmd
}
