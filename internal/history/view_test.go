package history_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/internal/history"
)

func view(t testing.TB, path string) *history.Store {
	t.Helper()
	s, err := history.View(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestEarlierFileOpens reads a file that was written when the store kept events and nothing else.
func TestEarlierFileOpens(t *testing.T) {
	f, err := os.Open("testdata/schema1.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	path := file(t)
	write(t, path, b)
	want := open(t, "")
	scan(t, want, kms, 110)
	scan(t, want, other, 105)
	if err := want.Save(kms, "audit", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if diff := differ(read(want), read(view(t, path))); diff != "" {
		t.Error(diff)
	}
	s := open(t, path)
	if diff := differ(read(want), read(s)); diff != "" {
		t.Error(diff)
	}
	scan(t, s, kms, 120)
	s.Close()
	scan(t, open(t, path), kms, 130)
}

func TestSaveAllIsOneChange(t *testing.T) {
	path := file(t)
	s := open(t, path)
	none := history.Target{}
	if err := s.SaveAll(history.Blob{Target: none, Name: "a", Data: []byte("1")}, history.Blob{Target: none, Name: "b", Data: []byte("2")}); err != nil {
		t.Fatal(err)
	}
	if err := s.SaveAll(history.Blob{Target: none, Name: "a"}, history.Blob{Target: none, Name: "b", Data: []byte("3")}); err != nil {
		t.Fatal(err)
	}
	if err := s.SaveAll(history.Blob{Target: none, Name: "b"}, history.Blob{Target: none}); err == nil {
		t.Error("a blob without a name was saved")
	}
	s.Close()
	s = open(t, path)
	_, a := s.Load(none, "a")
	b, _ := s.Load(none, "b")
	if a || string(b) != "3" {
		t.Errorf("there is a: %t, and b is %q, want 3", a, b)
	}
	if got := s.Targets(); len(got) != 0 {
		t.Errorf("what is about no contract makes the targets %v", got)
	}
}

func TestViewOfAHeldFile(t *testing.T) {
	path := file(t)
	s := open(t, path)
	scan(t, s, kms, 199)
	for _, more := range []uint64{250, 300} {
		v := view(t, path)
		if diff := differ(read(s), read(v)); diff != "" {
			t.Error(diff)
		}
		if v.Save(kms, "audit", []byte("x")) == nil || v.Append(kms, 200, 200, blockHash(200), nil) == nil {
			t.Error("a view was written to")
		}
		v.Close()
		scan(t, s, kms, more)
	}
	s.Close()
	if diff := differ(read(s), read(view(t, path))); diff != "" {
		t.Errorf("a file that nobody holds: %s", diff)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(left) != 1 {
		t.Errorf("a view leaves %q", left)
	}
}

func TestWhatCannotBeViewed(t *testing.T) {
	dir := t.TempDir()
	put := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		write(t, path, b)
		return path
	}
	whole := sample(t)
	newer := put("newer", whole)
	edit(t, newer, schema("3"))
	torn := slices.Clone(whole)
	copy(torn[5*page:], torn[6*page:7*page])
	for _, tt := range []struct{ sentence, path, want string }{
		{"a file of a newer version", newer, "was written by a newer version (schema 3, this one reads 2); --state-reset"},
		{"a torn file", put("torn", torn), "is damaged (page 5 says it is page 6)"},
		{"a text", put("text", []byte("chains: []")), "is damaged (it is cut short)"},
		{"a folder", dir, "it is no regular file"},
		{"no file", filepath.Join(dir, "missing"), "no such file"},
	} {
		_, err := history.View(tt.path)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.path) {
			t.Errorf("%s: the error is %v, want %q in it", tt.sentence, err, tt.want)
		}
		if tt.sentence == "no file" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v does not say so to programs", err)
		}
	}
	if diff := differ(read(open(t, "")), read(view(t, put("empty", nil)))); diff != "" {
		t.Errorf("an empty file knows: %s", diff)
	}
}

// torn is a file of which the first page read is of an earlier moment than all else.
type torn struct {
	before, after []byte
	reads         int
}

func (f *torn) ReadAt(b []byte, at int64) (int, error) {
	n := copy(b, f.after[at:])
	if f.reads++; f.reads == 1 {
		copy(b[:2*page], f.before)
	}
	return n, nil
}

// TestTornReadsAreNoticed puts the head of one moment before the body of each of the following ones. Some such files
// make sense, and were never there.
func TestTornReadsAreNoticed(t *testing.T) {
	path := file(t)
	s := open(t, path)
	var moments [][]byte
	for n := range 40 {
		for i := range uint64(30) {
			to := history.Target{ChainID: i}
			if n == 0 || i == uint64(n%30) {
				if err := s.Save(to, "audit", bytes.Repeat([]byte{byte(n)}, 500)); err != nil {
					t.Fatal(err)
				}
			}
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		moments = append(moments, b)
	}
	sensible := 0
	for i, before := range moments {
		for _, after := range moments[i+1:] {
			if err := history.Snapshot(&torn{before: before, after: after}, int64(len(after))); err == nil {
				t.Fatal("a torn file was believed")
			}
			mixed := slices.Concat(before[:2*page], after[2*page:])
			if history.Snapshot(bytes.NewReader(mixed), int64(len(mixed))) == nil {
				sensible++
			}
		}
	}
	if t.Logf("%d torn files make sense", sensible); sensible == 0 {
		t.Error("nothing was tried")
	}
}

// TestViewBesideAWriter looks at a file in which another process never stops to write, the same into every record.
func TestViewBesideAWriter(t *testing.T) {
	path := file(t)
	_, out := child(t, "rewrite", path)
	if line, err := out.ReadString('\n'); line != "started\n" {
		t.Fatal(line, err)
	}
	views, busy := map[string]int{}, 0
	for len(views) < 20 && busy < 200 {
		v, err := history.View(path)
		if err != nil {
			if !strings.Contains(err.Error(), "it is being written to again and again") {
				t.Fatal(err)
			}
			busy++
			continue
		}
		a, _ := v.Load(history.Target{ChainID: 0}, "audit")
		for i := range uint64(200) {
			if b, _ := v.Load(history.Target{ChainID: i}, "audit"); len(a) == 0 || !bytes.Equal(a, b) {
				t.Fatalf("records begin with %x and %x", a[:2], b[:2])
			}
		}
		views[string(a)]++
	}
	t.Logf("%d views, %d times it was written to again and again", len(views), busy)
	if len(views) < 20 {
		t.Errorf("%d views, and %d times none", len(views), busy)
	}
}

func TestHolderIsNamedToPrograms(t *testing.T) {
	path := file(t)
	cmd, out := child(t, "hold", path)
	if line, err := out.ReadString('\n'); line != "<nil>\n" {
		t.Fatal(line, err)
	}
	_, err := history.Open(path)
	held, ok := errors.AsType[*history.HeldError](err)
	if !ok || runtime.GOOS == "linux" && held.PID != fmt.Sprint(cmd.Process.Pid) {
		t.Errorf("the error is %v, want process %d", err, cmd.Process.Pid)
	}
}
