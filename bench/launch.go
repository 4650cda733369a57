package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// cost is what one run of a program takes, the programs that it starts included.
type cost struct {
	wall, cpu time.Duration
	rss       int64 // bytes: of the largest process, at its peak
	api, rpc  traffic
}

// command is a program that a contender runs.
type command struct {
	dir  string
	env  []string
	args []string
}

// result is what a command printed, how it ended, and what it took.
type result struct {
	stdout, stderr []byte
	exit           int
	cost           cost
}

// measure runs a command against the world.
func (w *world) measure(ctx context.Context, c command) (r result, err error) {
	cmd := exec.CommandContext(ctx, w.launch, c.args...)
	// A group of its own: what the program started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Dir, cmd.Env = c.dir, append(environ(), c.env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	figures, tell, err := os.Pipe()
	if err != nil {
		return r, err
	}
	defer figures.Close()
	cmd.ExtraFiles = []*os.File{tell}
	api, rpc := w.api.traffic(), w.rpc.traffic()
	err = cmd.Start()
	tell.Close()
	if err != nil {
		return r, err
	}
	told, unread := io.ReadAll(figures)
	err = cmd.Wait()
	if ctx.Err() != nil {
		return r, fmt.Errorf("running %s: %w", c.args[0], ctx.Err())
	}
	if _, bad := fmt.Sscan(string(told), &r.cost.wall, &r.cost.cpu, &r.cost.rss); bad != nil {
		return r, fmt.Errorf("running %s: %w\n%s", strings.Join(c.args, " "), errors.Join(err, unread), tail(stderr.Bytes()))
	}
	r.cost.api, r.cost.rpc = w.api.traffic().since(api), w.rpc.traffic().since(rpc)
	r.stdout, r.stderr, r.exit = stdout.Bytes(), stderr.Bytes(), cmd.ProcessState.ExitCode()
	return r, nil
}

// environ is the environment without what would configure a contender.
func environ() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PHALA_") && !strings.HasPrefix(kv, "KMS_AUDITOR_") {
			env = append(env, kv)
		}
	}
	return env
}

// tail is the end of what a program said.
func tail(out []byte) []byte {
	out = bytes.TrimSpace(out)
	return out[max(0, len(out)-2000):]
}
