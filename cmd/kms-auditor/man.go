package main

import (
	"fmt"
	"os"

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
				header := &doc.GenManHeader{Section: "1", Source: "kms-auditor " + build().Version, Manual: "kms-auditor"}
				err = doc.GenManTree(cmd.Root(), header, args[0])
			}
			if err != nil {
				return &exitError{exitUsage, fmt.Errorf("writing the manual: %w", err)}
			}
			return nil
		},
	}
}
