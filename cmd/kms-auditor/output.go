package main

import (
	"bytes"
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
	var b bytes.Buffer
	var err error
	switch o.kind {
	case "json":
		err = render.JSON(&b, r)
	case "sarif":
		err = render.SARIF(&b, r, render.SARIFOptions{Config: v.config})
	case "junit":
		err = render.JUnit(&b, r)
	case "prom":
		err = metrics.Write(&b, r, build())
	default:
		err = render.Text(&b, r, render.TextOptions{Color: o.path == "" && useColor(stdout), Wide: v.wide})
	}
	if err != nil {
		return err
	}
	if o.path == "" {
		_, err = stdout.Write(b.Bytes())
		return err
	}
	return replace(o.path, b.Bytes())
}

// replace writes a file whole or not at all. It follows links and keeps the mode of what it replaces.
// What is no regular file, such as a pipe, is written to as it is.
func replace(path string, data []byte) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	old, err := os.Stat(path)
	if err == nil && !old.Mode().IsRegular() {
		return os.WriteFile(path, data, 0o644)
	}
	tmp, err := os.OpenFile(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+rand.Text()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if old != nil {
		err = tmp.Chmod(old.Mode().Perm())
	}
	_, failed := tmp.Write(data)
	if err = errors.Join(err, failed, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
