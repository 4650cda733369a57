package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/spf13/cobra"

	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/hexid"
	"github.com/kms-auditor/kms-auditor/internal/history"
	"github.com/kms-auditor/kms-auditor/internal/memory"
	"github.com/kms-auditor/kms-auditor/internal/quote"
)

// exitNothing ends a command on baselines where no audit has seen such a contract.
const exitNothing = 1

var errNothing = &exitError{exitNothing, errors.New("no audit that the state remembers has seen who controls such a contract")}

// baselineFlags are those of the baseline commands.
type baselineFlags struct {
	*global
	chain, contract, output string
}

func newBaseline(g *global) *cobra.Command {
	f := &baselineFlags{global: g}
	cmd := &cobra.Command{
		Use:   "baseline",
		Short: "Show or accept who controls the contracts",
		Long: "Show or accept who controls the contracts, and what runs there. Audits hold it against what was first seen, or last\n" +
			"accepted, and kept in the state file; owner_changed, implementation_changed and code_changed stay until the change is\n" +
			"reverted or accepted. No source is asked.\n\n" +
			"Exit codes: 0 done, 1 no audit has seen such a contract yet, 2 usage, configuration or a state that cannot be used,\n" +
			"3 the result could not be written.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("baseline needs a subcommand: show or accept")
		},
	}
	cmd.PersistentFlags().StringVar(&f.chain, "chain", "", "only contracts of this configured chain (`NAME`)")
	cmd.PersistentFlags().StringVar(&f.contract, "contract", "", "only the contract of this `ADDRESS`")
	show := &cobra.Command{
		Use:   "show",
		Short: "Show who controls the contracts by the baseline and by the last report, and what differs",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return f.show(cmd.Context(), cmd.OutOrStdout()) },
	}
	show.Flags().StringVarP(&f.output, "output", "o", "text", "text or json")
	accept := &cobra.Command{
		Use:   "accept",
		Short: "Accept who controls the contracts, as the last report saw it",
		Long: "Accept who controls the contracts, as the last report saw it: nothing newer is looked up. Look at it first, with show.\n" +
			"Where a daemon holds the state file, it is asked to, by a file beside the state: it accepts at the beginning of its\n" +
			"next audit, and logs so, or why not. What is accepted already is left as it is.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.accept(cmd.Context(), cmd.OutOrStdout()) },
	}
	cmd.AddCommand(show, accept)
	return cmd
}

// known is a contract with the name of its chain.
type known struct {
	chain string
	memory.Controlled
}

func (k known) String() string { return quote.Plain(k.chain) + " " + k.Target.Contract.Hex() }

// known reads from the state file what is known of the contracts that the flags name.
func (f *baselineFlags) known(ctx context.Context) (state string, out []known, err error) {
	cfg, err := f.load(ctx)
	if err != nil {
		return "", nil, err
	}
	var contract common.Address
	if f.contract != "" {
		if contract, err = hexid.ParseAddress(f.contract); err != nil {
			return "", nil, fmt.Errorf("--contract: %w", err)
		}
	}
	if f.chain != "" && !slices.ContainsFunc(cfg.Chains, func(c config.Chain) bool { return c.Name == f.chain }) {
		return "", nil, fmt.Errorf("--chain %q is not configured", f.chain)
	}
	if cfg.State == "" {
		return "", nil, &exitError{exitUsage, errors.New("no state is configured: baselines are kept there")}
	}
	all, err := controlled(cfg.State)
	if err != nil {
		return "", nil, err
	}
	for _, c := range cfg.Chains {
		for _, k := range all {
			if k.Target.ChainID == c.ChainID && (f.chain == "" || f.chain == c.Name) && (f.contract == "" || contract == k.Target.Contract) {
				out = append(out, known{c.Name, k})
			}
		}
	}
	if len(out) == 0 {
		return "", nil, errNothing
	}
	return cfg.State, out, nil
}

func controlled(state string) ([]memory.Controlled, error) {
	s, err := history.View(state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []memory.Controlled
	if err == nil {
		var m *memory.Memory
		if m, err = memory.New(s); err == nil {
			all, err = m.Controlled()
		}
	}
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return all, nil
}

// accept asks for what is not accepted yet, and tells of each contract what becomes of it.
func (f *baselineFlags) accept(ctx context.Context, stdout io.Writer) error {
	state, all, err := f.known(ctx)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(k known) bool { return k.Seen == nil })
	if len(all) == 0 {
		return errNothing
	}
	var fresh []known
	var wanted []memory.Request
	for _, k := range all {
		if k.Baseline != nil && k.Baseline.Accepted && k.Baseline.Control == k.Seen.Control {
			if err := printf(stdout, "%s: accepted already, at %s\n", k, k.Baseline.Since.Format(time.RFC3339)); err != nil {
				return err
			}
			continue
		}
		fresh = append(fresh, k)
		wanted = append(wanted, memory.Request{ChainID: k.Target.ChainID, Contract: k.Target.Contract, Control: k.Seen.Control, At: time.Now().UTC()})
	}
	done, err := accept(state, wanted)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	for _, k := range fresh {
		if err := printf(stdout, "%s: as of block %d, %s\n", k, k.Seen.Block.Number, done); err != nil {
			return err
		}
	}
	return nil
}

// accept has the requests applied, at once or by the process that holds the state, and says which.
func accept(state string, wanted []memory.Request) (done string, err error) {
	if len(wanted) == 0 {
		return "", nil
	}
	s, err := history.Open(state)
	var held *history.HeldError
	if errors.As(err, &held) {
		who := "another process"
		if held.PID != "" {
			who = "process " + held.PID
		}
		return who + " holds the state and is asked to accept it at the beginning of its next audit", memory.Leave(state, wanted...)
	}
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	m, err := memory.New(s)
	if err != nil {
		return "", err
	}
	for _, r := range wanted {
		err = errors.Join(err, m.Apply(r))
	}
	return "accepted", err
}
