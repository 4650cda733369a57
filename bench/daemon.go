package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
)

// daemon is a running kms-auditor that audits every second.
type daemon struct {
	*world
	cmd    *exec.Cmd
	url    string
	audits chan audited // closed when it has ended
	said   atomic.Value // its last line that is of no audit
}

// audited is an audit of the daemon, and what was spent since the end of the one before, or since the start. Its wall
// time is the audit's own.
type audited struct {
	verdict string
	cost    cost
	err     error
}

// line is one of the daemon's log.
type line struct {
	Event     string   `json:"event"`
	Msg       string   `json:"msg"`
	Addresses []string `json:"addresses"`
	Verdict   string   `json:"verdict"`
	Duration  float64  `json:"duration_seconds"`
}

// newDaemon starts kms-auditor, with more environment.
func (w *world) newDaemon(ctx context.Context, env ...string) (*daemon, error) {
	path, err := w.configure(proven)
	if err != nil {
		return nil, err
	}
	d := &daemon{world: w, audits: make(chan audited, 1<<16)}
	d.cmd = exec.CommandContext(ctx, w.auditor, "audit", "-c", path)
	d.cmd.Env = append(environ(), env...)
	out, err := d.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	serving := make(chan string, 1)
	go func() {
		defer close(d.audits)
		defer close(serving)
		d.follow(out, serving)
	}()
	if addr := <-serving; addr != "" {
		d.url = "http://" + addr
		return d, nil
	}
	d.end()
	return nil, fmt.Errorf("starting kms-auditor: %s", d.said.Load())
}

// follow reads the log to its end.
func (d *daemon) follow(log io.Reader, serving chan<- string) {
	var used time.Duration
	api, rpc := d.api.traffic(), d.rpc.traffic()
	in := bufio.NewScanner(log)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var l line
		err := json.Unmarshal(in.Bytes(), &l)
		switch {
		case err != nil || l.Event != "audit_finished" && l.Event != "audit_started" && l.Msg != "serving":
			d.said.Store(string(tail(in.Bytes())))
		case l.Msg == "serving":
			serving <- l.Addresses[0]
		case l.Event == "audit_finished":
			cpu, err := cpuOf(d.cmd.Process.Pid)
			apiNow, rpcNow := d.api.traffic(), d.rpc.traffic()
			d.audits <- audited{l.Verdict, cost{
				wall: time.Duration(l.Duration * float64(time.Second)), cpu: cpu - used, api: apiNow.since(api), rpc: rpcNow.since(rpc),
			}, err}
			used, api, rpc = cpu, apiNow, rpcNow
		}
	}
}

// consistent waits for the end of an audit, which must have found nothing.
func (d *daemon) consistent(ctx context.Context) (cost, error) {
	select {
	case a, ok := <-d.audits:
		switch {
		case !ok:
			return cost{}, fmt.Errorf("auditing %s: the daemon ended: %s", d.size, d.said.Load())
		case a.err == nil && a.verdict != audit.Consistent.String():
			a.err = fmt.Errorf("auditing %s: the daemon says %s: %s", d.size, a.verdict, d.said.Load())
		}
		return a.cost, a.err
	case <-ctx.Done():
		return cost{}, ctx.Err()
	}
}

// skip forgets the audits that have ended.
func (d *daemon) skip() {
	for len(d.audits) > 0 {
		<-d.audits
	}
}

// settle waits until an audit sends no more than a request to the provider for each chain: until then the daemon asks
// who made the changes that the events tell of.
func (d *daemon) settle(ctx context.Context) error {
	for range 200 {
		spent, err := d.consistent(ctx)
		if err != nil || spent.rpc.requests <= int64(d.size.chains) {
			return err
		}
	}
	return fmt.Errorf("after 200 audits of %s, the daemon still asks for more than what is new", d.size)
}

// end stops the daemon and waits for it.
func (d *daemon) end() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	for range d.audits { // until its log ends
	}
	_ = d.cmd.Wait() // what was measured was measured before
}

// cpuOf is what a process has used so far, to the nanosecond: the sum of its threads, of which Go ends next to none.
func cpuOf(pid int) (sum time.Duration, err error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(tasks) == 0 {
		return 0, fmt.Errorf("reading the threads of process %d: there are none", pid)
	}
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			continue // it ended just now
		}
		var ns int64
		if _, err := fmt.Sscan(string(b), &ns); err != nil {
			return 0, fmt.Errorf("reading %s: %w", t, err)
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// peakOf is the most memory that a process has held so far, in bytes.
func peakOf(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kib int64
	_, err = fmt.Sscan(rest, &kib)
	return kib << 10, err
}
