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

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/state"
	"github.com/kms-auditor/kms-auditor/metrics"
)

// output is one -o KIND[=PATH], or --evidence. An empty path is stdout.
type output struct {
	kind, path string
	flag       string // as it was given
}

type outputs []output

// view has the settings that an output needs besides the report.
type view struct {
	config   string // the configuration file, as it was named; empty: the built-in configuration
	wide     bool
	evidence func(*audit.Report) (*evidence.File, error) // called once, and only with --evidence
}

// evidenceKind is the kind of --evidence.
const evidenceKind = "evidence"

func parseOutputs(specs []string) (outputs, error) {
	var out outputs
	toStdout := 0
	for _, spec := range specs {
		o := output{flag: fmt.Sprintf("--output %q", spec)}
		var named bool
		o.kind, o.path, named = strings.Cut(spec, "=")
		if err := oneOf("--output: the kind", o.kind, outputKinds); err != nil {
			return nil, err
		}
		if named && o.path == "" {
			return nil, fmt.Errorf("%s: the path is empty: write %s=PATH", o.flag, o.kind)
		}
		if o.path == "" {
			toStdout++
		}
		out = append(out, o)
	}
	if toStdout > 1 {
		return nil, errors.New("--output: only one kind can go to stdout: give the others a path, as in json=report.json")
	}
	return out, nil
}

// needed returns the files that the program itself needs.
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
	add("a file of secrets or of a network that the configuration names", cfg.Files...)
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

// check refuses outputs that cannot be written, and outputs that would overwrite each other or a file that is needed. It runs
// before the audit, which takes minutes.
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
			err = errors.New("the path is a folder: name a file in it")
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

// write renders the report to all outputs at the same time, so that one which fails or blocks does not hold up the others.
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
			return buffered(stdout, func(w io.Writer) error { return o.render(w, r, v, textOptions(stdout, v.wide)) })
		})
	}
	return replace(ctx, o.path, func(w io.Writer) error { return o.render(w, r, v, render.TextOptions{}) })
}

func (o output) render(w io.Writer, r *audit.Report, v view, opt render.TextOptions) error {
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
		return render.Text(w, r, opt)
	}
}

func isTerminal(w io.Writer) bool { return render.TerminalWidth(w) > 0 }

// textOptions fits text to stdout. A wide one is not cut.
func textOptions(stdout io.Writer, wide bool) render.TextOptions {
	opt := render.OptionsFor(stdout)
	if wide {
		opt.Width = 0
	}
	return opt
}
