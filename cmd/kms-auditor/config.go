package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/daemon"
	"github.com/kms-auditor/kms-auditor/internal/web"
)

func newConfig(g *global) *cobra.Command {
	var online bool
	check := &cobra.Command{
		Use:   "check",
		Short: "Report every problem of the configuration at once",
		Long: "Report every problem of the configuration at once, each by line and key path.\n" +
			"With --online every source is asked too: the API for each chain, each provider for its chain id and block,\n" +
			"and each beacon API, from the checkpoint or from the root that audits verified last.\n" +
			"With cross_checks the API's list of KMS is asked for as well.\n\n" +
			"Exits 0 when all is well, 2 on a bad configuration, 3 when a source could not be used.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := g.load(cmd.Context())
			if err != nil {
				return err
			}
			past := remembered(cfg)
			cfg.State = "" // the daemon may hold it, and nothing is kept here
			a, err := daemon.New(cfg, daemon.Options{Build: build(), Log: zap.NewNop()})
			if err != nil {
				return &exitError{exitUsage, err}
			}
			defer a.Close()
			if err := checkWeb(cmd.Context(), cfg); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if err := printf(out, "the configuration is valid: it audits %s on schedule %q in %s\n", strings.Join(chainNames(cfg), ", "), cfg.Schedule, cfg.Timezone); err != nil || !online {
				return err
			}
			var unwritten error
			err = a.Check(cmd.Context(), past, func(chain, source string, err error) {
				line := fmt.Sprintf("ok      %s %s\n", chain, source)
				if err != nil {
					line = fmt.Sprintf("FAILED  %s %s: %v\n", chain, source, err)
				}
				unwritten = errors.Join(unwritten, printf(out, "%s", line))
			})
			if err != nil {
				return &exitError{exitUnknown, errors.New("not every source can be used")}
			}
			return unwritten
		},
	}
	check.Flags().BoolVar(&online, "online", false, "also ask every source")
	return group(&cobra.Command{Use: "config", Short: "Work with the configuration"}, "check", check)
}

func chainNames(cfg *config.Config) (names []string) {
	for _, c := range cfg.Chains {
		names = append(names, c.Name)
	}
	return names
}

// checkWeb reads the file behind web.config_file, which config.Load leaves to the toolkit that serves by it. The toolkit
// reads it for every request: from a pipe that has run dry, it would take that nobody needs a password.
func checkWeb(ctx context.Context, cfg *config.Config) error {
	path := cfg.Web.ConfigFile
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return &exitError{exitUsage, errors.New("web.config_file: it is read again and again, and must be a regular file")}
	}
	if err := await(ctx, path, func() error { return web.Check(path) }); err != nil {
		return &exitError{exitUsage, fmt.Errorf("web.config_file: %w", err)}
	}
	return nil
}

// load reads the configuration; its errors exit with exitUsage.
func (g *global) load(ctx context.Context) (*config.Config, error) {
	var cfg *config.Config
	err := await(ctx, g.config, func() (err error) {
		cfg, err = config.Load(g.config)
		return err
	})
	if err != nil {
		return nil, &exitError{exitUsage, err} // cfg may still be written to
	}
	return cfg, nil
}
