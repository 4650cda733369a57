package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// tests runs tests with and without a bug.
type tests struct {
	passed map[string]bool // without a bug, by package and name
}

// withoutBugs first runs the tests without bugs: a test that fails anyway finds nothing.
func (t tests) withoutBugs(ctx context.Context, bugs []bug) error {
	first := map[string][]string{}
	for _, b := range bugs {
		if p := b.Tests[0]; b.First != "" && !slices.Contains(first[p], b.First) {
			first[p] = append(first[p], b.First)
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(first)) {
		if err := t.sound(ctx, pkg, strings.Join(first[pkg], "|")); err != nil {
			return err
		}
		for _, name := range first[pkg] {
			t.passed[pkg+" "+name] = true
		}
	}
	return nil
}

func (t tests) sound(ctx context.Context, pkg, names string) error {
	if t.passed[pkg+" "+names] {
		return nil
	}
	by, err := goTest(ctx, pkg, names)
	if err == nil && by != "" {
		err = errors.New("it fails")
	}
	if err != nil {
		return fmt.Errorf("running %s of %s without any bug: %w", names, pkg, err)
	}
	t.passed[pkg+" "+names] = true
	return nil
}

// find returns the first test that fails with the bug, or "".
func (t tests) find(ctx context.Context, b bug) (string, error) {
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	overlay, err := b.overlay(dir)
	if err != nil {
		return "", err
	}
	if b.First != "" {
		if by, err := goTest(ctx, b.Tests[0], b.First, "-count=1", "-overlay", overlay); by != "" || err != nil {
			return by, err
		}
	}
	for _, pkg := range b.Tests {
		by, err := goTest(ctx, pkg, "", "-count=1", "-overlay", overlay)
		if err != nil {
			return "", err
		}
		if name, _, _ := strings.Cut(by, "/"); by != "" {
			return by, t.sound(ctx, pkg, "^"+name+"$")
		}
	}
	return "", nil
}

// event is a line of go test -json.
type event struct {
	Action, Test, Output, FailedBuild string
}

// goTest runs tests of a package and returns the first that fails, or "". It fails if the tests do not compile, or end without a
// failing test.
func goTest(ctx context.Context, pkg, names string, more ...string) (failed string, err error) {
	args := append([]string{"test", "-json", "-vet=off", "-failfast", "-ldflags=-w", "-timeout=10m", "-run", names}, more...)
	cmd := exec.CommandContext(ctx, "go", append(args, "./"+pkg)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // go test passes it on to the tests
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	var said strings.Builder
	events := json.NewDecoder(bytes.NewReader(out))
	for e := (event{}); events.Decode(&e) == nil; e = (event{}) {
		if e.Action == "fail" && e.Test != "" && e.FailedBuild == "" {
			return e.Test, nil
		}
		said.WriteString(e.Output)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, said.String())
	}
	return "", nil
}
