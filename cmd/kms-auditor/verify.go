package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/spf13/cobra"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// verifyTimeout bounds what a hostile file may cost. The evidence of an ordinary audit takes a second.
const verifyTimeout = time.Minute

func newVerify() *cobra.Command {
	f := &auditFlags{}
	var output format
	var timeout time.Duration
	var checkpoints []string
	cmd := &cobra.Command{
		Use:   "verify EVIDENCE",
		Short: "Judge an audit again from its evidence, offline",
		Long: "Prove and judge an audit again from the evidence that it wrote, without a network. What was checked and what\n" +
			"remains trusted goes to stderr, the report that comes out to stdout.\n\n" +
			"Exit codes: 0 consistent, 1 drift, 3 unknown, or it took longer than --timeout; 4 the evidence does not hold;\n" +
			"2 usage, or the file cannot be read.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout <= 0 {
				return fmt.Errorf("--timeout %s is not positive", timeout)
			}
			var roots []common.Hash
			for _, text := range checkpoints {
				root, err := sanitize.ParseID(text)
				if err != nil {
					return fmt.Errorf("--checkpoint %w", err)
				}
				roots = append(roots, root)
			}
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), timeout, fmt.Errorf("the --timeout of %s passed", timeout))
			defer cancel()
			result, err := verify(ctx, args[0], roots)
			if err != nil {
				return err
			}
			if err := printf(cmd.ErrOrStderr(), "%s", sentences(result)); err != nil {
				return err
			}
			to := outputs{{kind: string(output)}}
			if err := to.write(cmd.Context(), result.Report, cmd.OutOrStdout(), view{wide: f.wide}); err != nil {
				return &exitError{exitUnknown, err}
			}
			return f.exit(result.Verdict())
		},
	}
	output.addTo(cmd, "text or json")
	fs := cmd.Flags()
	fs.StringArrayVar(&checkpoints, "checkpoint", nil, "the root (`0xROOT`) of a finalized beacon block that you trust, one for each anchored chain: evidence that starts at another one does not hold (repeatable)")
	fs.DurationVar(&timeout, "timeout", verifyTimeout, "give up after this long")
	fs.BoolVar(&f.exitCode, "exit-code", true, "with =false: exit 0 whatever the verdict")
	fs.BoolVar(&f.allowUnverifiable, "allow-unverifiable", false, "exit 0 when the verdict is unknown")
	fs.BoolVar(&f.wide, "wide", false, "print ids whole in the text report")
	return cmd
}

func verify(ctx context.Context, path string, checkpoints []common.Hash) (*evidence.Result, error) {
	var file *evidence.File
	var result *evidence.Result
	err := await(ctx, path, func() error {
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		file, err = evidence.Decode(in)
		return err
	})
	code := exitUsage
	if err == nil {
		result, err = evidence.Verify(ctx, file, checkpoints)
		code = exitUnknown
	}
	if errors.Is(err, evidence.ErrRefuted) {
		code = exitRefuted
	}
	return result, exitWith(code, err)
}

// sentences say what was checked, what remains trusted, and what today's rules judge otherwise.
func sentences(r *evidence.Result) string {
	var b strings.Builder
	list := func(heading string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(&b, "%s:\n  %s\n", heading, strings.Join(lines, "\n  "))
		}
	}
	list("Checked", r.Checked)
	list("Trusted, as the file has it", r.Trusted)
	list(fmt.Sprintf("By the rules of %d: %s; by today's (%d): %s. The exit code is that of the worse", r.Rules, r.Reported, audit.Rules, r.Report.Verdict), r.Differences)
	return b.String()
}
