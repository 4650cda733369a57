// Command kms-auditor compares what Phala Cloud's API claims about dstack KMS contracts with what the contracts say, and
// keeps evidence.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"
)

// Exit codes. Usage and configuration errors of every command exit with exitUsage.
const (
	exitDrift    = 1
	exitServe    = 1 // the daemon cannot serve
	exitSelftest = 1
	exitNothing  = 1 // no audit has seen the contract
	exitDiffers  = 1 // a policy differs from the chain
	exitUsage    = 2
	exitUnknown  = 3
	exitRefuted  = 4 // the evidence does not hold
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	// The garbage collector respects the container's memory limit. Most memory holds registered apps, for as long as an audit runs.
	_, _ = memlimit.Set() // without a limit there is nothing to set
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
	cmd, err := root, singleDash(root, args)
	if err == nil {
		cmd, err = root.ExecuteContextC(ctx)
	}
	var exit *exitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &exit):
		exit = &exitError{exitUsage, err}
		defer fmt.Fprintf(stderr, "Run %s --help for usage.\n", cmd.CommandPath())
	}
	if exit.err != nil {
		fmt.Fprintf(stderr, "kms-auditor: %v\n", exit.err)
	}
	return exit.code
}

// exitError ends the program with a code. A nil err prints no message.
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

// global holds the flags that every command has.
type global struct {
	config, logLevel, logFormat string
}

// newRoot returns the whole command tree.
func newRoot() *cobra.Command {
	g := &global{}
	root := group(&cobra.Command{
		Use:   "kms-auditor",
		Short: "Compare Phala Cloud's KMS claims with the chain",
		Long: "Compare what Phala Cloud's API claims about dstack KMS contracts with what the contracts say.\n" +
			"Documentation: https://github.com/kms-auditor/kms-auditor/tree/main/docs",
		Example: "  kms-auditor audit --once           audit Base and Ethereum once, over public endpoints\n" +
			"  kms-auditor config init my.yaml    write a configuration to begin with\n" +
			"  kms-auditor audit -c my.yaml       audit on schedule and serve metrics and a status page",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       build().String(),
	}, newAnchor(g), newAudit(g), newBaseline(g), newConfig(g), newExplain(g), newForget(g), newHistory(g), newKMS(g), newPolicy(g), newSelftest(), newVerify(), newVersion())
	f := root.PersistentFlags()
	f.StringVarP(&g.config, "config", "c", os.Getenv("KMS_AUDITOR_CONFIG"), "configuration `FILE` (env KMS_AUDITOR_CONFIG; default: built in)")
	f.StringVar(&g.logLevel, "log.level", "info", "`LEVEL`: debug, info, warn or error")
	f.StringVar(&g.logFormat, "log.format", "", "`FORMAT`: json or console (default json; console for one audit on a terminal or in CI)")
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	complete(root, "log.level", logLevels...)
	complete(root, "log.format", logFormats...)
	return root
}

// printf writes a command's result. A failed write must not end in exit code 0.
func printf(w io.Writer, format string, args ...any) error {
	if _, err := fmt.Fprintf(w, format, args...); err != nil {
		return &exitError{exitUnknown, fmt.Errorf("writing the result: %w", err)}
	}
	return nil
}

// group makes a command of its subcommands: to name none of them is an error.
func group(cmd *cobra.Command, subs ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(subs...)
	cmd.Args = noArgs
	// Exit code 0 would read as success in a script that lost the subcommand.
	cmd.RunE = func(*cobra.Command, []string) error {
		what := "a command is missing"
		if cmd.HasParent() {
			what = cmd.Name() + " needs a command"
		}
		return fmt.Errorf("%s: %s", what, strings.Join(subcommands(cmd), ", "))
	}
	return cmd
}
