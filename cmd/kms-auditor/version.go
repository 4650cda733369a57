package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/kms-auditor/kms-auditor/metrics"
)

// version and revision are stamped by the linker (-X main.version=…); otherwise the module's build information tells.
var version, revision string

func build() metrics.Build {
	b := metrics.Build{Version: version, Revision: revision, GoVersion: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	if b.Version == "" {
		b.Version = "(devel)"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && b.Revision == "" {
			b.Revision = s.Value
		}
	}
	if b.Revision == "" {
		b.Revision = "unknown"
	}
	return b
}

func newVersion() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print version, revision and Go version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := build()
			switch output {
			case "text":
				return printf(cmd.OutOrStdout(), "kms-auditor %s, revision %s, %s\n", b.Version, b.Revision, b.GoVersion)
			case "json":
				line, err := json.Marshal(map[string]string{"version": b.Version, "revision": b.Revision, "goversion": b.GoVersion})
				if err != nil {
					return err
				}
				return printf(cmd.OutOrStdout(), "%s\n", line)
			}
			return fmt.Errorf("--output %q is neither text nor json", output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}
