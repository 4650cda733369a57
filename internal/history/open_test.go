package history_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/kms-auditor/kms-auditor/internal/history"
)

// edit changes a state file as another program would.
func edit(t *testing.T, path string, change func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(change); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func schema(n string) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error { return tx.Bucket([]byte("kms-auditor")).Put([]byte("schema"), []byte(n)) }
}

func TestUnusableFilesAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, path string) // a file with events of both targets
		want  string
	}{
		{"a text", func(t *testing.T, path string) { write(t, path, []byte("chains: []\n")) }, "is damaged (it is cut short)"},
		{"a long text", func(t *testing.T, path string) { write(t, path, []byte(strings.Repeat("chains: []\n", 2000))) }, "is no state file of kms-auditor"},
		{"zeros", func(t *testing.T, path string) { write(t, path, make([]byte, 1<<15)) }, "is no state file of kms-auditor"},
		{"a file of one page", func(t *testing.T, path string) { os.Truncate(path, 4096) }, "is damaged (it is cut short)"},
		{"a file of three pages", func(t *testing.T, path string) { os.Truncate(path, 3*4096) }, "is damaged (it is cut short to 12288 bytes of"},
		{"a file without its last pages", func(t *testing.T, path string) { os.Truncate(path, 5*4096) }, "is damaged (it is cut short to 20480 bytes of"},
		{"a file that is far too large", func(t *testing.T, path string) { os.Truncate(path, 1<<30+1) }, "has 1073741825 bytes, want at most 1073741824"},
		{"another program's database", func(t *testing.T, path string) {
			os.Remove(path)
			edit(t, path, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("meta")); return err })
		}, "is a database of another program"},
		{"another program's database of other pages", func(t *testing.T, path string) {
			os.Remove(path)
			db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: 8192})
			if err != nil {
				t.Fatal(err)
			}
			db.Close()
		}, "is no state file of kms-auditor"},
		{"a newer version's file", func(t *testing.T, path string) { edit(t, path, schema("3")) }, "was written by a newer version (schema 3, this one reads 2)"},
		{"a file of no version", func(t *testing.T, path string) { edit(t, path, schema("\x1b[2J")) }, `is damaged (its schema is "\x1b[2J")`},
		{"a file without events", func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("events")) })
		}, "is damaged (it has no events)"},
		{"a file with one event less", func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error {
				c := tx.Bucket([]byte("events")).Cursor()
				c.First()
				return c.Delete()
			})
		}, "events where it counted"},
		{"a file without progress", func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error {
				c := tx.Bucket([]byte("progress")).Cursor()
				c.First()
				return c.Delete()
			})
		}, "is damaged (its records are not those that it counted)"},
		{"a file with one blob less", func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error {
				c := tx.Bucket([]byte("blobs")).Cursor()
				c.First()
				return c.Delete()
			})
		}, "is damaged (its records are not those that it counted)"},
		{"one chain's record under another chain", func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error {
				b := tx.Bucket([]byte("progress"))
				first, _ := b.Cursor().First()
				last, _ := b.Cursor().Last()
				return b.Put(append([]byte{}, first...), append([]byte{}, b.Get(last)...))
			})
		}, "a record does not match its checksum"},
		{"a record of no target", func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("blobs")).Put([]byte("x"), []byte("y")) })
		}, "a record has the wrong form"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := file(t)
			s := open(t, path)
			scan(t, s, kms, 199)
			scan(t, s, other, 150)
			if err := s.Save(kms, "audit", []byte("{}")); err != nil {
				t.Fatal(err)
			}
			s.Close()
			tt.spoil(t, path)
			_, err := history.Open(path)
			if err == nil {
				t.Fatal("it was opened")
			}
			text := err.Error()
			if !strings.HasPrefix(text, "state file "+path+" ") || !strings.Contains(text, tt.want) ||
				!strings.Contains(text, "--state-reset") || strings.Contains(text, "\n") {
				t.Errorf("the error is %q, want %q in it", text, tt.want)
			}
			aside, err := history.ResetFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(aside); err != nil || filepath.Dir(aside) != filepath.Dir(path) {
				t.Errorf("the file is not beside itself, but at %s (%v)", aside, err)
			}
			scan(t, open(t, path), kms, 199)
		})
	}
}

func TestWhatIsNoFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "missing", "state.db"), os.DevNull} {
		if _, err := history.Open(path); err == nil || !strings.HasPrefix(err.Error(), "opening state file "+path+": ") {
			t.Errorf("opening %s: %v", path, err)
		}
		if path == filepath.Join(dir, "missing", "state.db") {
			if aside, err := history.ResetFile(path); aside != "" || err != nil {
				t.Errorf("resetting %s: %q, %v", path, aside, err)
			}
		} else if _, err := history.ResetFile(path); err == nil {
			t.Errorf("%s was moved", path)
		}
	}
}

func TestFileIsPrivate(t *testing.T) {
	path := file(t)
	open(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("its mode is %v (%v)", info.Mode(), err)
	}
}

// TestUnbornFilesAreBorn cuts a new file where a kill in the middle of its creation would.
func TestUnbornFilesAreBorn(t *testing.T) {
	path := file(t)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	for _, size := range []int64{4 * 4096, 3 * 4096, 2 * 4096, 4096, 0} {
		cut := fmt.Sprintf("%s.%d", path, size)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, cut, b[:size])
		scan(t, open(t, cut), kms, 199)
	}
}

// child starts this test binary in another role and returns its output.
func child(t *testing.T, role, path string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "HISTORY_CHILD="+role, "HISTORY_PATH="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	return cmd, bufio.NewReader(out)
}

func TestSecondProcessIsToldOfTheFirst(t *testing.T) {
	path := file(t)
	cmd, out := child(t, "hold", path)
	if line, err := out.ReadString('\n'); line != "<nil>\n" {
		t.Fatal(line, err)
	}
	who := regexp.MustCompile("another process")
	if runtime.GOOS == "linux" {
		who = regexp.MustCompile(fmt.Sprintf(`\bprocess %d holds it\b`, cmd.Process.Pid))
	}
	_, opening := history.Open(path)
	_, resetting := history.ResetFile(path)
	for _, err := range []error{opening, resetting} {
		if err == nil || !who.MatchString(err.Error()) || !strings.Contains(err.Error(), path) {
			t.Errorf("the error is %v, want %s", err, who)
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	open(t, path)
}

func TestFileBrokenUnderTheStore(t *testing.T) {
	path := file(t)
	s := open(t, path)
	scan(t, s, kms, 5000)
	before := read(s)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Append(kms, 5001, 5001, blockHash(5001), eventsOf(5001, 5001)); err == nil || !strings.Contains(err.Error(), "--state-reset") {
			t.Errorf("the error is %v", err)
		}
	}
	if diff := differ(before, read(s)); diff != "" {
		t.Error(diff)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestClosedStoreTakesNothing(t *testing.T) {
	s := open(t, file(t))
	s.Close()
	if err := s.Append(kms, 1, 1, blockHash(1), nil); err == nil || !strings.HasPrefix(err.Error(), "writing state file") {
		t.Errorf("the error is %v", err)
	}
}
