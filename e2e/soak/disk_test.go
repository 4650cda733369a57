//go:build e2e

package soak_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/go-cmp/cmp"
)

// inside is the folder of programs if the test runs in its own mount namespace.
const inside = "SOAK_INSIDE"

// TestDisk runs itself again in a private mount namespace.
func TestDisk(t *testing.T) {
	if os.Getenv(inside) == "" {
		t.Parallel()
		if os.Getuid() != 0 {
			t.Fatal("the disks of this test are mounted in a mount namespace: run it as root, with CAP_SYS_ADMIN and loop devices")
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDisk$", "-test.v", "-test.timeout=5m")
		cmd.Env = append(os.Environ(), inside+"="+bin)
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if exited := (*exec.ExitError)(nil); errors.As(err, &exited) {
			t.Error(err)
		} else if err != nil {
			t.Errorf("a private mount namespace needs CAP_SYS_ADMIN: %v", err)
		}
		return
	}
	t.Run("full", full)
	t.Run("read-only", readOnly)
}

// mount mounts a disk, and unmounts it at the end.
func mount(t *testing.T, from, dir, kind string, flags uintptr, data string) {
	t.Helper()
	if err := syscall.Mount(from, dir, kind, flags, data); err != nil {
		t.Fatalf("mounting %s (%s) needs CAP_SYS_ADMIN: %v", kind, data, err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }) // it may be unmounted
}

// fill fills the disk.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	for size := 64 << 10; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else {
			must(t, err)
		}
	}
	return func() { must(t, os.Remove(path)) }
}

// stage is a daemon whose state and evidence are on one disk.
type stage struct {
	*world
	*chain
	j             *journal
	state, config string
	d             *daemon
}

func newStage(t *testing.T, dir string) *stage {
	t.Helper()
	w := newWorld(t, 1, 200, 1)
	s := &stage{world: w, chain: w.chains[0], j: newJournal(), state: filepath.Join(dir, "state.db")}
	proof := filepath.Join(dir, "evidence")
	must(t, os.Mkdir(proof, 0o700))
	s.config = writeConfig(t, w.settings(map[string]any{"state": s.state, "evidence": map[string]any{"dir": proof, "keep_changes": 1, "keep_last": 1}}))
	return s
}

func (s *stage) start(t *testing.T) {
	t.Helper()
	from := s.j.length()
	s.d = start(t, s.j, filepath.Join(bin, "kms-auditor"), s.config)
	s.j.kept(t, from)
}

// turns ends one difference, adds a hundred, changes the contract, and waits until all is logged.
func (s *stage) turns(t *testing.T) {
	t.Helper()
	from := s.j.length()
	for i := 2; i < len(s.devices); i += 4 {
		must(t, s.allow(t, s.devices[i], false))
	}
	s.deny(s.devices)
	stranger := crypto.Keccak256Hash([]byte("a device that the API never listed"))
	s.devices = append(s.devices, stranger)
	must(t, s.allow(t, stranger, true))
	was := finding{s.name, "claim_denied_chain_allowed", s.devices[2].Hex()}
	is := finding{s.name, "claim_denied_chain_allowed", s.devices[4].Hex()}
	s.j.await(t, from, "a difference is resolved", about("finding_resolved", was))
	s.j.await(t, from, "another opens", about("finding_opened", is))
	s.j.await(t, from, "what only an event names is found", about("finding_opened", finding{s.name, "unlisted_chain_allowed", stranger.Hex()}))
}

// fails waits until log and metric show that the daemon could not write.
func (s *stage) fails(t *testing.T, from int, why ...string) {
	t.Helper()
	for file, message := range map[string]string{"state": "state not written", "evidence": "evidence not written"} {
		l, _ := s.j.await(t, from, message, func(l *line) bool { return l.Message == message })
		if l.Level != "error" || !slices.ContainsFunc(why, func(w string) bool { return strings.Contains(l.Error, w) }) {
			t.Errorf("the log says %s, want an error with %q", l.raw, why)
		}
		s.j.audited(t, s.j.length())
		metrics, err := s.d.get("/metrics")
		must(t, err)
		if series(metrics, `kms_auditor_writes_total{file="`+file+`",result="failed"}`) == 0 {
			t.Errorf("no failed write of %s is counted", file)
		}
	}
	for _, path := range []string{"/", "/-/ready", "/api/v1/report", "/api/v1/history"} {
		_, err := s.d.get(path)
		must(t, err)
	}
}

// holds fails the test unless the log was always right, and log, state and truth agree on the open findings and their first_seen.
func (s *stage) holds(t *testing.T) {
	t.Helper()
	v := s.judge(s.j.all())
	t.Log(v)
	told, kept := map[string]int64{}, map[string]int64{}
	for f, l := range v.open {
		told[fmt.Sprint(f)] = l.FirstSeen.UnixMilli()
	}
	for f, at := range remembered(t, s.state) {
		kept[fmt.Sprint(f)] = at.UnixMilli()
	}
	if diff := cmp.Diff(told, kept); diff != "" || len(v.wrong) > 0 {
		t.Errorf("%d lies; open (-log +state):\n%s", len(v.wrong), diff)
	}
	// The world may change between two looks, which is logged as well.
	stays := slices.DeleteFunc(v.stays(), func(f finding) bool { return f.Kind == "claim_unstable" })
	if diff := cmp.Diff(sorted(s.now()), stays); diff != "" {
		t.Errorf("open (-truth +log):\n%s", diff)
	}
}

// quiet fails the test if a restarted daemon logs an event again.
func (s *stage) quiet(t *testing.T) {
	t.Helper()
	from := s.j.length()
	s.start(t)
	if i := slices.IndexFunc(s.j.all()[from:], func(l line) bool { return strings.HasPrefix(l.Event, "finding_") }); i >= 0 {
		t.Errorf("after a restart it says %s", s.j.all()[from+i].raw)
	}
}

func full(t *testing.T) {
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=2m")
	s := newStage(t, dir)
	s.deny(s.devices[2:3])
	s.start(t)
	report := filepath.Join(dir, "report.json")
	must(t, os.WriteFile(report, []byte("the one before"), 0o600))
	free, from := fill(t, dir), s.j.length()
	s.turns(t)
	s.fails(t, from, "no space left on device")

	out, err := exec.CommandContext(t.Context(), filepath.Join(bin, "kms-auditor"), "audit", "--once", "-c",
		writeConfig(t, s.settings(nil)), "-o", "json="+report).CombinedOutput()
	exited := (*exec.ExitError)(nil)
	if before, _ := os.ReadFile(report); !errors.As(err, &exited) || exited.ExitCode() != 1 || string(before) != "the one before" || !bytes.Contains(out, []byte("no space left")) {
		t.Errorf("a report that cannot be written: %v, and in its place is %q\n%s", err, before, out)
	}

	free()
	s.j.kept(t, s.j.length())
	s.d.kill()
	s.holds(t)
	s.quiet(t)
	free = fill(t, dir)
	s.d.kill()
	s.quiet(t) // opening the state needs no space
	s.d.kill()
	must(t, os.Rename(s.state, s.state+".old"))
	from = s.j.length()
	s.d = start(t, s.j, filepath.Join(bin, "kms-auditor"), s.config) // a new state needs no space until there is something to save
	s.fails(t, from, "no space left on device")
	free()
	s.j.kept(t, s.j.length())
	s.d.kill()
}

// refused fails the test unless the daemon says why it does not start, in one sentence, and exits with 2.
func (s *stage) refused(t *testing.T, why string) {
	t.Helper()
	d := launch(t, s.j, filepath.Join(bin, "kms-auditor"), "audit", "-c", s.config)
	<-d.done
	last := s.j.all()[s.j.length()-1].raw
	if code := d.cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(last, "opening state file") || !strings.Contains(last, why) {
		t.Errorf("it exits with %d and says %q", code, last)
	}
}

// readOnly makes the disk read-only, like a kernel that found a disk error.
func readOnly(t *testing.T) {
	dir, image := t.TempDir(), filepath.Join(t.TempDir(), "image")
	do := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v; it needs root, loop devices and e2fsprogs\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 16<<20))
	do("mkfs.ext4", "-q", image)
	do("mount", "-o", "loop", image, dir)
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	s := newStage(t, dir)
	s.deny(s.devices[2:3])
	s.start(t)
	from := s.j.length()
	do("mount", "-o", "remount,abort", dir)
	s.turns(t)
	s.fails(t, from, "read-only file system", "input/output error") // the write under way has the latter
	s.d.kill()
	s.refused(t, "read-only file system")

	do("umount", dir)
	do("sh", "-c", "e2fsck -p "+image+" || test $? -eq 1") // 1: errors were corrected
	do("mount", "-o", "loop", image, dir)
	s.start(t) // findings since then are logged again, because no state could be saved
	s.d.kill()
	s.quiet(t)
	s.d.kill()

	do("mount", "-o", "remount,ro", dir)
	s.refused(t, "read-only file system")
	do("mount", "-o", "remount,rw", dir)
	s.quiet(t)
	s.d.kill()
	if diff := cmp.Diff(len(s.now()), len(remembered(t, s.state))); diff != "" {
		t.Error(diff)
	}
}
