package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

func newKMSAppIDs(f *kmsFlags) *cobra.Command {
	var (
		counts int
		yes    bool
	)
	cmd := &cobra.Command{
		Use:   "next-app-ids",
		Short: "Reserve app ids on the server (nextAppIds)",
		Long: "Reserve app ids of the off-chain KMS on the server (nextAppIds). No other command changes anything on a server.\n" +
			"It asks first on a terminal, and needs --yes elsewhere. It sends one request and never repeats it.",
		Args: noArgs,
	}
	reserve := func(ctx context.Context, c *kmsapi.Client, _ []string) (render.Answer, error) {
		ids, err := c.NextAppIDs(ctx, counts)
		if err != nil {
			return nil, err
		}
		if len(ids) != counts {
			err = fmt.Errorf("the API reserved %d app ids, not %d", len(ids), counts)
		}
		return render.NewAppIDs(ids), err
	}
	check := func(cmd *cobra.Command) error {
		if counts < 1 || counts > kmsapi.MaxAppIDs {
			return fmt.Errorf("--counts %d must be from 1 to %d", counts, kmsapi.MaxAppIDs)
		}
		if yes {
			return nil
		}
		return confirm(cmd.InOrStdin(), cmd.ErrOrStderr(), counts)
	}
	cmd.RunE = f.run(reserve, check)
	cmd.Flags().IntVar(&counts, "counts", 1, "how many ids, `N` from 1 to 20")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// confirm asks on the terminal. An error means that nothing is to be reserved.
func confirm(in io.Reader, stderr io.Writer, counts int) error {
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || !isTerminal(stderr) {
		return errors.New("next-app-ids reserves ids on the server: without a terminal it needs --yes")
	}
	fmt.Fprintf(stderr, "Reserve %d app ids on the server? They are not given back. [y/N] ", counts)
	signal.Reset(os.Interrupt, syscall.SIGTERM) // nothing was started, and a read from a terminal cannot be cancelled
	answer, err := bufio.NewReader(f).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return &exitError{exitUsage, fmt.Errorf("reading the answer: %w", err)}
	}
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return &exitError{exitUsage, errors.New("nothing was reserved")}
	}
	return nil
}
