package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

func newConfigInit() *cobra.Command {
	a := config.Answers{}
	cmd := &cobra.Command{
		Use:   "init FILE",
		Short: "Write a commented configuration to begin with",
		Long: "Write a configuration with a comment for each key to FILE, or to stdout for -. Without flags it asks three questions on\n" +
			"the terminal: which chain, which contract, and where to read the chain. It never overwrites a file.\n\n" +
			"Exit codes: 0 written, 2 usage, or the file exists, 3 it cannot be written.",
		Example: "  kms-auditor config init auditor.yaml\n" +
			"  kms-auditor config init auditor.yaml --chain base --contract 0x2f83… --provider https://…",
		Args: oneArg("the file to write, or - for stdout"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path := args[0]
		if _, err := os.Lstat(path); path != "-" && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s exists or cannot be created: name another file", sanitize.Quote(path))
		}
		if a.Chain == "" {
			if err := askAnswers(cmd.InOrStdin(), cmd.ErrOrStderr(), &a); err != nil {
				return err
			}
		}
		if !config.BuiltIn(a.Chain) && (a.ChainID == 0 || a.Provider == "") {
			return fmt.Errorf("chain %s is not built in: give its --chain-id and a --provider", sanitize.Quote(a.Chain))
		}
		text, err := config.Starter(a, config.Env{Dir: filepath.Dir(path), Lookup: os.LookupEnv})
		if err != nil {
			return fmt.Errorf("these values make no valid configuration: %w", err)
		}
		if path == "-" {
			return printf(cmd.OutOrStdout(), "%s", text)
		}
		// Only the owner may read it: a provider's URL may hold a key.
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return &exitError{exitUnknown, fmt.Errorf("writing %s: %w", sanitize.Quote(path), cause(err))}
		}
		_, err = f.Write(text)
		if err = errors.Join(err, f.Close()); err != nil {
			return &exitError{exitUnknown, fmt.Errorf("writing %s: %w", sanitize.Quote(path), cause(err))}
		}
		return printf(cmd.OutOrStdout(), "%s is written. Next: kms-auditor config check --online -c %s\n", sanitize.Quote(path), sanitize.Plain(path))
	}
	fs := cmd.Flags()
	fs.StringVar(&a.Chain, "chain", "", "the API's `NAME` of the chain")
	fs.Uint64Var(&a.ChainID, "chain-id", 0, "chain id `N`; known for the built-in chains")
	fs.StringArrayVar(&a.Contracts, "contract", nil, "`ADDRESS` of a KMS contract (repeatable); default: all that the API lists")
	fs.StringVar(&a.Provider, "provider", "", "`URL` of a JSON-RPC endpoint; default: public endpoints of the built-in chains")
	fs.StringVar(&a.State, "state", "kms-auditor.state", "state `FILE`; its path starts at the configuration's folder")
	complete(cmd, "chain", chainNames(config.Default())...)
	return cmd
}

// askAnswers asks on the terminal for what no flag gave.
func askAnswers(in io.Reader, stderr io.Writer, a *config.Answers) error {
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || !isTerminal(stderr) {
		return errors.New("config init needs a terminal for its questions, or --chain NAME, and --contract and --provider as needed")
	}
	signal.Reset(os.Interrupt, syscall.SIGTERM) // a read from a terminal cannot be cancelled
	lines := bufio.NewReader(f)
	var failed error
	question := func(text string) string {
		fmt.Fprint(stderr, text+": ")
		answer, err := lines.ReadString('\n')
		if err != nil {
			failed = errors.Join(failed, &exitError{exitUsage, fmt.Errorf("reading the answer: %w", err)})
		}
		return strings.TrimSpace(answer)
	}
	if a.Chain = question("Chain, as the API calls it [base]"); a.Chain == "" {
		a.Chain = "base"
	}
	if !config.BuiltIn(a.Chain) && a.ChainID == 0 {
		id, err := strconv.ParseUint(question("Its chain id"), 10, 64)
		if err != nil && failed == nil {
			return fmt.Errorf("the chain id must be a decimal number, as in 8453")
		}
		a.ChainID = id
	}
	if len(a.Contracts) == 0 {
		if contract := question("Address of the KMS contract [all that the API lists]"); contract != "" {
			a.Contracts = []string{contract}
		}
	}
	if a.Provider == "" {
		a.Provider = question("URL of a JSON-RPC endpoint [public endpoints]")
	}
	return failed
}
