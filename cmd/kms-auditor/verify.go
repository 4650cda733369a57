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

// verifyTimeout bounds the cost of a hostile file. Ordinary evidence takes a second.
const verifyTimeout = time.Minute

func newVerify() *cobra.Command {
	f := &auditFlags{}
	var output format
	var timeout time.Duration
	var checkpoints []string
	cmd := &cobra.Command{
		Use:   "verify EVIDENCE",
		Short: "Prove and judge an audit again, offline",
		Long: "Prove and judge an audit again from its evidence, without a network. What was checked, and what remains trusted, goes\n" +
			"to stderr; the report goes to stdout.\n\n" +
			"Exit codes: 0 consistent, 1 drift, 3 unknown, or --timeout passed; 4 the evidence does not hold; 2 usage, or a file\n" +
			"that cannot be read or that needs a newer release.",
		Example: "  kms-auditor verify evidence.json.gz\n" +
			"  kms-auditor verify evidence.json.gz --checkpoint 0x… -o json",
		Args: oneArg("a file that kms-auditor audit --once --evidence FILE wrote"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout <= 0 {
				return fmt.Errorf("--timeout %s must be more than zero", timeout)
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
			if err := printf(cmd.ErrOrStderr(), "%s", summary(result)); err != nil {
				return err
			}
			to := outputs{{kind: string(output)}}
			if err := to.write(cmd.Context(), result.Report, cmd.OutOrStdout(), view{wide: f.wide}); err != nil {
				return &exitError{exitUnknown, err}
			}
			return f.exit(result.Verdict())
		},
	}
	output.addTo(cmd, "`FORMAT`: text or json")
	fs := cmd.Flags()
	fs.StringArrayVar(&checkpoints, "checkpoint", nil, "`0xROOT` of a finalized beacon block that you trust (repeatable, one for each anchored chain): evidence that starts elsewhere does not hold")
	fs.DurationVar(&timeout, "timeout", verifyTimeout, "give up after this long")
	fs.BoolVar(&f.exitCode, "exit-code", true, "with =false: exit 0 whatever the verdict")
	fs.BoolVar(&f.allowUnverifiable, "allow-unverifiable", false, "exit 0 if the verdict is unknown")
	fs.BoolVar(&f.wide, "wide", false, "print all columns and whole ids, however narrow the terminal")
	return cmd
}

func verify(ctx context.Context, path string, checkpoints []common.Hash) (*evidence.Result, error) {
	var file *evidence.File
	var result *evidence.Result
	err := await(ctx, path, func() error {
		in, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("reading the evidence %s: %w: give a file that kms-auditor audit --once --evidence FILE wrote", sanitize.Quote(path), cause(err))
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
	switch {
	case errors.Is(err, evidence.ErrRefuted):
		code = exitRefuted
	case errors.Is(err, evidence.ErrUnsupported):
		code = exitUsage
	}
	return result, exitWith(code, err)
}

// summary lists what was checked, what remains trusted, and what today's rules judge otherwise.
func summary(r *evidence.Result) string {
	var b strings.Builder
	list := func(heading, mark string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(&b, "%s:\n", heading)
		}
		for _, line := range lines {
			fmt.Fprintf(&b, "  %s %s\n", mark, line)
		}
	}
	list("Checked", "ok", r.Checked)
	list("Trusted, because the evidence cannot prove it", "- ", r.Trusted)
	list(fmt.Sprintf("By the rules of %d: %s; by today's (%d): %s. The worse verdict gives the exit code", r.Rules, r.Reported, audit.Rules, r.Report.Verdict), "- ", r.Differences)
	return b.String() + "\n"
}
