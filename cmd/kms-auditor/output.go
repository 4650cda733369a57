package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

// output is one -o KIND[=PATH]; an empty path is stdout.
type output struct{ kind, path string }

type outputs []output

var outputKinds = []string{"text", "json"}

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
		if path == "" {
			toStdout++
		} else if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("--output %q: the folder does not exist", spec)
		}
		out = append(out, output{kind, path})
	}
	if toStdout > 1 {
		return nil, errors.New("--output: only one kind can go to stdout, give the others a path")
	}
	return out, nil
}

// write renders the report everywhere, even where one place fails.
func (o outputs) write(r *audit.Report, stdout io.Writer, wide bool) error {
	var failed error
	for _, out := range o {
		if err := out.write(r, stdout, wide); err != nil {
			failed = errors.Join(failed, fmt.Errorf("writing the %s report: %w", out.kind, err))
		}
	}
	return failed
}

func (o output) write(r *audit.Report, stdout io.Writer, wide bool) error {
	var b bytes.Buffer
	var err error
	switch o.kind {
	case "json":
		err = render.JSON(&b, r)
	default:
		err = render.Text(&b, r, render.TextOptions{Color: o.path == "" && useColor(stdout), Wide: wide})
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

// replace writes a file whole or not at all. What is no regular file, such as a pipe, is written to as it is.
func replace(path string, data []byte) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return os.WriteFile(path, data, 0o644)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
