package history

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/kms-auditor/kms-auditor/internal/quote"
)

// maxSize of the file, in bytes: some two million events. Read at once by Open, and not exceeded by what is written.
const maxSize = 1 << 30

// refusal is the sentence about a file that cannot be used, and what to do.
func refusal(path string, why error) error {
	return fmt.Errorf("state file %s %w; --state-reset moves it aside and rebuilds it", quote.Plain(path), why)
}

// Open opens the file at path for this process alone, and creates it where there is none; an empty path is a store in
// memory. A file that is damaged, not this program's, or of a newer version is refused, and where another process holds
// it the error is a *HeldError.
func Open(path string) (*Store, error) {
	s := &Store{path: path, targets: map[Target]*target{}, roll: roll{}}
	if path == "" {
		return s, nil
	}
	var held map[string][]record
	_, err := guard(func() (err error) {
		s.db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			OpenFile: func(path string, flag int, mode fs.FileMode) (f *os.File, err error) {
				f, held, err = openChecked(path, flag, mode)
				return f, err
			},
			PageSize:     pageSize,
			MaxSize:      maxSize,
			Timeout:      lockWait,
			NoStatistics: true,
		})
		if err == nil && len(held) == 0 {
			return s.db.Update(create)
		}
		return err
	})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		err = &HeldError{}
	}
	if err == nil {
		err = s.load(held)
	}
	if err != nil {
		if err = opening(path, err); s.db != nil {
			err = errors.Join(err, s.db.Close())
		}
		return nil, err
	}
	return s, nil
}

// opening says what it was that went wrong.
func opening(path string, err error) error {
	if why := (*unusable)(nil); errors.As(err, &why) {
		return refusal(path, why)
	}
	return fmt.Errorf("opening state file %s: %w", quote.Plain(path), err)
}

// unusable is why a file's content cannot be used, to follow its name in a sentence.
type unusable struct{ why string }

func (e *unusable) Error() string { return e.why }

var errForeign = &unusable{"is a database of another program"}

func damaged(format string, args ...any) error {
	return &unusable{"is damaged (" + fmt.Sprintf(format, args...) + ")"}
}

// guard calls f and turns a panic into an error: bbolt panics where its pages make no sense, and reading them faults
// where the file was cut short under it, or the disk fails.
func guard(f func() error) (crashed bool, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			crashed, err = true, damaged("%s", quote.Plain(fmt.Sprint(v)))
		}
	}()
	return false, f()
}

// openChecked opens, locks and reads a file before bbolt looks at it: bbolt believes every page, and follows a wrong
// one to the process's end. Its own lock is the same one again.
func openChecked(path string, flag int, mode fs.FileMode) (*os.File, map[string][]record, error) {
	f, err := openLocked(path, flag, mode)
	if err != nil {
		return nil, nil, err
	}
	held, err := readFile(f)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, held, nil
}

func openLocked(path string, flag int, mode fs.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, flag, mode)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNoFile
	}
	if err == nil {
		err = lock(f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

var errNoFile = errors.New("it is no regular file")

// readFile reads what the file holds, and empties one that was killed before it was born.
func readFile(f *os.File) (map[string][]record, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b, err := readAll(f, info.Size())
	if err != nil || len(b) == 0 {
		return nil, err
	}
	if unborn(b) {
		return nil, f.Truncate(0)
	}
	return readPages(b)
}

func readAll(f io.ReaderAt, size int64) ([]byte, error) {
	if size > maxSize {
		return nil, &unusable{fmt.Sprintf("has %d bytes, want at most %d", size, maxSize)}
	}
	b := make([]byte, size)
	_, err := f.ReadAt(b, 0)
	return b, err
}

// load takes over what a file held; one without any bucket is new.
func (s *Store) load(held map[string][]record) error {
	if len(held) == 0 {
		return nil
	}
	about, ours := held[aboutBucket]
	if !ours {
		return errForeign
	}
	told := map[string][]byte{}
	for _, r := range about {
		told[string(r.key)] = r.value
	}
	written := string(told[schemaKey])
	n, err := strconv.ParseUint(written, 10, 32)
	if err != nil || n == 0 {
		return damaged("its schema is %s", quote.Cut(written))
	}
	if n > schema {
		return &unusable{fmt.Sprintf("was written by a newer version (schema %d, this one reads %d)", n, schema)}
	}
	for _, b := range []struct {
		name string
		read func(t Target, known *target, key, value []byte) error
	}{{eventBucket, loadEvent}, {progressBucket, loadProgress}, {blobBucket, loadBlob}} {
		records, ok := held[b.name]
		if !ok {
			return damaged("it has no %s", b.name)
		}
		for _, r := range records {
			t, err := readTargetKey(r.key)
			if err != nil {
				return damaged("%v", err)
			}
			known := s.of(t)
			s.targets[t] = known
			if err := b.read(t, known, r.key, r.value); err != nil {
				return damaged("%v", err)
			}
			s.roll.call(b.name, r.key, r.value)
		}
	}
	if n > 1 && !bytes.Equal(told[rollKey], s.roll.seal()[0].value) {
		return damaged("its records are not those that it counted")
	}
	return nil
}

func create(tx *bbolt.Tx) error {
	for _, name := range []string{aboutBucket, eventBucket, progressBucket, blobBucket} {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return err
		}
	}
	for _, c := range (roll{}).seal() {
		if err := c.apply(tx); err != nil {
			return err
		}
	}
	return nil
}

func loadEvent(_ Target, known *target, key, value []byte) error {
	e, tally, err := readEvent(key, value)
	if err != nil {
		return err
	}
	known.push([]Event{e})
	known.tally ^= tally
	return nil
}

func loadProgress(_ Target, known *target, key, value []byte) (err error) {
	known.progress, err = readProgress(key, value, known.events, known.tally)
	return err
}

func loadBlob(_ Target, known *target, key, value []byte) error {
	blob, _, err := unseal(blobBucket, key, value)
	known.blobs[string(key[targetLen:])] = append([]byte{}, blob...)
	return err
}

// Close gives the file free for other processes. A file that broke under the store stays held until the process ends.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil || s.broken != nil {
		return nil
	}
	return s.db.Close()
}

// ResetFile moves the file at path aside, and returns its new name; empty where there was no file. It deletes nothing:
// the file may be evidence, or, by a wrong path, another program's.
func ResetFile(path string) (aside string, err error) {
	defer func() {
		if err != nil {
			aside, err = "", fmt.Errorf("moving state file %s aside: %w", quote.Plain(path), err)
		}
	}()
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	f, err := openLocked(real, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	aside = real + ".bak-" + time.Now().UTC().Format("20060102T150405.000000000Z")
	return aside, os.Rename(real, aside)
}
