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
	"syscall"
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

// profile writes a profile of each run of one case.
func profile(ctx context.Context, dir, kind, name, keep string, delay time.Duration, runs int) error {
	sizeName, mode, _ := strings.Cut(name, "/")
	s, err := parseSize(sizeName)
	if err != nil {
		return err
	}
	if _, ok := modes[mode]; !ok && mode != "daemon" && mode != "first" || kind != "cpu" && kind != "heap" {
		return errors.New("-profile is cpu or heap, and -case SIZE/proven, /searched, /believed, /daemon or /first")
	}
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
	var files []string
	for i := range runs {
		out, err := filepath.Abs(fmt.Sprintf("%s-%s.%d.%s.pprof", s, mode, i+1, kind))
		if err != nil {
			return err
		}
		files = append(files, out)
		env := []string{"BENCH_PROFILE=" + out, "BENCH_PROFILE_KIND=" + kind}
		if mode == "daemon" || mode == "first" {
			err = w.profileDaemon(ctx, mode == "first", env)
		} else {
			err = w.profileOnce(ctx, once(mode), env)
		}
		if err != nil {
			return err
		}
	}
	fmt.Printf("go tool pprof -top %s\n", strings.Join(files, " "))
	return nil
}

func (w *world) profileOnce(ctx context.Context, c contender, env []string) error {
	run := c.run
	c.run = func(w *world) (command, error) {
		cmd, err := run(w)
		cmd.env = env
		return cmd, err
	}
	spent, err := w.try(ctx, c, false)
	if err == nil {
		fmt.Printf("%s, CPU %s, %s, %d requests to the provider\n", short(spent.wall), short(spent.cpu), mib(spent.rss), spent.rpc.requests)
	}
	return err
}

// profileDaemon profiles a daemon from its start until all is read, or twenty unchanged audits of it.
func (w *world) profileDaemon(ctx context.Context, first bool, env []string) error {
	if !first {
		env = append(env, "BENCH_PROFILE_WAIT=1")
	}
	d, err := w.newDaemon(ctx, env...)
	if err != nil {
		return err
	}
	defer d.end()
	if err := d.settle(ctx); err != nil || first {
		return err
	}
	if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		return err
	}
	var costs []cost
	for range 20 {
		spent, err := d.consistent(ctx)
		if err != nil {
			return err
		}
		costs = append(costs, spent)
	}
	fmt.Printf("%s, CPU %s of an unchanged audit\n", short(spreadOf(costs, wall).median), short(spreadOf(costs, cpu).median))
	return nil
}
