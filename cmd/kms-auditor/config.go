package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/internal/app"
	"github.com/kms-auditor/kms-auditor/internal/config"
)

func newConfig(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Work with the configuration",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return errors.New("config needs a subcommand: check") },
	}
	cmd.AddCommand(newConfigCheck(g))
	return cmd
}

func newConfigCheck(g *global) *cobra.Command {
	var online bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Report every problem of the configuration at once",
		Long: "Report every problem of the configuration at once, each by line and key path.\n" +
			"With --online every source is asked too: the API for each chain, and each provider for its chain id and block.\n\n" +
			"Exits 0 when all is well, 2 on a bad configuration, 3 when a source could not be used.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := g.load()
			if err != nil {
				return err
			}
			a, err := app.New(cfg, app.Options{Build: build(), Log: zap.NewNop()})
			if err != nil {
				return &exitError{exitUsage, err}
			}
			defer a.Close()
			out := cmd.OutOrStdout()
			providers := 0
			for _, c := range cfg.Chains {
				providers += len(c.Providers)
			}
			fmt.Fprintf(out, "configuration is valid: %d chains, %d providers, schedule %q in %s\n", len(cfg.Chains), providers, cfg.Schedule, cfg.Timezone)
			if !online {
				return nil
			}
			err = a.Check(cmd.Context(), func(chain, source string, err error) {
				if err != nil {
					fmt.Fprintf(out, "FAILED  %s %s: %v\n", chain, source, err)
					return
				}
				fmt.Fprintf(out, "ok      %s %s\n", chain, source)
			})
			if err != nil {
				return &exitError{exitUnknown, errors.New("not every source can be used")}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&online, "online", false, "also ask every source")
	return cmd
}

// load reads the configuration; its errors exit with exitUsage.
func (g *global) load() (*config.Config, error) {
	cfg, err := config.Load(g.config)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return cfg, nil
}
