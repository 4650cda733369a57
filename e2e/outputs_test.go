//go:build e2e

package e2e_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// kept is a folder with everything that an output could overwrite, after one audit.
func (s *stage) kept(t *testing.T) (dir, config string) {
	t.Helper()
	dir = t.TempDir()
	must(t, os.Mkdir(dir+"/evidence", 0o700))
	for name, text := range map[string]string{"key": s.secrets.key, "web.yml": "{}", "evidence/evidence-1.json.gz": "old", "file": "old"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	must(t, os.Symlink("new", dir+"/dangling"))
	must(t, os.Symlink("file", dir+"/link"))
	must(t, os.Symlink("state", dir+"/to-state"))
	must(t, os.Symlink(dir, dir+"/folder"))
	must(t, os.Symlink("loop", dir+"/loop"))
	config = s.config(t, row{settings: func(_ *stage, c *settings) {
		c.State, c.API.APIKeyFile, c.Evidence.Dir = dir+"/state", dir+"/key", dir+"/evidence"
		c.Web = &webSettings{Listen: []string{"127.0.0.1:0"}, ConfigFile: dir + "/web.yml"}
	}})
	must(t, os.Symlink(config, dir+"/config"))
	return dir, config
}

// contents returns every name in a folder, with its content or link target.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil || d.IsDir():
			return err
		case d.Type() == os.ModeSymlink:
			all[path], err = os.Readlink(path)
		default:
			all[path] = readFile(t, path)
		}
		return err
	}))
	return all
}

// TestOutputsSpareWhatIsKept checks that an output that would overwrite something is refused before anything is done.
func TestOutputsSpareWhatIsKept(t *testing.T) {
	t.Parallel()
	s := newStage(t, "anvil")
	row{}.set(t, s)
	const state = "the path is the state file"
	for _, tt := range []struct{ sentence, args, says string }{
		{"the state", "-o json=DIR/state", state},
		{"the state by a link", "-o json=DIR/to-state", state},
		{"the state by a link to its folder", "-o json=DIR/folder/state", state},
		{"the state by a hard link", "-o json=DIR/hard", state},
		{"the state as evidence", "--evidence DIR/state", state},
		{"a state that is to be set aside", "--state-reset -o json=DIR/state", state},
		{"a state that is not there yet, by a link", "-o json=DIR/to-state", state},
		{"requests", "-o json=DIR/state.requests", "the path is a file that belongs to the state"},
		{"the lock", "-o json=DIR/state.lock", "the path is a file that belongs to the state"},
		{"requests that were taken", "-o json=DIR/state.requests.taken", "the path is a file that belongs to the state"},
		{"the configuration", "-o json=CONFIG", "the path is the configuration file"},
		{"the configuration by a link", "--evidence DIR/config", "the path is the configuration file"},
		{"the API's key", "-o json=DIR/key", "the path is a file of secrets"},
		{"the web configuration", "-o json=DIR/web.yml", "the path is web.config_file"},
		{"evidence", "--evidence DIR/evidence/evidence-1.json.gz", "the path is evidence of an earlier audit"},
		{"two outputs by a link", "-o json=DIR/file -o prom=DIR/link", "the path is given twice"},
		{"two outputs by a link to what is not there yet", "-o json=DIR/dangling -o prom=DIR/new", "the path is given twice"},
		{"a report and evidence", "-o json=DIR/file --evidence DIR/file", "the path is given twice"},
		{"a loop", "-o json=DIR/loop", "too many levels of symbolic links"},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			dir, config := s.kept(t)
			if !strings.Contains(tt.sentence, "state that is not there") {
				if exit, _, stderr := runAuditor(t, "audit", "--once", "-c", config); exit != 0 {
					t.Fatal(stderr)
				}
				must(t, os.Link(dir+"/state", dir+"/hard"))
			}
			before := contents(t, dir)
			args := strings.Fields("audit --once -o text " + strings.NewReplacer("DIR", dir, "CONFIG", config).Replace(tt.args))
			exit, stdout, stderr := runAuditorWith(t, []string{"KMS_AUDITOR_CONFIG=" + config}, args...)
			if exit != 2 || stdout != "" || !strings.Contains(stderr, tt.says) {
				t.Errorf("exit code %d, want 2 and %q\n%s%s", exit, tt.says, stdout, stderr)
			}
			if diff := cmp.Diff(before, contents(t, dir)); diff != "" {
				t.Errorf("files changed:\n%.2000s", diff)
			}
		})
	}
}

// TestOutputsThroughDev checks that the auditor writes through /dev like a shell, and leaves /dev unchanged.
func TestOutputsThroughDev(t *testing.T) {
	t.Parallel()
	s := newStage(t, "anvil")
	row{}.set(t, s)
	dir := t.TempDir()
	for parent := dir; parent != os.TempDir(); parent = filepath.Dir(parent) { // another user writes there
		must(t, os.Chmod(parent, 0o755))
	}
	must(t, os.Chmod(bin, 0o755))
	config := dir + "/config.yaml"
	must(t, os.WriteFile(config, []byte(readFile(t, s.config(t, row{settings: func(_ *stage, c *settings) { c.API.APIKeyFile = "" }}))), 0o644))
	// The folder has the same links as /dev.
	must(t, os.Symlink("/proc/self/fd/1", dir+"/stdout"))
	own := "set -e; cd " + dir + "; K='" + bin + "/kms-auditor audit --once -c config.yaml'; "
	for _, tt := range []struct {
		sentence, script string
		wrap             []string
	}{
		{"/dev/stdout", "$K -o json=/dev/stdout | cat >out", nil},
		{"a descriptor", "$K -o json=/dev/fd/3 3>out", nil},
		{"a process", "$K -o json=>(cat >out); wait $!", nil},
		{"/dev/null", "$K -o json=/dev/null; $K -o json=out", nil},
		{"/dev/stderr", "$K --log.level=error -o json=/dev/stderr 2>out", nil},
		{"a file that is stdout, before and after", "{ echo head; $K -o json=/dev/stdout; echo tail; } >all; test $(sed -n '1p;$p' all | tr -d '\\n') = headtail; sed '1d;$d' all >out", nil},
		{"a file without a name", "exec 3<>gone; rm gone; $K -o json=stdout >&3; test -L stdout; cat /dev/fd/3 >out", nil},
		{"a file without a name, by /dev/stdout itself", `mount -t tmpfs none /dev; ln -s /proc/self/fd/1 /dev/stdout
			exec 3<>gone; rm gone; $K -o json=/dev/stdout >&3; test -L /dev/stdout; cat /proc/self/fd/3 >out`, []string{"unshare", "-rm"}},
		{"somebody else's pipe", "setpriv --reuid 65534 --clear-groups $K -o json=/dev/stdout | cat >out", nil},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			if strings.Contains(tt.script, "setpriv") && os.Getuid() != 0 {
				t.Skip("only root can be somebody else")
			}
			args := append(tt.wrap, "bash", "-c", own+tt.script)
			cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
			cmd.Env = environ([]string{"PHALA_CLOUD_API_KEY=" + s.secrets.key})
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if r := decodeReport(t, readFile(t, dir+"/out")); exits[r.Verdict] != 0 {
				t.Errorf("the verdict is %s", r.Verdict)
			}
			must(t, os.Remove(dir+"/out"))
		})
	}
}

// TestPipes checks that a process that waits for the other end of a pipe ends within five seconds of the first signal.
func TestPipes(t *testing.T) {
	t.Parallel()
	s := newStage(t, "anvil")
	row{}.set(t, s)
	dir := t.TempDir()
	config, pipe, other := s.config(t, row{}), dir+"/pipe", dir+"/report.json"
	audit := []string{"audit", "--once", "-c", config, "-o", "json=" + other}
	for _, tt := range []struct {
		sentence string
		args     []string
		comes    int // open flags of the other end, on which nothing happens
		exit     int
		says     string
	}{
		{"a report without a reader", append(audit, "-o", "sarif="+pipe), 0, 3, "writing the sarif report"},
		{"evidence without a reader", append(audit, "--evidence", pipe), 0, 3, "writing the evidence"},
		{"evidence whose reader stops", append(audit, "--evidence", pipe), os.O_RDWR, 3, "writing the evidence"},
		{"evidence without a writer", []string{"verify", pipe}, 0, 2, pipe},
		{"evidence whose writer stops", []string{"verify", pipe}, os.O_WRONLY, 2, pipe},
		{"a configuration without a writer", []string{"audit", "--once", "-c", pipe}, 0, 2, pipe},
		{"a configuration whose writer stops", []string{"audit", "--once", "-c", pipe}, os.O_WRONLY, 2, pipe},
		{"a daemon's configuration without a writer", []string{"audit", "-c", pipe}, 0, 2, pipe},
	} {
		for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
			t.Run(tt.sentence+", "+sig.String(), func(t *testing.T) {
				must(t, syscall.Mkfifo(pipe, 0o600))
				defer func() { must(t, os.Remove(pipe)) }()
				var peer *os.File
				var err error
				if tt.comes == os.O_RDWR { // fill the pipe
					peer, err = os.OpenFile(pipe, os.O_RDWR|syscall.O_NONBLOCK, 0)
					must(t, err)
					must(t, peer.SetDeadline(time.Now().Add(time.Second)))
					_, err = peer.Write(make([]byte, 1<<20))
					if !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Fatal(err)
					}
				}
				var stderr bytes.Buffer
				cmd := exec.CommandContext(t.Context(), bin+"/kms-auditor", tt.args...)
				cmd.Stderr, cmd.Env = &stderr, environ(s.env)
				must(t, cmd.Start())
				switch tt.comes {
				case 0:
					eventually(t, "it opens the pipe", func() bool { return opens(cmd.Process.Pid) })
				case os.O_WRONLY:
					eventually(t, "it opens the pipe", func() bool {
						peer, err = os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0)
						return err == nil
					})
					_, err = io.WriteString(peer, "{")
					must(t, err)
				}
				if slices.Contains(tt.args, "json="+other) { // the other output must not be held up
					eventually(t, "the report is there", func() bool { _, err := os.Stat(other); return err == nil })
					decodeReport(t, readFile(t, other))
					must(t, os.Remove(other))
				}
				signalled := time.Now()
				must(t, cmd.Process.Signal(sig))
				late := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() }) // it may have ended
				_ = cmd.Wait()                                                            // the exit code is checked below
				late.Stop()
				if peer != nil {
					must(t, peer.Close())
				}
				if took := time.Since(signalled); cmd.ProcessState.ExitCode() != tt.exit || took > 5*time.Second || !strings.Contains(stderr.String(), tt.says) {
					t.Errorf("%v after %s, want exit code %d and %q\n%s", cmd.ProcessState, took, tt.exit, tt.says, &stderr)
				}
			})
		}
	}
}

// opens reports whether a process waits for the other end of a pipe to be opened.
func opens(pid int) bool {
	threads, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task/*/wchan"))
	for _, path := range threads {
		if where, err := os.ReadFile(path); err == nil && string(where) == "wait_for_partner" {
			return true
		}
	}
	return false
}

// TestReloadFromAPipe checks that a reload that waits for a pipe holds up neither the daemon nor its shutdown.
func TestReloadFromAPipe(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1, 1)
	d := startConfigured(t, s.settings)
	must(t, os.Remove(d.path))
	must(t, syscall.Mkfifo(d.path, 0o600))
	must(t, d.cmd.Process.Signal(syscall.SIGHUP))
	eventually(t, "it opens the pipe", func() bool { return opens(d.cmd.Process.Pid) })
	signalled := time.Now()
	if exit, took := d.end(t, syscall.SIGTERM), time.Since(signalled); exit != 0 || took > 5*time.Second {
		t.Errorf("exit code %d after %s", exit, took)
	}
}
