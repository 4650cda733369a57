package history

import (
	"bytes"
	"errors"
	"io"
	"os"
	"time"
)

const viewTries = 5

var (
	errView = errors.New("the state is only being looked at")
	errBusy = errors.New("it is being written to again and again")
)

// View returns what the file at path remembers now, whether a process holds it or not: it takes no lock, changes
// nothing and leaves nothing behind. The Store takes no changes.
func View(path string) (*Store, error) {
	s := &Store{path: path, broken: errView, targets: map[Target]*target{}, roll: roll{}}
	held, err := view(path)
	if err == nil {
		err = s.load(held)
	}
	if err != nil {
		return nil, opening(path, err)
	}
	return s, nil
}

func view(path string) (map[string][]record, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // a pipe would be waited for
		return nil, errNoFile
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for try := 1; ; try++ {
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		held, err := snapshot(f, info.Size())
		if err == nil || try == viewTries {
			return held, err
		}
		time.Sleep(lockPause)
	}
}

// snapshot reads f as one transaction left it. What one transaction wrote, the next leaves alone, and the one after it
// may not: so the file is one piece where its meta pages are afterwards what they were.
func snapshot(f io.ReaderAt, size int64) (map[string][]record, error) {
	b, err := readAll(f, size)
	if err != nil || len(b) == 0 || unborn(b) {
		return nil, err
	}
	metas := make([]byte, min(2*pageSize, len(b)))
	if _, err := f.ReadAt(metas, 0); err != nil {
		return nil, err
	}
	if !bytes.Equal(metas, b[:len(metas)]) {
		return nil, errBusy
	}
	return readPages(b)
}
