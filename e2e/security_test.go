//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
)

// traced has the system calls of a process.
type traced struct {
	calls   map[string]bool // by name
	changes []string        // paths that it tried to change
}

var (
	call   = regexp.MustCompile(`^\d+ +(\w+)\((.*)`)
	inPath = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"`)
	// Calls that change a path, and flags of open that may.
	changing = regexp.MustCompile(`^(creat|mkdir|rmdir|rename|link|unlink|symlink|mknod|chmod|fchmodat|chown|lchown|fchownat|truncate|utime|futimesat|setxattr|removexattr|mount|umount|pivot_root|chroot|swapon|acct)\w*$`)
	toWrite  = regexp.MustCompile(`O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_TMPFILE`)
)

// readTrace parses the output of strace -f.
func readTrace(t *testing.T, path string) traced {
	t.Helper()
	seen := traced{calls: map[string]bool{}}
	for line := range strings.Lines(readFile(t, path)) {
		m := call.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		seen.calls[m[1]] = true
		opens := strings.HasPrefix(m[1], "open") && toWrite.MatchString(m[2])
		if opens || changing.MatchString(m[1]) {
			for _, p := range inPath.FindAllStringSubmatch(m[2], -1) {
				seen.changes = append(seen.changes, p[1])
			}
		}
	}
	return seen
}

// strace is the command line that traces a program's system calls.
func strace(t *testing.T, args ...string) (path string, line []string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "trace")
	return path, append([]string{"-f", "-qq", "-s", "4096", "-o", path, filepath.Join(bin, "kms-auditor")}, args...)
}

// onlyChild returns the only child of a process.
func onlyChild(t *testing.T, pid int) *os.Process {
	t.Helper()
	list := strings.Fields(readFile(t, fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)))
	if len(list) != 1 {
		t.Fatalf("process %d has the children %v", pid, list)
	}
	n, err := strconv.Atoi(list[0])
	must(t, err)
	p, err := os.FindProcess(n)
	must(t, err)
	return p
}

// homeless is an environment without a writable default folder.
var homeless = []string{"HOME=/nonexistent", "TMPDIR=/nonexistent", "XDG_CACHE_HOME=/nonexistent", "XDG_CONFIG_HOME=/nonexistent"}

// traceAll runs the programs of an installation. It returns the system calls of each, by name, and the folders where it may write.
func traceAll(t *testing.T) (map[string]traced, []string) {
	t.Helper()
	s := newScene(t, 5, 5)
	state, proof, out := t.TempDir(), t.TempDir(), t.TempDir()
	s.settings.State = filepath.Join(state, "state.db")
	s.settings.CrossChecks = true
	s.settings.Web.Reload = true
	b, err := json.Marshal(s.settings)
	must(t, err)
	var with map[string]any
	must(t, json.Unmarshal(b, &with))
	with["evidence"] = map[string]any{"dir": proof, "keep_changes": 1, "keep_last": 1}
	config, all := writeConfig(t, with), map[string]traced{}

	path, line := strace(t, "audit", "-c", config)
	d := &daemon{more: make(chan struct{})}
	p, addr := start(t, `"msg":"serving".*"addresses":\["([^"]+)"`, "strace", line, homeless, d.add)
	d.process, d.url = p, "http://"+addr
	child := onlyChild(t, p.cmd.Process.Pid)
	t.Cleanup(func() { _ = child.Kill() }) // strace does not end it; it may have ended
	d.finds(t, "consistent")
	lie := s.claim()
	lie.Contracts[0].Devices[0].Allowed = new(false)
	must(t, s.api.put(lie))
	d.finds(t, "drift")
	must(t, s.api.fail(fakeapi.Fault{Name: fakeapi.Status}))
	d.finds(t, "unknown")
	for _, route := range []string{"/", "/metrics", "/api/v1/report", "/api/v1/history", "/-/healthy"} {
		if status, body := get(t, d.url+route); status != 200 {
			t.Fatalf("%s: %d %s", route, status, body)
		}
	}
	must(t, child.Signal(syscall.SIGHUP))
	d.await(t, 0, `"event":"config_reloaded"`)
	must(t, child.Signal(syscall.SIGTERM))
	<-p.done
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("the daemon ends with %d\n%s", code, strings.Join(d.logged(), "\n"))
	}
	all["the daemon"] = readTrace(t, path)

	must(t, s.api.heal())
	for name, args := range map[string][]string{
		"once": {"audit", "--once", "-c", config, "-o", "text", "-o", "json=" + filepath.Join(out, "report.json"), "-o", "prom=" + filepath.Join(out, "kms.prom"),
			"--evidence", filepath.Join(out, "evidence.json.gz"), "--exit-code=false"},
		"history": {"history", "-c", config}, "config check": {"config", "check", "--online", "-c", config}, "version": {"version"},
	} {
		path, line := strace(t, args...)
		cmd := exec.Command("strace", line...)
		cmd.Dir, cmd.Env = "/", environ(homeless)
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, said)
		}
		all[name] = readTrace(t, path)
	}
	for _, file := range []string{"report.json", "kms.prom", "evidence.json.gz"} {
		if _, err := os.Stat(filepath.Join(out, file)); err != nil {
			t.Error(err)
		}
	}
	if kept, err := filepath.Glob(filepath.Join(proof, "evidence-*.json.gz")); err != nil || len(kept) == 0 {
		t.Errorf("no evidence is kept: %v", err)
	}
	return all, []string{state, proof, out}
}

// TestNothingIsWrittenElsewhere runs every program under strace. Only state, evidence.dir and the paths of -o and --evidence may be
// changed, and only the listed system calls made. seccomp and systemd must allow those.
func TestNothingIsWrittenElsewhere(t *testing.T) {
	t.Parallel()
	all, places := traceAll(t)
	seen := map[string]bool{}
	for name, tr := range all {
		if len(tr.calls) < 10 {
			t.Fatalf("%s made the calls %v alone: strace saw nothing", name, slices.Sorted(maps.Keys(tr.calls)))
		}
		maps.Copy(seen, tr.calls)
		for _, path := range tr.changes {
			if !slices.ContainsFunc(places, func(dir string) bool { return strings.HasPrefix(path, dir+"/") }) {
				t.Errorf("%s changes %s", name, path)
			}
		}
	}
	if len(all["the daemon"].changes) == 0 || len(all["once"].changes) == 0 {
		t.Error("the trace has no changes of files")
	}
	t.Logf("%d system calls: %s", len(seen), strings.Join(slices.Sorted(maps.Keys(seen)), " "))
	t.Run("the seccomp profile allows it", func(t *testing.T) {
		allowed := seccomp(t)
		for name := range seen {
			if !allowed[name] {
				t.Errorf("it refuses %s", name)
			}
		}
	})
	t.Run("systemd's unit allows it", func(t *testing.T) {
		allowed := systemdFilter(t)
		for name := range seen {
			// Go tries to raise the limit of open files, and works without.
			if !allowed[name] && name != "prlimit64" {
				t.Errorf("it refuses %s", name)
			}
		}
	})
}

// seccomp returns the system calls that the profile allows.
func seccomp(t *testing.T) map[string]bool {
	t.Helper()
	var profile struct {
		Syscalls []struct {
			Names  []string
			Action string
		}
	}
	must(t, json.Unmarshal([]byte(readFile(t, "../deploy/seccomp/kms-auditor.json")), &profile))
	allowed := map[string]bool{}
	for _, rule := range profile.Syscalls {
		for _, name := range rule.Names {
			allowed[name] = rule.Action == "SCMP_ACT_ALLOW"
		}
	}
	return allowed
}

// systemdFilter returns the system calls that the unit's SystemCallFilter lines allow.
func systemdFilter(t *testing.T) map[string]bool {
	t.Helper()
	allowed := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^SystemCallFilter=(~?)(.*)$`).FindAllStringSubmatch(readFile(t, "../deploy/systemd/kms-auditor.service"), -1) {
		for _, set := range strings.Fields(m[2]) {
			for _, name := range syscallSet(t, set) {
				allowed[name] = m[1] == ""
			}
		}
	}
	return allowed
}

// syscallSet returns the calls of a systemd system call set, including nested sets.
func syscallSet(t *testing.T, set string) (names []string) {
	t.Helper()
	out, err := exec.Command("systemd-analyze", "--no-pager", "syscall-filter", set).Output()
	must(t, err)
	for line := range strings.Lines(string(out)) {
		switch name := strings.TrimSpace(line); {
		case name == set || name == "" || strings.HasPrefix(name, "#"):
		case strings.HasPrefix(name, "@"):
			names = append(names, syscallSet(t, name)...)
		default:
			names = append(names, name)
		}
	}
	return names
}
