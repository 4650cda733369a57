package state_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/state"
)

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	must(t, os.WriteFile(path, b, 0o600))
}

func view(t testing.TB, path string) *state.State {
	t.Helper()
	s, err := state.View(path)
	must(t, err)
	return s
}

// sample returns a file with everything in it.
func sample(t testing.TB) []byte {
	t.Helper()
	path := file(t)
	s := open(t, path)
	for to := uint64(110); to < 200; to += 30 {
		scan(t, s, kms, to)
		scan(t, s, other, to)
	}
	must(t, s.Rewind(other, 120, blockHash(120)))
	l := life{t: t, path: path, state: s}
	l.audit("match", noon)
	l.audit("drift", noon.Add(time.Minute))
	l.audit("taken", noon.Add(2*time.Minute))
	l.audit("down", noon.Add(3*time.Minute))
	must(t, s.Apply(forget(kms), nil))
	l.audit("drift", noon.Add(4*time.Minute))
	must(t, s.Close())
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

// body is where the packed content of a file begins.
func body(b []byte) int { return bytes.IndexByte(b, '\n') + 1 + sha256.Size }

// sign corrects the checksum of a file, so that the damage behind it is found.
func sign(b []byte) []byte {
	sum := sha256.Sum256(b[body(b):])
	copy(b[body(b)-sha256.Size:], sum[:])
	return b
}

func TestEverythingOutlivesTheProcess(t *testing.T) {
	path := file(t)
	write(t, path, sample(t))
	s := open(t, path)
	want := read(s)
	if len(want.Events) != 2 || len(want.Resolved) != 2 || len(want.Prior["base"].Open) != 1 || len(want.Forgotten) != 1 || len(want.Compared) != 1 {
		t.Error("the sample lacks something")
	}
	if diff := differ(want, read(view(t, path))); diff != "" {
		t.Error(diff)
	}
	scan(t, s, kms, 300)
	want = read(s)
	must(t, s.Close())
	if diff := differ(want, read(open(t, path))); diff != "" {
		t.Error(diff)
	}
}

func TestUnusableFilesAreRefused(t *testing.T) {
	whole := sample(t)
	flipped := slices.Clone(whole)
	flipped[len(flipped)-40] ^= 1
	for _, tt := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"a text", []byte("chains: []\n"), "is not a state file of kms-auditor"},
		{"a long text", []byte(strings.Repeat("chains: []\n", 2000)), "is not a state file of kms-auditor"},
		{"zeros", make([]byte, 1<<15), "is not a state file of kms-auditor"},
		{"a file of no version", []byte("kms-auditor state \x1b[2J\n"), "is not a state file of kms-auditor"},
		{"a newer version's file", []byte("kms-auditor state 4\n..."), "was written by a newer version (schema 4; this one reads schema 3)"},
		{"one line", whole[:20], "is damaged (it does not match its checksum)"},
		{"a file that was cut short", whole[:len(whole)-1], "is damaged (it does not match its checksum)"},
		{"a byte that changed", flipped, "is damaged (it does not match its checksum)"},
		{"a file with more at its end", append(slices.Clone(whole), 0), "is damaged (it does not match its checksum)"},
		{"what is not packed", sign(append(slices.Clone(whole[:body(whole)]), "{}"...)), "is damaged (unexpected EOF)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := file(t)
			write(t, path, tt.content)
			_, opening := state.Open(path)
			_, viewing := state.View(path)
			for _, err := range []error{opening, viewing} {
				if err == nil {
					t.Fatal("it was opened")
				}
				text := err.Error()
				if !strings.HasPrefix(text, "state file "+path+" ") || !strings.Contains(text, tt.want) ||
					!strings.Contains(text, "--state-reset") || strings.Contains(text, "\n") {
					t.Errorf("the error is %q, want %q in it", text, tt.want)
				}
			}
			if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, tt.content) {
				t.Errorf("the file was changed (%v)", err)
			}
			aside, err := state.ResetFile(path)
			must(t, err)
			if _, err := os.Stat(aside); err != nil || filepath.Dir(aside) != filepath.Dir(path) {
				t.Errorf("the file is not beside itself, but at %s (%v)", aside, err)
			}
			scan(t, open(t, path), kms, 199)
		})
	}
	t.Run("a file that is far too large", func(t *testing.T) {
		path := file(t)
		write(t, path, whole)
		must(t, os.Truncate(path, 1<<30+1))
		if _, err := state.Open(path); err == nil || !strings.Contains(err.Error(), "has 1073741825 bytes, want at most 1073741824; --state-reset") {
			t.Error(err)
		}
	})
}

func TestWhatIsNotAFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing", "state.db")
	for _, path := range []string{dir, missing} {
		if _, err := state.Open(path); err == nil || !strings.HasPrefix(err.Error(), "opening state file "+path+": ") {
			t.Errorf("opening %s: %v", path, err)
		}
		if _, err := state.View(path); err == nil || errors.Is(err, fs.ErrNotExist) != (path == missing) {
			t.Errorf("viewing %s: %v", path, err)
		}
	}
	if _, err := state.ResetFile(dir); err == nil {
		t.Error("a folder was moved")
	}
	if aside, err := state.ResetFile(missing); aside != "" || err != nil {
		t.Errorf("resetting nothing: %q, %v", aside, err)
	}
	path := file(t)
	write(t, path, nil)
	if diff := differ(read(open(t, "")), read(open(t, path))); diff != "" {
		t.Errorf("an empty file knows: %s", diff)
	}
}

func TestTheFileKeepsItsPlaceAndMode(t *testing.T) {
	path := file(t)
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(path, link)) // it leads nowhere yet
	s := open(t, link)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file is made before anything is known (%v)", err)
	}
	scan(t, s, kms, 110)
	must(t, s.Save())
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Fatalf("its mode is %v (%v)", info, err)
	}
	must(t, os.Chmod(path, 0o640))
	scan(t, s, kms, 120)
	must(t, s.Save())
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("its mode is %v (%v)", info, err)
	}
	if to, err := os.Readlink(link); to != path {
		t.Errorf("the link leads to %q (%v)", to, err)
	}
	if _, err := state.Open(path); !errors.As(err, new(*state.HeldError)) {
		t.Errorf("it is held by another name, and opened: %v", err)
	}
}

func TestViewOfAHeldFile(t *testing.T) {
	path := file(t)
	s := open(t, path)
	scan(t, s, kms, 199)
	must(t, s.Save())
	for _, more := range []uint64{250, 300} {
		v := view(t, path)
		if diff := differ(read(s), read(v)); diff != "" {
			t.Error(diff)
		}
		scan(t, v, kms, 400)
		if err := v.Save(); err == nil || !strings.Contains(err.Error(), "the state is read-only") {
			t.Errorf("a view was saved: %v", err)
		}
		must(t, v.Close())
		scan(t, s, kms, more)
		must(t, s.Save())
	}
	must(t, s.Close())
	if err := s.Append(kms, 301, 301, blockHash(301), eventsOf(301, 301)); err != nil || s.Save() == nil {
		t.Errorf("a closed state was saved (%v)", err)
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	if diff := gocmp.Diff([]string{path, path + ".lock"}, left); diff != "" {
		t.Errorf("what is left: %s", diff)
	}
}

// TestViewBesideAWriter looks at a file in which another process never stops to write.
func TestViewBesideAWriter(t *testing.T) {
	path := file(t)
	_, out := child(t, "rewrite", path)
	if line, err := out.ReadString('\n'); line != "started\n" {
		t.Fatal(line, err)
	}
	for seen := map[string]bool{}; len(seen) < 20; {
		all := view(t, path).Last()
		for _, c := range all {
			if c.Policy != all[0].AuditID {
				t.Fatalf("audit %s has a chain of audit %s", all[0].AuditID, c.Policy)
			}
		}
		seen[all[0].AuditID] = true
	}
}

// child starts this test binary in another role and returns its output.
func child(t *testing.T, role, path string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "STATE_CHILD="+role, "STATE_PATH="+path)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	return cmd, bufio.NewReader(out)
}

func TestSecondProcessIsToldOfTheFirst(t *testing.T) {
	path := file(t)
	write(t, path, sample(t))
	cmd, out := child(t, "hold", path)
	if line, err := out.ReadString('\n'); line != "<nil>\n" {
		t.Fatal(line, err)
	}
	who := regexp.MustCompile("another process")
	if runtime.GOOS == "linux" {
		who = regexp.MustCompile(fmt.Sprintf(`\bprocess %d has it open\b`, cmd.Process.Pid))
	}
	_, opening := state.Open(path)
	_, resetting := state.ResetFile(path)
	for _, err := range []error{opening, resetting} {
		held, ok := errors.AsType[*state.HeldError](err)
		if !ok || !who.MatchString(err.Error()) || !strings.Contains(err.Error(), path) || runtime.GOOS == "linux" && held.PID != fmt.Sprint(cmd.Process.Pid) {
			t.Errorf("the error is %v, want %s", err, who)
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	open(t, path)
}

// TestKilledAtAnyMoment kills a process that appends and saves, twenty times, and continues where it was.
func TestKilledAtAnyMoment(t *testing.T) {
	path := file(t)
	var next uint64
	for range 20 {
		cmd, out := child(t, "append", path)
		said, lines := next, rand.IntN(40)
		for n := 0; ; n++ {
			if n == lines {
				cmd.Process.Kill() // while it goes on
			}
			line, err := out.ReadString('\n')
			if err != nil {
				break
			}
			if n, err := strconv.ParseUint(strings.TrimSpace(line), 10, 64); err == nil {
				said = n
			} else if line != "started\n" {
				t.Fatal(line)
			}
		}
		cmd.Wait()
		s := open(t, path)
		p, _ := s.Progress(kms)
		if p.Next < said || p.Next < next {
			t.Fatalf("it said %d and the file goes on at %d", said, p.Next)
		}
		if next = p.Next; next > 0 {
			want := state.Progress{From: first, Next: next, Hash: blockHash(next - 1)}
			if diff := gocmp.Diff(want, p); diff != "" {
				t.Fatal(diff)
			}
			if want := eventsOf(first, next-1); !slices.Equal(want, s.Events(kms)) {
				t.Fatal(gocmp.Diff(want, s.Events(kms)))
			}
		}
		must(t, s.Close())
	}
	if next <= first+100 {
		t.Errorf("it came to block %d only", next)
	}
	if left, _ := filepath.Glob(path + "*"); len(left) > 3 { // the file, its lock, and what a kill left of a snapshot
		t.Errorf("what is left: %q", left)
	}
}

// TestCheckpointsOfALongScan saves progress without events, but not too often.
func TestCheckpointsOfALongScan(t *testing.T) {
	path := file(t)
	s := open(t, path)
	saved, last, n := 0, uint64(0), uint64(0)
	for ; n < 2000 || saved < 2 && n < 1_000_000; n++ { // a slow disk makes saves rarer
		must(t, s.Append(kms, n, n, blockHash(n), nil))
		s.Checkpoint()
		if p, _ := view(t, path).Progress(kms); p.Next != last {
			saved, last = saved+1, p.Next
		}
	}
	if saved < 2 || saved == int(n) {
		t.Errorf("of %d pieces, %d were saved at once", n, saved)
	}
}
