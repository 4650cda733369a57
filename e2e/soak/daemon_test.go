//go:build e2e

package soak_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
)

// patience bounds every wait. The machine may be busy.
const patience = 30 * time.Second

// settings is a configuration of an auditor of the world; JSON is YAML.
func (w *world) settings(more map[string]any) map[string]any {
	var chains []any
	for _, c := range w.chains {
		var providers []any
		for i, p := range c.providers {
			providers = append(providers, map[string]any{"name": fmt.Sprintf("p%d", i+1), "url": p.url, "timeout": w.timeout})
		}
		chains = append(chains, map[string]any{"name": c.name, "chain_id": c.id, "block": "latest", "providers": providers,
			"contracts": []any{map[string]any{"address": c.kms.Address().Hex()}}})
	}
	s := map[string]any{"schedule": "@every 1s", "timeout": "30s", "confirm_delay": "0s", "pending_max": "0s",
		"api": map[string]any{"base_url": w.url, "timeout": w.timeout}, "chains": chains, "web": map[string]any{"listen": []string{"127.0.0.1:0"}}}
	for k, v := range more {
		s[k] = v
	}
	return s
}

func writeConfig(t testing.TB, settings map[string]any) string {
	t.Helper()
	b, err := json.Marshal(settings)
	must(t, err)
	path := filepath.Join(t.TempDir(), "config.yaml")
	must(t, os.WriteFile(path, b, 0o600))
	return path
}

// line is one line of the log.
type line struct {
	Time      time.Time `json:"time"`
	Level     string    `json:"level"`
	Message   string    `json:"msg"`
	Event     string    `json:"event"`
	AuditID   string    `json:"audit_id"`
	Addresses []string  `json:"addresses"`
	Error     string    `json:"error"`

	Skipped int `json:"skipped"` // ticks

	Verdict audit.Verdict `json:"verdict"`
	Chains  []struct {
		Chain   string        `json:"chain"`
		Verdict audit.Verdict `json:"verdict"`
		Block   uint64        `json:"block_number"`
		Claim   string        `json:"claim_sha256"`
	} `json:"chains"`

	Chain     string     `json:"chain"`
	Kind      audit.Kind `json:"kind"`
	ID        string     `json:"id"`
	FirstSeen time.Time  `json:"first_seen"`

	run int // which process wrote it
	raw string
}

func (l *line) finding() finding { return finding{l.Chain, l.Kind, l.ID} }

// journal is the log of all processes, one after the other.
type journal struct {
	mu    sync.Mutex
	lines []line
	more  chan struct{} // closed when there is a new line
	runs  int
}

func newJournal() *journal { return &journal{more: make(chan struct{})} }

func (j *journal) add(raw string, run int) {
	l := line{raw: raw, run: run}
	if err := json.Unmarshal([]byte(raw), &l); err != nil {
		l.Message = raw // an error on exit
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, l)
	close(j.more)
	j.more = make(chan struct{})
}

func (j *journal) all() []line {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clip(j.lines)
}

func (j *journal) length() int { return len(j.all()) }

// await waits for a wanted line, from line number from on, and returns it and the number of the next.
func (j *journal) await(t testing.TB, from int, what string, wanted func(*line) bool) (line, int) {
	t.Helper()
	return awaitFor(t, j, patience, from, what, wanted)
}

func awaitFor(t testing.TB, j *journal, patience time.Duration, from int, what string, wanted func(*line) bool) (line, int) {
	t.Helper()
	late := time.After(patience)
	for {
		j.mu.Lock()
		lines, more := j.lines, j.more
		j.mu.Unlock()
		for ; from < len(lines); from++ {
			if wanted(&lines[from]) {
				return lines[from], from + 1
			}
		}
		select {
		case <-more:
		case <-late:
			var said []string
			for _, l := range lines[max(0, len(lines)-30):] {
				said = append(said, l.raw)
			}
			t.Fatalf("no line within %s: %s\n%s", patience, what, strings.Join(said, "\n"))
		}
	}
}

// audited waits for an audit that begins after the from-th line and ends, and returns its wide line.
func (j *journal) audited(t testing.TB, from int) line {
	t.Helper()
	began, next := j.await(t, from, "an audit begins", event("audit_started"))
	l, _ := j.await(t, next, "an audit ends", func(l *line) bool { return l.Event == "audit_finished" && l.AuditID == began.AuditID })
	return l
}

// kept waits until the results of an audit that begins after the from-th line are in the state: the next audit has begun.
func (j *journal) kept(t testing.TB, from int) line {
	t.Helper()
	l := j.audited(t, from)
	j.await(t, j.length()-1, "the next audit begins", event("audit_started"))
	return l
}

func event(name string) func(*line) bool { return func(l *line) bool { return l.Event == name } }

func about(name string, f finding) func(*line) bool {
	return func(l *line) bool { return l.Event == name && l.finding() == f }
}

// daemon is kms-auditor audit as a process.
type daemon struct {
	cmd  *exec.Cmd
	url  string
	done chan struct{} // closed when it has ended and its log is read
}

// start starts a daemon that logs to the journal, and waits until it serves.
func start(t testing.TB, j *journal, binary, config string, args ...string) *daemon {
	t.Helper()
	d := launch(t, j, binary, append([]string{"audit", "-c", config}, args...)...)
	run := j.runs
	l, _ := j.await(t, 0, "it serves", func(l *line) bool { return l.run == run && (l.Message == "serving" || !strings.HasPrefix(l.raw, "{")) })
	if len(l.Addresses) == 0 {
		t.Fatalf("it does not start: %s", l.raw)
	}
	d.url = "http://" + l.Addresses[0]
	return d
}

func launch(t testing.TB, j *journal, binary string, args ...string) *daemon {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	j.runs++
	run := j.runs
	d := &daemon{cmd: exec.Command(binary, args...), done: make(chan struct{})}
	d.cmd.Stderr, d.cmd.Env = w, environ()
	err = d.cmd.Start()
	w.Close()
	must(t, err)
	go func() {
		defer close(d.done)
		in := bufio.NewScanner(r)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			j.add(in.Text(), run)
		}
		_, _ = io.Copy(io.Discard, r)
		r.Close()
		_ = d.cmd.Wait()
	}()
	t.Cleanup(func() { d.kill() })
	return d
}

// end sends a signal and returns the exit code.
func (d *daemon) end(t testing.TB, sig os.Signal) int {
	t.Helper()
	must(t, d.cmd.Process.Signal(sig))
	select {
	case <-d.done:
	case <-time.After(patience):
		t.Fatalf("it still runs %s after %v", patience, sig)
	}
	return d.cmd.ProcessState.ExitCode()
}

// kill ends it like a crash.
func (d *daemon) kill() {
	_ = d.cmd.Process.Signal(syscall.SIGKILL) // it may have ended
	<-d.done
}

// get returns a page.
func (d *daemon) get(path string) (string, error) {
	resp, err := http.Get(d.url + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", path, resp.Status)
	}
	return string(body), err
}

// series returns the sum of the metrics with a prefix.
func series(metrics, name string) (sum float64) {
	for _, l := range strings.Split(metrics, "\n") {
		if rest, ok := strings.CutPrefix(l, name); ok {
			v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
			if err == nil {
				sum += v
			}
		}
	}
	return sum
}
