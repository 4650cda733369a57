package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/daemon"
	"github.com/kms-auditor/kms-auditor/internal/state"
	"github.com/kms-auditor/kms-auditor/internal/web"
)

type auditFlags struct {
	*global
	once              bool
	chains            []string
	block             string
	outputs           []string
	exitCode          bool
	allowUnverifiable bool
	wide              bool
	listen            []string
	webConfig         string
	stateReset        bool
	evidence          string
}

// onceOnly and daemonOnly name the flags that the other mode would ignore.
var (
	onceOnly   = []string{"block", "output", "exit-code", "allow-unverifiable", "wide", "evidence"}
	daemonOnly = []string{"web.listen-address", "web.config.file"}
)

func newAudit(g *global) *cobra.Command {
	f := &auditFlags{global: g}
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Audit on schedule and serve HTTP, or --once",
		Long: "Audit on schedule, and serve a status page, metrics and the last report over HTTP.\n" +
			"With --once: audit once, print the report to stdout and logs to stderr.\n\n" +
			"Exit codes of --once: 0 consistent, 1 drift, 2 usage or configuration, 3 could not check (unknown).\n" +
			"Exit codes of the daemon: 0 after SIGINT or SIGTERM, 1 if it cannot serve, 2 on a bad configuration.",
		Example: "  kms-auditor audit --once --chain base -o text -o json=report.json\n" +
			"  kms-auditor audit --once --evidence evidence.json.gz\n" +
			"  kms-auditor audit -c auditor.yaml --web.listen-address 127.0.0.1:10726",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fs := cmd.Flags()
	fs.BoolVar(&f.once, "once", false, "audit once and exit")
	fs.StringArrayVar(&f.chains, "chain", nil, "audit only the configured chain `NAME` (repeatable)")
	addBlock(cmd, &f.block)
	fs.StringArrayVarP(&f.outputs, "output", "o", []string{"text"}, "report as `KIND[=PATH]`: text, json, sarif, junit or prom; to stdout, or atomically to a file (repeatable)")
	fs.BoolVar(&f.exitCode, "exit-code", true, "with =false: exit 0 whatever the verdict")
	fs.BoolVar(&f.allowUnverifiable, "allow-unverifiable", false, "exit 0 if the verdict is unknown")
	fs.BoolVar(&f.wide, "wide", false, "print all columns and whole ids, however narrow the terminal")
	fs.StringVar(&f.evidence, "evidence", "", "also write evidence to `FILE` for kms-auditor verify; compressed if it ends in .gz")
	fs.BoolVar(&f.stateReset, "state-reset", false, "move an unusable state file aside and begin a new one")
	fs.StringArrayVar(&f.listen, "web.listen-address", nil, "listen on `ADDR` instead of web.listen (repeatable)")
	fs.StringVar(&f.webConfig, "web.config.file", "", "`FILE` with TLS and basic auth, in the Prometheus exporter-toolkit format")
	completeBy(cmd, "chain", g.completed(chainNames))
	completeBy(cmd, "output", completeOutput)
	return cmd
}

func (f *auditFlags) run(cmd *cobra.Command) error {
	for _, name := range append(slices.Clone(onceOnly), daemonOnly...) {
		if cmd.Flags().Changed(name) && slices.Contains(onceOnly, name) != f.once {
			if f.once {
				return fmt.Errorf("--%s cannot be used with --once: only the daemon serves HTTP", name)
			}
			return fmt.Errorf("--%s goes with --once: add it", name)
		}
	}
	cfg, err := f.load(cmd.Context())
	if err != nil {
		return err
	}
	if err := f.applyFlags(cfg, cmd.Flags().Changed("block")); err != nil {
		return err
	}
	var to outputs
	if f.once {
		if to, err = f.places(cmd, cfg); err != nil {
			return err
		}
	}
	if f.stateReset {
		if cfg.State == "" {
			return fmt.Errorf("--state-reset: %s has no state file: add the key state with its path", f.named())
		}
		aside, err := state.ResetFile(cfg.State)
		if err != nil {
			return &exitError{exitUsage, err}
		}
		if aside != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "kms-auditor: the old state is kept as %s\n", aside)
		}
	}
	if f.once {
		return f.runOnce(cmd, cfg, to)
	}
	return f.serve(cmd.Context(), cfg, cmd.ErrOrStderr())
}

// applyFlags applies the flags to the configuration. An empty --block is an error: a shell variable may be unset.
func (f *auditFlags) applyFlags(cfg *config.Config, block bool) error {
	for _, name := range f.chains {
		if slices.ContainsFunc(cfg.Chains, func(c config.Chain) bool { return c.Anchor != nil && c.Anchor.L1Name == name }) && !slices.Contains(chainNames(cfg), name) {
			return fmt.Errorf("--chain %s serves as L1 alone: it has no contracts to audit", name)
		}
		if err := f.configured(cfg, name); err != nil {
			return err
		}
	}
	if len(f.chains) > 0 {
		cfg.Chains = slices.DeleteFunc(cfg.Chains, func(c config.Chain) bool { return !slices.Contains(f.chains, c.Name) })
	}
	if block {
		policy, err := ethrpc.ParseBlockTag(f.block)
		if err != nil {
			return fmt.Errorf("--block: %w", err)
		}
		if policy.Fixed() && len(cfg.Chains) > 1 {
			return errors.New("--block with a number or a hash needs one --chain: several are configured")
		}
		for i, c := range cfg.Chains {
			if err := c.Anchor.Refuses(policy); err != nil {
				return fmt.Errorf("--block %s: chains.%s.anchor %w", policy, c.Name, err)
			}
			cfg.Chains[i].Block = []ethrpc.BlockTag{policy}
		}
	}
	for _, addr := range f.listen {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("--web.listen-address %q is not an address such as :10726 or 127.0.0.1:10726", addr)
		}
	}
	if len(f.listen) > 0 {
		cfg.Web.Listen = f.listen
	}
	if f.webConfig != "" {
		cfg.Web.ConfigFile = f.webConfig
	}
	return nil
}

// places returns where the report and the evidence of --once go.
func (f *auditFlags) places(cmd *cobra.Command, cfg *config.Config) (outputs, error) {
	to, err := parseOutputs(f.outputs)
	if err != nil {
		return nil, err
	}
	if cmd.Flags().Changed("evidence") {
		if f.evidence == "" {
			return nil, errors.New("--evidence: the path is empty: name a file")
		}
		to = append(to, output{evidenceKind, f.evidence, fmt.Sprintf("--evidence %q", f.evidence)})
	}
	return to, to.check(cmd.OutOrStdout(), needed(cfg, f.config))
}

func (f *auditFlags) runOnce(cmd *cobra.Command, cfg *config.Config, to outputs) error {
	quiet := zap.InfoLevel
	if isTerminal(cmd.ErrOrStderr()) {
		quiet = zap.DPanicLevel // the report on the terminal has all that the log has, except the trace of a bug
	}
	d, report, err := f.auditOnce(cmd, cfg, quiet, f.evidence != "")
	if err != nil {
		return err
	}
	defer d.Close()
	if err := to.write(cmd.Context(), report, cmd.OutOrStdout(), view{f.config, f.wide, d.Evidence}); err != nil {
		return &exitError{exitCode(report.Verdict), err}
	}
	return f.exit(report.Verdict)
}

// auditOnce audits once. The caller closes the daemon, which has the evidence. Lines less severe than quiet are not logged,
// unless --log.level is given.
func (g *global) auditOnce(cmd *cobra.Command, cfg *config.Config, quiet zapcore.Level, withEvidence bool) (*daemon.Daemon, *audit.Report, error) {
	log, err := g.logger(cmd.ErrOrStderr(), true)
	if err != nil {
		return nil, nil, err
	}
	show, stop := startProgress(cmd.ErrOrStderr(), log)
	defer stop()
	if !cmd.Flags().Changed("log.level") {
		log = log.WithOptions(zap.IncreaseLevel(quiet))
	}
	d, err := daemon.New(cfg, daemon.Options{Build: build(), Log: log, Progress: show, Once: true, Evidence: withEvidence})
	if err != nil {
		return nil, nil, &exitError{exitUsage, err}
	}
	return d, d.Once(cmd.Context()), nil
}

// logger logs JSON unless --log.format is given. One audit that a person watches, on a terminal or in CI, logs for people.
func (g *global) logger(stderr io.Writer, once bool) (*zap.Logger, error) {
	if err := oneOf("--log.level", g.logLevel, logLevels); err != nil {
		return nil, err
	}
	format := cmp.Or(g.logFormat, "json")
	if g.logFormat == "" && once && (isTerminal(stderr) || !slices.Contains([]string{"", "0", "false"}, os.Getenv("CI"))) {
		format = "console"
	}
	if err := oneOf("--log.format", format, logFormats); err != nil {
		return nil, err
	}
	return daemon.NewLogger(stderr, g.logLevel, format)
}

func (f *auditFlags) exit(v audit.Verdict) error {
	if v == audit.Consistent || !f.exitCode || v == audit.Unknown && f.allowUnverifiable {
		return nil
	}
	return &exitError{code: exitCode(v)}
}

// exitCode is the code for a verdict other than consistent, and for a report that could not be written.
func exitCode(v audit.Verdict) int {
	if v == audit.Drift {
		return exitDrift
	}
	return exitUnknown
}

func (f *auditFlags) serve(ctx context.Context, cfg *config.Config, stderr io.Writer) error {
	log, err := f.logger(stderr, false)
	if err != nil {
		return err
	}
	if err := f.checkWeb(ctx, cfg); err != nil {
		return err
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	a, err := daemon.New(cfg, daemon.Options{Build: build(), Log: log, Load: func() (*config.Config, error) { return f.reload(ctx) }, Hangup: hangup})
	if err != nil {
		return &exitError{exitUsage, err}
	}
	defer a.Close()
	listeners, err := web.Listen(cfg.Web.Listen)
	if err != nil {
		return &exitError{exitServe, fmt.Errorf("%w: set another address with web.listen or --web.listen-address", err)}
	}
	names := make([]string, len(listeners))
	for i, l := range listeners {
		names[i] = l.Addr().String()
	}
	log.Info("serving", zap.Strings("addresses", names))
	return exitWith(exitServe, a.Serve(ctx, listeners))
}

// reload reads the configuration again and applies the flags.
func (f *auditFlags) reload(ctx context.Context) (*config.Config, error) {
	cfg, err := f.load(ctx)
	if err != nil {
		return nil, err
	}
	if err := f.applyFlags(cfg, false); err != nil {
		return nil, err
	}
	if f.checkWeb(ctx, cfg) != nil {
		// The error may show a password.
		return nil, errors.New("web.config_file: it cannot be used; kms-auditor config check says why")
	}
	return cfg, nil
}
