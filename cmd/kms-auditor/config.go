package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/daemon"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/web"
)

func newConfig(g *global) *cobra.Command {
	return group(&cobra.Command{Use: "config", Short: "Write or check a configuration"}, newConfigCheck(g), newConfigInit())
}

func newConfigCheck(g *global) *cobra.Command {
	var online bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and report every problem",
		Long: "Report every problem of the configuration at once, by line and key.\n" +
			"With --online, also ask every source: the API about each chain, each provider for its chain id and block,\n" +
			"each beacon API for what it finalized, and with cross_checks the API for its list of KMS.\n\n" +
			"Exit codes: 0 valid, 2 usage or configuration, 3 a source cannot be used.",
		Example: "  kms-auditor config check -c auditor.yaml --online",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := g.load(cmd.Context())
			if err != nil {
				return err
			}
			past := remembered(cfg)
			cfg.State = "" // a daemon may hold the lock, and nothing is stored here
			a, err := daemon.New(cfg, daemon.Options{Build: build(), Log: zap.NewNop()})
			if err != nil {
				return &exitError{exitUsage, err}
			}
			defer a.Close()
			if err := g.checkWeb(cmd.Context(), cfg); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if err := printf(out, "%s is valid: it audits %s on schedule %q in %s\n", g.named(), strings.Join(chainNames(cfg), ", "), cfg.Schedule, cfg.Timezone); err != nil || !online {
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
				return &exitError{exitUnknown, errors.New("some sources cannot be used: see the lines that begin with FAILED")}
			}
			return unwritten
		},
	}
	cmd.Flags().BoolVar(&online, "online", false, "also ask every source")
	return cmd
}

func chainNames(cfg *config.Config) (names []string) {
	for _, c := range cfg.Chains {
		names = append(names, c.Name)
	}
	return names
}

// configured reports an error if a chain is not in the configuration.
func (g *global) configured(cfg *config.Config, chain string) error {
	names := chainNames(cfg)
	if slices.Contains(names, chain) {
		return nil
	}
	return fmt.Errorf("--chain %q is not in %s, which has %s%s", chain, g.named(), strings.Join(names, ", "), didYouMean(nearest(chain, names), ""))
}

// named says which configuration applies.
func (g *global) named() string {
	if g.config == "" {
		return "the built-in configuration"
	}
	return "configuration " + sanitize.Quote(g.config)
}

// checkWeb checks the file of web.config_file, which config.Load does not read. It must be a regular file: the toolkit reads it for
// every request, and would take an exhausted pipe for a file that asks for no password.
func (g *global) checkWeb(ctx context.Context, cfg *config.Config) error {
	path := cfg.Web.ConfigFile
	err := await(ctx, path, func() error { return web.Check(path) })
	if info, missing := os.Stat(path); missing == nil && !info.Mode().IsRegular() {
		err = errors.New("it is read more than once, so it must be a regular file")
	}
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("%s: web.config_file: %w", g.named(), err)}
	}
	return nil
}

// load reads the configuration. Its errors exit with exitUsage.
func (g *global) load(ctx context.Context) (*config.Config, error) {
	var cfg *config.Config
	err := await(ctx, g.config, func() (err error) {
		cfg, err = config.Load(g.config)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w%s", err, missingFile(g.config, "kms-auditor config init FILE writes one, and without --config the built-in one applies"))
	}
	if err != nil {
		return nil, &exitError{exitUsage, err} // cfg may still be written to
	}
	return cfg, nil
}
