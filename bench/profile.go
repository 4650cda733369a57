package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

//go:embed profiler.go.txt
var profiler string

// mainCall is the line of main.go that a profiled build replaces.
const mainCall = "os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))"

// newProfiled builds kms-auditor so that it writes a profile to the file that the environment names. The source stays
// as it is: the compiler is told to read another file in the place of main.go, and one more.
func newProfiled(dir string) (*programs, error) {
	original, err := filepath.Abs(filepath.Join("cmd", "kms-auditor", "main.go"))
	if err != nil {
		return nil, err
	}
	source, err := os.ReadFile(original)
	if err != nil {
		return nil, err
	}
	if bytes.Count(source, []byte(mainCall)) != 1 {
		return nil, fmt.Errorf("profiling %s: it has no %s", original, mainCall)
	}
	files := map[string]string{
		original: strings.Replace(string(source), mainCall, "code := run(os.Args[1:], os.Stdout, os.Stderr); benchProfile.stop(); os.Exit(code)", 1),
		filepath.Join(filepath.Dir(original), "bench_profile.go"): profiler,
	}
	replace := map[string]string{}
	for at, text := range files {
		replace[at] = filepath.Join(dir, filepath.Base(at))
		if err := os.WriteFile(replace[at], []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, overlay, 0o600); err != nil {
		return nil, err
	}
	return newPrograms(dir, "-overlay", path)
}

// profile writes a profile of one case.
func profile(ctx context.Context, kind, name, out, keep string, delay time.Duration) error {
	sizeName, mode, _ := strings.Cut(name, "/")
	s, err := parseSize(sizeName)
	if err != nil {
		return err
	}
	if _, ok := modes[mode]; !ok || kind != "cpu" && kind != "heap" {
		return errors.New("-profile is cpu or heap, and -case SIZE/proven, /searched or /believed")
	}
	if out == "" {
		out = fmt.Sprintf("%s-%s.%s.pprof", s, mode, kind)
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kms-auditor-bench-bin-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p, err := newProfiled(dir)
	if err != nil {
		return err
	}
	p.keep = keep
	w, err := p.newWorld(s)
	if err != nil {
		return err
	}
	defer w.close()
	w.delay(delay)
	c := once(mode)
	run := c.run
	c.run = func(w *world) (command, error) {
		cmd, err := run(w)
		cmd.env = []string{"BENCH_PROFILE=" + out, "BENCH_PROFILE_KIND=" + kind}
		return cmd, err
	}
	spent, err := w.try(ctx, c, false)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %s, CPU %s, %d MiB, %d requests to the provider\ngo tool pprof %s\n", name, spent.wall, spent.cpu, spent.rss>>20, spent.rpc.requests, out)
	return nil
}
