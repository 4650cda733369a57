package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/state"
	"github.com/kms-auditor/kms-auditor/metrics"
)

// output is one -o KIND[=PATH], or --evidence; an empty path is stdout.
type output struct {
	kind, path string
	flag       string // as it was given
}

type outputs []output

// view is what a report does not say and an output needs.
type view struct {
	config   string // the configuration file as it was named; empty: the built-in one applied
	wide     bool
	evidence func(*audit.Report) (*evidence.File, error) // called once, where there is such an output
}

// evidenceKind is the kind of --evidence.
const evidenceKind = "evidence"

var outputKinds = []string{"text", "json", "sarif", "junit", "prom"}

// completeOutput completes the kind of an -o, and leaves its path to the shell.
func completeOutput(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if strings.Contains(typed, "=") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return outputKinds, cobra.ShellCompDirectiveNoFileComp
}

func parseOutputs(specs []string) (outputs, error) {
	var out outputs
	toStdout := 0
	for _, spec := range specs {
		o := output{flag: fmt.Sprintf("--output %q", spec)}
		var named bool
		o.kind, o.path, named = strings.Cut(spec, "=")
		if !slices.Contains(outputKinds, o.kind) {
			return nil, fmt.Errorf("%s: the kind must be one of %s", o.flag, strings.Join(outputKinds, ", "))
		}
		if named && o.path == "" {
			return nil, fmt.Errorf("%s: the path is empty", o.flag)
		}
		if o.path == "" {
			toStdout++
		}
		out = append(out, o)
	}
	if toStdout > 1 {
		return nil, errors.New("--output: only one kind can go to stdout, give the others a path")
	}
	return out, nil
}

// needed returns the files that the program itself lives on.
func needed(cfg *config.Config, configFile string) (all []place) {
	add := func(what string, paths ...string) {
		for _, path := range paths {
			if p, err := find(path); err == nil && path != "" {
				p.what = what
				all = append(all, p)
			}
		}
	}
	add("the configuration file", configFile)
	add("a file of secrets, or of a network, that the configuration names", cfg.Files...)
	add("web.config_file", cfg.Web.ConfigFile)
	if cfg.State != "" {
		add("the state file", cfg.State)
		add("a file that belongs to the state", state.RequestPath(cfg.State), state.TakenPath(cfg.State), state.LockPath(cfg.State))
	}
	if cfg.Evidence.Dir != "" {
		kept, _ := fs.Glob(os.DirFS(cfg.Evidence.Dir), "evidence-*.json.gz") // the pattern is fine
		for _, name := range kept {
			add("evidence of an earlier audit", filepath.Join(cfg.Evidence.Dir, name))
		}
	}
	return all
}

// check refuses, before an audit is spent on them, outputs that cannot be written, and those that would overwrite each
// other or what is kept.
func (o outputs) check(stdout io.Writer, kept []place) error {
	if f, ok := stdout.(*os.File); ok && slices.ContainsFunc(o, func(out output) bool { return out.path == "" }) {
		if info, err := f.Stat(); err == nil {
			kept = append(kept, place{what: "where stdout goes", real: descriptors + "1", info: info})
		}
	}
	for _, out := range o {
		if out.path == "" {
			continue
		}
		p, err := find(out.path)
		if err == nil && p.info != nil && p.info.IsDir() {
			err = errors.New("the path is a folder")
		}
		if i := slices.IndexFunc(kept, p.same); err == nil && i >= 0 {
			err = errors.New("the path is " + kept[i].what)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", out.flag, err)
		}
		p.what = "given twice"
		kept = append(kept, p)
	}
	return nil
}

// write renders the report everywhere at the same time: one place that fails, or waits, holds up no other.
func (o outputs) write(ctx context.Context, r *audit.Report, stdout io.Writer, v view) error {
	failed := make([]error, len(o))
	var all sync.WaitGroup
	for i, out := range o {
		all.Go(func() {
			what := out.kind + " report"
			if out.kind == evidenceKind {
				what = evidenceKind
			}
			if err := out.write(ctx, r, stdout, v); err != nil {
				failed[i] = fmt.Errorf("writing the %s: %w", what, err)
			}
		})
	}
	all.Wait()
	return errors.Join(failed...)
}

func (o output) write(ctx context.Context, r *audit.Report, stdout io.Writer, v view) error {
	if o.path == "" {
		return await(ctx, "stdout", func() error {
			return buffered(stdout, func(w io.Writer) error { return o.render(w, r, v, useColor(stdout)) })
		})
	}
	return replace(ctx, o.path, func(w io.Writer) error { return o.render(w, r, v, false) })
}

func (o output) render(w io.Writer, r *audit.Report, v view, color bool) error {
	switch o.kind {
	case "json":
		return render.JSON(w, r)
	case "sarif":
		return render.SARIF(w, r, v.config)
	case "junit":
		return render.JUnit(w, r)
	case "prom":
		return metrics.Write(w, r, build())
	case evidenceKind:
		file, err := v.evidence(r)
		if err != nil {
			return err
		}
		b, err := file.Pack(o.path)
		if err == nil {
			_, err = w.Write(b)
		}
		return err
	default:
		return render.Text(w, r, render.TextOptions{Color: color, Wide: v.wide})
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// useColor follows no-color.org: a non-empty NO_COLOR means none.
func useColor(w io.Writer) bool {
	return isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// newProgress keeps one line on a terminal that says what is being waited for, until it is done. On anything else it
// is silent.
func newProgress(stderr io.Writer) (show func(chain, doing string), done func()) {
	var mu sync.Mutex
	cleared := !isTerminal(stderr)
	write := func(line string, last bool) {
		mu.Lock()
		defer mu.Unlock()
		if !cleared {
			fmt.Fprint(stderr, "\r\x1b[K"+line)
			cleared = last
		}
	}
	return func(chain, doing string) { write(chain+": "+doing+" …", false) }, func() { write("", true) }
}
