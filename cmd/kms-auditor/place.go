package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// place is the destination of an output, or a file that outputs must not overwrite.
type place struct {
	path    string
	real    string      // path with all links followed
	info    fs.FileInfo // nil if nothing is there yet
	inPlace bool        // it is opened and written to, never replaced
	what    string      // why no output may take it: "the path is …"
}

// find follows path. Only a regular file may be replaced. A link of the kernel, as at the end of /dev/stdout, is not followed to a
// name: the name that it shows may be that of another file.
func find(path string) (place, error) {
	p := place{path: path}
	var err error
	if p.info, err = os.Stat(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p, cause(err)
	}
	var kernels bool
	p.real, kernels, err = follow(path)
	switch {
	case p.info != nil:
		there, unseen := os.Lstat(p.real)
		p.inPlace = kernels || err != nil || unseen != nil || !there.Mode().IsRegular() || !os.SameFile(p.info, there)
		return p, nil
	case errors.Is(err, fs.ErrNotExist):
		return p, errors.New("the folder does not exist")
	case err != nil:
		return p, cause(err)
	case kernels:
		return p, errors.New("it does not exist, and no file is made in /dev or /proc")
	}
	return p, nil
}

const maxLinks = 40

// descriptors is the folder of this process's own file descriptors.
var descriptors = fmt.Sprintf("/proc/%d/fd/", os.Getpid())

// follow resolves every link in path. The last name need not exist. It reports whether the path leads through names of the kernel
// in /dev or /proc, and does not follow descriptors of this process.
func follow(path string) (real string, kernels bool, err error) {
	if !filepath.IsAbs(path) {
		dir, err := os.Getwd()
		if err != nil {
			return "", false, err
		}
		path = dir + "/" + path
	}
	real = "/"
	rest := strings.Split(path, "/")
	for links := 0; len(rest) > 0; {
		next := filepath.Join(real, rest[0])
		rest = rest[1:]
		// /dev/shm is a disk in memory.
		kernels = kernels || strings.HasPrefix(next, "/proc/") || strings.HasPrefix(next, "/dev/") && !strings.HasPrefix(next+"/", "/dev/shm/")
		if len(rest) == 0 && strings.HasPrefix(next, descriptors) {
			return next, true, nil
		}
		info, err := os.Lstat(next)
		if err != nil {
			if kernels || len(rest) == 0 && errors.Is(err, fs.ErrNotExist) {
				return next, kernels, nil
			}
			return "", false, err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			real = next
			continue
		}
		to, err := os.Readlink(next)
		if links++; err == nil && links > maxLinks {
			err = errors.New("too many links")
		}
		if err != nil {
			return "", kernels, err
		}
		if filepath.IsAbs(to) {
			real = "/"
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	return real, kernels, nil
}

// same reports whether two places are the same file, by name or by hard link. Character devices, such as terminals and /dev/null, may
// be used twice: nothing is overwritten there.
func (p place) same(q place) bool {
	return p.real == q.real || p.info != nil && q.info != nil && p.info.Mode()&fs.ModeCharDevice == 0 && os.SameFile(p.info, q.info)
}

// cause returns err without the path, which the message names already.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// replace writes a regular file atomically, and keeps its mode and the links to it. Anything else, such as a pipe, is written to in
// place.
func replace(ctx context.Context, path string, write func(io.Writer) error) error {
	p, err := find(path)
	if err != nil {
		return fmt.Errorf("%s: %w", sanitize.Quote(path), err)
	}
	if p.inPlace {
		return await(ctx, path, func() error {
			file, err := p.open()
			if err != nil {
				return err
			}
			return errors.Join(buffered(file, write), file.Close())
		})
	}
	tmp, err := os.OpenFile(filepath.Join(filepath.Dir(p.real), "."+filepath.Base(p.real)+"."+rand.Text()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if p.info != nil {
		err = tmp.Chmod(p.info.Mode().Perm())
	}
	if err = errors.Join(err, buffered(tmp, write), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), p.real)
}

// open opens the existing file. A descriptor of this process is used itself: opening it again fails for sockets and files of other
// users, and truncates a file.
func (p place) open() (io.WriteCloser, error) {
	name, own := strings.CutPrefix(p.real, descriptors)
	fd, err := strconv.ParseUint(name, 10, 31)
	switch {
	case !own || err != nil:
		return os.OpenFile(p.path, os.O_WRONLY|os.O_TRUNC, 0)
	case fd == 1:
		return unclosed{os.Stdout}, nil
	case fd == 2:
		return unclosed{os.Stderr}, nil
	default:
		return os.NewFile(uintptr(fd), p.path), nil
	}
}

type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }

// buffered writes in large pieces.
func buffered(to io.Writer, write func(io.Writer) error) error {
	w := bufio.NewWriterSize(to, 1<<16)
	return errors.Join(write(w), w.Flush())
}

// grace is how long a read or write may go on after the first SIGINT or SIGTERM.
const grace = 2 * time.Second

// await calls f, which reads or writes the path, and abandons it a while after ctx ended. Nothing else can end it: a pipe without
// another end blocks even the opening, and with O_NONBLOCK a writer that is still to come looks like one that has gone. The
// process exits next.
func await(ctx context.Context, path string, f func() error) error {
	done, late := make(chan error, 1), make(chan struct{})
	go func() { done <- f() }()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, func() { close(late) }) })
	defer stop()
	select {
	case err := <-done:
		return err
	case <-late:
		return fmt.Errorf("%s: interrupted while waiting for its other end", sanitize.Quote(path))
	}
}
