package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newMan writes the manual pages, for who packages the program. Their date is that of SOURCE_DATE_EPOCH, else today's.
func newMan() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages, one for each command, into a folder",
		Args:   cobra.ExactArgs(1),
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := os.MkdirAll(args[0], 0o755)
			if err == nil {
				cmd.Root().DisableAutoGenTag = true
				err = writePages(cmd.Context(), cmd.Root(), args[0])
			}
			if err != nil {
				return &exitError{exitUsage, fmt.Errorf("writing the manual: %w", err)}
			}
			return nil
		},
	}
}

func writePages(ctx context.Context, cmd *cobra.Command, dir string) error {
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && !sub.IsAdditionalHelpTopicCommand() {
			if err := writePages(ctx, sub, dir); err != nil {
				return err
			}
		}
	}
	header := &doc.GenManHeader{Section: "1", Source: "kms-auditor " + build().Version, Manual: "kms-auditor"}
	path := filepath.Join(dir, strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".1")
	return replace(ctx, path, func(w io.Writer) error { return doc.GenMan(cmd, header, w) })
}
