//go:build e2e

// Package e2e_test runs the real kms-auditor against real nodes (anvil, geth --dev) and the fake API as a process.
//
// setup.sh installs the tools; a missing one fails the tests. Everything listens on a free port of 127.0.0.1.
package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
)

// bin is the folder of the programs that TestMain builds: kms-auditor and fakeapi.
var bin string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	var err error
	if bin, err = os.MkdirTemp("", "e2e"); err != nil {
		log.Print(err)
		return 1
	}
	defer os.RemoveAll(bin)
	build := exec.Command("go", "build", "-o", bin+"/", "../cmd/kms-auditor", "./fakeapi")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		log.Printf("building: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// tools is the folder that setup.sh installs into.
func tools(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("E2E_TOOLS")
	if dir == "" {
		dir = ".tools"
	}
	path, err := filepath.Abs(dir)
	must(t, err)
	return path
}

// tool returns the path of a program that setup.sh installed.
func tool(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(tools(t), "bin", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run e2e/setup.sh first", err)
	}
	return path
}

// process is a program that runs at most until the end of the test.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the program has ended and its output is read
}

// start starts a program and waits until a line of its output matches ready. It returns the first group of the match. lines, unless
// nil, is called with every line.
func start(t testing.TB, ready, path string, args []string, env []string, lines func(string)) (*process, string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = w, w, environ(env)
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatalf("starting %s: %v", path, err)
	}
	p := &process{cmd, make(chan struct{})}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-p.done
	})
	re := regexp.MustCompile(ready)
	found := make(chan string, 1)
	var said bytes.Buffer
	go func() {
		defer close(p.done)
		ready := false
		for in := bufio.NewScanner(r); in.Scan(); {
			if lines != nil {
				lines(in.Text())
			}
			if said.Len() < 1<<20 {
				said.WriteString(in.Text() + "\n")
			}
			if m := re.FindStringSubmatch(in.Text()); m != nil && !ready {
				found <- m[len(m)-1]
				ready = true
			}
		}
		_, _ = io.Copy(io.Discard, r)
		r.Close()
		_ = cmd.Wait()
	}()
	select {
	case got := <-found:
		return p, got
	case <-p.done:
		t.Fatalf("%s ended before it was ready:\n%s", path, &said)
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
		<-p.done
		t.Fatalf("%s is not ready after a minute:\n%s", path, &said)
	}
	return nil, ""
}

// end sends a signal and returns the exit code.
func (p *process) end(t testing.TB, sig os.Signal) int {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("signalling %s: %v", p.cmd.Path, err)
	}
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s still runs 20 s after %v", p.cmd.Path, sig)
	}
	return p.cmd.ProcessState.ExitCode()
}

// environ returns the test's environment without the auditor's variables, plus extra.
func environ(extra []string) []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PHALA_") && !strings.HasPrefix(kv, "KMS_AUDITOR_") && !strings.HasPrefix(kv, "CI=") {
			env = append(env, kv)
		}
	}
	return append(env, extra...)
}

// runAuditor runs kms-auditor to its end.
func runAuditor(t testing.TB, args ...string) (exit int, stdout, stderr string) {
	t.Helper()
	return runAuditorWith(t, nil, args...)
}

// runAuditorWith runs kms-auditor with additional environment.
func runAuditorWith(t testing.TB, env []string, args ...string) (exit int, stdout, stderr string) {
	t.Helper()
	return runAuditorIn(t, nil, env, args...)
}

// offline runs a process in its own network namespace, without even 127.0.0.1. If that is not permitted, the process does not start.
func offline() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if uid := os.Getuid(); uid != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
	}
	return attr
}

// runAuditorIn runs kms-auditor with process attributes.
func runAuditorIn(t testing.TB, attr *syscall.SysProcAttr, env []string, args ...string) (exit int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "kms-auditor"), args...)
	cmd.SysProcAttr = attr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) } // a hang shows its goroutines
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = environ(env)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exited *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exited) || ctx.Err() != nil {
		t.Fatalf("running kms-auditor %s: %v\n%s", strings.Join(args, " "), err, &errs)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// decodeReport decodes a report strictly.
func decodeReport(t testing.TB, data string) *audit.Report {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(data))
	dec.DisallowUnknownFields()
	var r audit.Report
	if err := dec.Decode(&r); err != nil {
		t.Fatalf("decoding the report: %v\n%s", err, data)
	}
	return &r
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wrap adds to err what was being done, unless err is nil.
func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
