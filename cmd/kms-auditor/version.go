package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/kms-auditor/kms-auditor/metrics"
)

// version and revision are stamped by the linker (-X main.version=…); otherwise the module's build information has them.
var version, revision string

func build() metrics.Build {
	module, commit := "", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		module = info.Main.Version
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = s.Value
			}
		}
	}
	return metrics.Build{
		Version:   cmp.Or(version, module, "(devel)"),
		Revision:  cmp.Or(revision, commit, "unknown"),
		GoVersion: runtime.Version(),
	}
}

func newVersion() *cobra.Command {
	var output format
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print version, revision and Go version",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := build()
			if output == "json" {
				line, err := json.Marshal(map[string]string{"version": b.Version, "revision": b.Revision, "goversion": b.GoVersion})
				if err != nil {
					return err
				}
				return printf(cmd.OutOrStdout(), "%s\n", line)
			}
			return printf(cmd.OutOrStdout(), "%s\n", b)
		},
	}
	output.addTo(cmd, "`FORMAT`: text or json")
	return cmd
}

// newMan writes the manual pages for a release. Their date is that of SOURCE_DATE_EPOCH, or today's.
func newMan() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages into a folder",
		Args:   oneArg("the folder"),
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := os.MkdirAll(args[0], 0o755)
			if err == nil {
				cmd.Root().DisableAutoGenTag = true
				header := &doc.GenManHeader{Section: "1", Source: "kms-auditor " + build().Version, Manual: "kms-auditor"}
				err = doc.GenManTree(cmd.Root(), header, args[0])
			}
			if err != nil {
				err = fmt.Errorf("writing the manual: %w", err)
			}
			return exitWith(exitUsage, err)
		},
	}
}
