package main_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	main "github.com/kms-auditor/kms-auditor/cmd/kms-auditor"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestReplace has a file of a folder written, each time by another way.
func TestReplace(t *testing.T) {
	link := func(t *testing.T, to, from string) { must(t, os.Symlink(to, from)) }
	for _, row := range []struct {
		sentence string
		make     func(t *testing.T, dir string) // of "out", or of what leads to it
		to       string                         // the path that is written, in the folder
		want     string                         // the file that holds the text afterwards
		links    []string                       // what must still be a link
	}{
		{"a file that is not there yet", func(*testing.T, string) {}, "out", "out", nil},
		{"a link to a file", func(t *testing.T, dir string) {
			must(t, os.WriteFile(dir+"/file", []byte("old"), 0o600))
			link(t, "file", dir+"/middle")
			link(t, dir+"/middle", dir+"/out")
		}, "out", "file", []string{"out", "middle"}},
		{"a link to a file that is not there yet", func(t *testing.T, dir string) { link(t, "file", dir+"/out") }, "out", "file", []string{"out"}},
		{"a link in the middle, and back from there", func(t *testing.T, dir string) {
			must(t, os.MkdirAll(dir+"/a/b", 0o700))
			link(t, "a/b", dir+"/c")
		}, "c/../out", "a/out", []string{"c"}},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			dir := t.TempDir()
			row.make(t, dir)
			must(t, main.Replace(t.Context(), dir+"/"+row.to, "new"))
			if got, err := os.ReadFile(filepath.Join(dir, row.want)); string(got) != "new" {
				t.Errorf("%s holds %q (%v)", row.want, got, err)
			}
			for _, name := range row.links {
				stillLink(t, filepath.Join(dir, name))
			}
		})
	}
}

func stillLink(t *testing.T, path string) {
	t.Helper()
	if info, err := os.Lstat(path); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("%s is no link any more: %v", path, err)
	}
}

// TestReplaceDescriptor: a folder with links as /dev has them, to a descriptor of this process.
func TestReplaceDescriptor(t *testing.T) {
	needsProc(t)
	for _, sentence := range []string{"a file without a name", "a file that already holds something", "a socket"} {
		for _, way := range []string{"stdout", "fd"} {
			t.Run(sentence+" by "+way, func(t *testing.T) {
				dir := t.TempDir()
				var given int // replace closes it
				var read func() string
				if sentence == "a socket" {
					pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
					must(t, err)
					given = pair[0]
					peer := os.NewFile(uintptr(pair[1]), "peer")
					t.Cleanup(func() { peer.Close() })
					read = func() string { b, _ := io.ReadAll(peer); return string(b) }
				} else {
					file, err := os.Create(dir + "/file")
					must(t, err)
					t.Cleanup(func() { file.Close() })
					if sentence == "a file without a name" {
						must(t, os.Remove(file.Name()))
					} else {
						_, err = file.WriteString("head ")
						must(t, err)
					}
					given, err = syscall.Dup(int(file.Fd()))
					must(t, err)
					read = func() string {
						_, err := file.Seek(0, io.SeekStart)
						must(t, err)
						b, _ := io.ReadAll(file)
						return strings.TrimPrefix(string(b), "head ")
					}
				}
				must(t, os.Symlink("/proc/self/fd", dir+"/fd"))
				must(t, os.Symlink(fmt.Sprintf("/proc/self/fd/%d", given), dir+"/stdout"))
				path := dir + "/stdout"
				if way != "stdout" {
					path = fmt.Sprintf("%s/fd/%d", dir, given)
				}
				must(t, main.Replace(t.Context(), path, "new"))
				if got := read(); got != "new" {
					t.Errorf("it holds %q", got)
				}
				stillLink(t, dir+"/stdout")
				stillLink(t, dir+"/fd")
			})
		}
	}
}

func needsProc(t *testing.T) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("there is no /proc")
	}
}

func TestOutputsThatCannotBe(t *testing.T) {
	needsProc(t)
	dir := t.TempDir()
	must(t, os.Symlink("loop", dir+"/loop"))
	must(t, os.Symlink(dir+"/nowhere/file", dir+"/dangling"))
	must(t, os.Symlink("/dev/no-such-device", dir+"/device"))
	for path, want := range map[string]string{
		dir + "/loop":             "too many levels of symbolic links",
		dir + "/dangling":         "the folder does not exist",
		dir + "/device":           "no file is made in /dev or /proc",
		"/dev/no-such-device":     "no file is made in /dev or /proc",
		"/proc/self/fd/123456":    "no file is made in /dev or /proc",
		dir + "/new/":             "the folder does not exist",
		"/dev/stdout/report.json": "not a directory",
	} {
		if _, err := main.ParseOutputs([]string{"json=" + path}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("-o json=%s: %v, want %q", path, err, want)
		}
	}
	if _, err := main.ParseOutputs([]string{"json=/dev/null", "text=/dev/stderr", "prom=/dev/shm/report.prom"}); err != nil {
		t.Error(err)
	}
}

func TestReplaceFIFO(t *testing.T) {
	path := t.TempDir() + "/fifo"
	must(t, syscall.Mkfifo(path, 0o600))
	t.Run("a slow reader gets everything", func(t *testing.T) {
		text := strings.Repeat("0123456789abcdef", 1<<16)
		done := make(chan error, 1)
		go func() { done <- main.Replace(t.Context(), path, text) }()
		r, err := os.Open(path)
		must(t, err)
		defer r.Close()
		var got strings.Builder
		_, err = io.CopyBuffer(&got, struct{ io.Reader }{r}, make([]byte, 100))
		must(t, err)
		must(t, <-done)
		if got.String() != text {
			t.Errorf("it got %d bytes of %d", got.Len(), len(text))
		}
	})
	t.Run("without a reader it ends after the signal", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		err := main.Replace(ctx, path, "new")
		if took := time.Since(began); err == nil || !strings.Contains(err.Error(), "interrupted") || took > 4*time.Second {
			t.Errorf("after %s: %v", took, err)
		}
		r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // frees the goroutine
		must(t, err)
		r.Close()
	})
}
