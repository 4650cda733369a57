package main

import (
	"cmp"
	"encoding/json"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

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
