package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
)

func newVerify() *cobra.Command {
	f := &auditFlags{}
	var output string
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Derive a report again from its evidence, offline",
		Long: "Derive the report of an audit again from the evidence that audit --evidence or evidence_dir wrote, without a\n" +
			"network, and print it. What the evidence does not prove is believed, which a line on stderr says.\n\n" +
			"Exit codes: 0 consistent, 1 drift, 2 the file does not hold, or usage, 3 unknown.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("--output %q is neither text nor json", output)
			}
			report, err := verify(cmd.Context(), args[0], cmd.ErrOrStderr())
			if err != nil {
				return &exitError{exitUsage, err}
			}
			to := outputs{{kind: output}}
			if err := to.write(cmd.Context(), report, cmd.OutOrStdout(), view{wide: f.wide}); err != nil {
				return &exitError{exitUnknown, err}
			}
			return f.exit(report.Verdict)
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&output, "output", "o", "text", "text or json")
	fs.BoolVar(&f.exitCode, "exit-code", true, "with =false: exit 0 whatever the verdict")
	fs.BoolVar(&f.allowUnverifiable, "allow-unverifiable", false, "exit 0 when the verdict is unknown")
	fs.BoolVar(&f.wide, "wide", false, "print ids whole in the text report")
	return cmd
}

// verify reads and verifies the file, and says what of it is only believed.
func verify(ctx context.Context, path string, stderr io.Writer) (*audit.Report, error) {
	var file *evidence.File
	if err := await(ctx, path, func() error {
		b, err := os.Open(path)
		if err != nil {
			return err
		}
		defer b.Close()
		file, err = evidence.Decode(b)
		return err
	}); err != nil {
		return nil, err
	}
	report, believed, err := evidence.Verify(ctx, file)
	if err != nil {
		return nil, err
	}
	var lines bytes.Buffer
	for _, s := range believed {
		fmt.Fprintf(&lines, "kms-auditor: %s\n", s)
	}
	return report, printf(stderr, "%s", lines.String())
}
