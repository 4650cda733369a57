package main

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/metrics"
)

// output is one -o KIND[=PATH]; an empty path is stdout.
type output struct{ kind, path string }

type outputs []output

// view is what a report does not say and an output needs.
type view struct {
	config string // the configuration file as it was named; empty: the built-in one applied
	wide   bool
}

var outputKinds = []string{"text", "json", "sarif", "junit", "prom"}

// completeOutput completes the kind of an -o, and leaves its path to the shell.
func completeOutput(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if strings.Contains(typed, "=") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return outputKinds, cobra.ShellCompDirectiveNoFileComp
}

// parseOutputs checks all that can be checked before an audit is spent on them.
func parseOutputs(specs []string) (outputs, error) {
	var out outputs
	toStdout := 0
	for _, spec := range specs {
		kind, path, named := strings.Cut(spec, "=")
		if !slices.Contains(outputKinds, kind) {
			return nil, fmt.Errorf("--output %q: the kind is none of %s", spec, strings.Join(outputKinds, ", "))
		}
		if named && path == "" {
			return nil, fmt.Errorf("--output %q: the path is empty", spec)
		}
		switch {
		case path == "":
			toStdout++
		case !isDir(filepath.Dir(path)):
			return nil, fmt.Errorf("--output %q: the folder does not exist", spec)
		case isDir(path):
			return nil, fmt.Errorf("--output %q: the path is a folder", spec)
		case slices.ContainsFunc(out, func(o output) bool { return o.path != "" && filepath.Clean(o.path) == filepath.Clean(path) }):
			return nil, fmt.Errorf("--output %q: the path is given twice", spec)
		}
		out = append(out, output{kind, path})
	}
	if toStdout > 1 {
		return nil, errors.New("--output: only one kind can go to stdout, give the others a path")
	}
	return out, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// write renders the report everywhere, even where one place fails.
func (o outputs) write(r *audit.Report, stdout io.Writer, v view) error {
	var failed error
	for _, out := range o {
		if err := out.write(r, stdout, v); err != nil {
			failed = errors.Join(failed, fmt.Errorf("writing the %s report: %w", out.kind, err))
		}
	}
	return failed
}

func (o output) write(r *audit.Report, stdout io.Writer, v view) error {
	if o.path != "" {
		return replaceBy(o.path, func(w io.Writer) error { return o.render(w, r, v, false) })
	}
	return buffered(stdout, func(w io.Writer) error { return o.render(w, r, v, useColor(stdout)) })
}

func (o output) render(w io.Writer, r *audit.Report, v view, color bool) error {
	switch o.kind {
	case "json":
		return render.JSON(w, r)
	case "sarif":
		return render.SARIF(w, r, render.SARIFOptions{Config: v.config})
	case "junit":
		return render.JUnit(w, r)
	case "prom":
		return metrics.Write(w, r, build())
	default:
		return render.Text(w, r, render.TextOptions{Color: color, Wide: v.wide})
	}
}

func replace(path string, data []byte) error {
	return replaceBy(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// replaceBy writes a file whole or not at all. It follows links and keeps the mode of what it replaces.
// What is no regular file, such as a pipe, is written to as it is.
func replaceBy(path string, write func(io.Writer) error) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	old, err := os.Stat(path)
	if err == nil && !old.Mode().IsRegular() {
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return err
		}
		return errors.Join(buffered(file, write), file.Close())
	}
	tmp, err := os.OpenFile(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+rand.Text()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if old != nil {
		err = tmp.Chmod(old.Mode().Perm())
	}
	if err = errors.Join(err, buffered(tmp, write), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// buffered writes in large pieces.
func buffered(to io.Writer, write func(io.Writer) error) error {
	w := bufio.NewWriterSize(to, 1<<16)
	return errors.Join(write(w), w.Flush())
}
