package state

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/gofrs/flock"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// The file is a line with the schema, the SHA-256 of the rest, and a gzip stream with the length of a JSON object, the object, and
// the events of its scans. The checksum protects against accidents only: anyone who can write the file can compute it.
const (
	magic  = "kms-auditor state "
	schema = 3 // 1 and 2 were bbolt databases

	maxSize = 1 << 30 // bytes of the file, packed and unpacked: about six million events

	smallSize = 1 << 20   // bytes up to which a file is written after every audit
	rest      = time.Hour // how often a larger file is written if only times changed
)

// content is the JSON object.
type content struct {
	Chains   []*chain   `json:"chains"`
	Scans    []scanned  `json:"scans"`
	Resolved []Resolved `json:"resolved"`
	Outbox   outbox     `json:"outbox"`
}

// scanned is a scan without its events. They follow the object in the same order.
type scanned struct {
	Chain    string         `json:"chain"`
	Contract common.Address `json:"contract"`
	Progress
	Events uint64 `json:"events"`
	Stream string `json:"stream,omitempty"` // empty for all events, as older releases wrote them
}

// streams names a scan's events by Target.Public.
var streams = map[bool]string{false: "owner", true: "public"}

// unusable is why a file's content cannot be used. In errors about the state file, the text follows the file's name.
type unusable struct{ error }

// damaged makes an error unusable, unless it already is.
func damaged(why error) error {
	if why == nil || errors.As(why, new(*unusable)) {
		return why
	}
	return &unusable{fmt.Errorf("is damaged (%s)", sanitize.Plain(why.Error()))}
}

// opening adds to an error which file could not be opened, and what to do.
func opening(path string, err error) error {
	if why := (*unusable)(nil); errors.As(err, &why) {
		return fmt.Errorf("state file %s %w; --state-reset moves it aside and rebuilds it", sanitize.Plain(path), why)
	}
	return fmt.Errorf("opening state file %s: %w", sanitize.Plain(path), err)
}

// LockPath returns the path of the lock file. The process that has the state open holds its lock.
func LockPath(state string) string { return state + ".lock" }

// Open opens the file at path exclusively. The file need not exist. With an empty path, the state is in memory only. Open fails if
// the file is damaged, another program's, or written by a newer version. If another process holds it, the error is a *HeldError.
func Open(path string) (*State, error) {
	if path == "" {
		return &State{}, nil
	}
	real, err := follow(path)
	if err != nil {
		return nil, opening(path, err)
	}
	lock, err := lockFile(LockPath(real))
	if err != nil {
		return nil, opening(path, err)
	}
	s, err := read(real)
	if errors.Is(err, fs.ErrNotExist) {
		s, err = &State{path: real}, nil
	}
	if err != nil {
		return nil, errors.Join(opening(path, err), lock.Close())
	}
	s.lock = lock
	if s.old != nil { // if this fails, for example on a full disk, the next Save tries again
		_ = s.Save()
	}
	return s, nil
}

// View reads the file at path, even if a process has it open. It takes no lock. The State is read-only.
func View(path string) (*State, error) {
	s, err := read(path)
	if err != nil {
		return nil, opening(path, err)
	}
	return s, nil
}

// follow resolves symbolic links. The file need not exist.
func follow(path string) (string, error) {
	for range 40 {
		to, err := os.Readlink(path)
		if err != nil {
			return path, nil
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return "", errors.New("too many links")
}

var errNoFile = errors.New("it is not a regular file")

func read(path string) (*State, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // reading a pipe would block
		return nil, errNoFile
	}
	if info.Size() > maxSize {
		return nil, &unusable{fmt.Errorf("has %d bytes, want at most %d", info.Size(), maxSize)}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if isBolt(b) {
		return convert(path, b)
	}
	s := &State{path: path, size: len(b)}
	if len(b) == 0 {
		return s, nil
	}
	return s, damaged(s.decode(b))
}

func (s *State) decode(b []byte) error {
	line, b, _ := bytes.Cut(b, []byte("\n"))
	n, ours := bytes.CutPrefix(line, []byte(magic))
	switch version, err := strconv.ParseUint(string(n), 10, 32); {
	case !ours || err != nil || version < schema:
		return &unusable{errors.New("is not a state file of kms-auditor")}
	case version > schema:
		return &unusable{fmt.Errorf("was written by a newer version (schema %d; this one reads schema %d)", version, schema)}
	case len(b) < sha256.Size || sha256.Sum256(b[sha256.Size:]) != [sha256.Size]byte(b):
		return errors.New("it does not match its checksum")
	}
	z, err := gzip.NewReader(bytes.NewReader(b[sha256.Size:]))
	if err != nil {
		return err
	}
	b, err = io.ReadAll(io.LimitReader(z, maxSize))
	if err != nil || len(b) < 8 || binary.BigEndian.Uint64(b) > uint64(len(b)-8) {
		return cmp.Or(err, errors.New("it is cut short"))
	}
	end := 8 + binary.BigEndian.Uint64(b)
	var c content
	if err := json.Unmarshal(b[8:end], &c); err != nil {
		return err
	}
	return s.take(c, b[end:])
}

// take sets the state from the content of a file.
func (s *State) take(c content, events []byte) error {
	s.chains, s.resolved, s.outbox = c.Chains, c.Resolved, c.Outbox
	for _, c := range s.chains {
		if c == nil {
			return errors.New("a chain is missing")
		}
		c.adopt()
		for _, o := range c.Prior.Open {
			if o.Finding.FirstSeen == nil || o.Finding.LastConfirmedAt == nil {
				return fmt.Errorf("an open finding of %s has no time", sanitize.Quote(c.Name))
			}
		}
	}
	for _, of := range c.Scans {
		known := &scan{progress: of.Progress}
		for range of.Events {
			e, more, err := cutEvent(events)
			if err != nil {
				return err
			}
			events = more
			known.push(e)
		}
		s.chain(of.Chain) // the file may lack it
		if t := (Target{of.Chain, of.Contract, of.Stream == streams[true]}); of.Stream != "" {
			s.setScan(t, known)
		} else {
			s.addScan(t, known)
		}
	}
	return nil
}

// encode returns the content of the file.
func (s *State) encode() (_ []byte, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := content{Chains: s.chains, Resolved: s.resolved, Outbox: s.outbox}
	var events []byte
	for _, t := range s.targets() {
		known := s.scans[t]
		c.Scans = append(c.Scans, scanned{t.Chain, t.Contract, known.progress, uint64(len(known.events)), streams[t.Public]})
		for _, e := range known.events {
			if events, err = appendEvent(events, e); err != nil {
				return nil, err
			}
		}
	}
	object, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	z, _ := gzip.NewWriterLevel(&packed, gzip.BestSpeed) // a valid level
	for _, part := range [][]byte{binary.BigEndian.AppendUint64(nil, uint64(len(object))), object, events} {
		z.Write(part) // a buffer never fails
	}
	z.Close()
	sum := sha256.Sum256(packed.Bytes())
	b := slices.Concat(fmt.Appendf(nil, "%s%d\n", magic, schema), sum[:], packed.Bytes())
	if n := max(len(b), len(object)+len(events)+8); n > maxSize {
		return nil, fmt.Errorf("it would have %d bytes, want at most %d", n, maxSize)
	}
	return b, nil
}

// Save writes the file if anything changed. If only times and block numbers changed, a large file is written once an hour. The next
// Save retries after an error.
func (s *State) Save() error {
	return s.save(func() bool { return s.due || s.stale && (s.size <= smallSize || time.Since(s.written).Abs() >= rest) })
}

// Checkpoint saves the progress of a long scan. It spends at most a tenth of the time on it. The next Save reports errors.
func (s *State) Checkpoint() {
	_ = s.save(func() bool { return (s.due || s.stale) && time.Since(s.written).Abs() >= 10*s.cost })
}

func (s *State) save(when func() bool) (err error) {
	if s.path == "" {
		return nil
	}
	s.saving.Lock()
	defer s.saving.Unlock()
	s.mu.Lock()
	due := when()
	s.due, s.stale = s.due && !due, s.stale && !due
	s.mu.Unlock()
	if !due {
		return nil
	}
	defer func() {
		if err != nil {
			s.mu.Lock()
			s.due = true
			s.mu.Unlock()
			err = fmt.Errorf("writing state file %s: %w", sanitize.Plain(s.path), err)
		}
	}()
	if s.lock == nil {
		return errors.New("the state is read-only")
	}
	began := time.Now()
	b, err := s.encode()
	if err == nil && s.old != nil {
		err = keepOld(s.path, s.old)
	}
	if err == nil {
		err = replace(s.path, s.path+".tmp", b)
	}
	if err == nil {
		s.old, s.size, s.written, s.cost = nil, len(b), time.Now(), time.Since(began)
	}
	return err
}

// replace writes a file atomically, by way of tmp in the same folder. A new file is private.
func replace(path, tmp string, b []byte) error {
	mode := fs.FileMode(0o600)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = cmp.Or(err, f.Sync()); err != nil {
		return errors.Join(err, f.Close(), os.Remove(tmp))
	}
	if err := cmp.Or(f.Close(), os.Rename(tmp, path)); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// Close saves unsaved changes and releases the file for other processes.
func (s *State) Close() error {
	if s.lock == nil {
		return nil
	}
	err := s.save(func() bool { return s.due || s.stale })
	s.saving.Lock()
	defer s.saving.Unlock()
	err = errors.Join(err, s.lock.Close())
	s.lock = nil
	return err
}

// ResetFile renames the file at path and returns its new name, or "" if there was none. It deletes nothing: the file may be
// evidence or, if the path is wrong, another program's.
func ResetFile(path string) (aside string, err error) {
	defer func() {
		if err != nil {
			aside, err = "", fmt.Errorf("moving state file %s aside: %w", sanitize.Plain(path), err)
		}
	}()
	real, err := follow(path)
	if err != nil {
		return "", err
	}
	switch info, err := os.Stat(real); {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", errNoFile
	}
	for _, held := range []string{LockPath(real), real} { // a process of an earlier release locks the file itself
		lock, err := lockFile(held)
		if err != nil {
			return "", err
		}
		defer lock.Close()
	}
	aside = real + ".bak-" + time.Now().UTC().Format("20060102T150405.000000000Z")
	return aside, os.Rename(real, aside)
}

// How long to wait for a process that is about to exit and release the file.
const (
	lockWait  = 300 * time.Millisecond
	lockPause = 20 * time.Millisecond
)

// HeldError means that another process has the file open.
type HeldError struct {
	PID string // empty if not known
}

func (e *HeldError) Error() string {
	who := "another process"
	if e.PID != "" {
		who = "process " + e.PID
	}
	return who + " has it open: stop that process, or use another state file"
}

// lockFile creates the file if it does not exist, and locks it until the lock is closed.
func lockFile(path string) (*flock.Flock, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lockWait)
	defer cancel()
	lock := flock.New(path, flock.SetFlag(os.O_RDWR|os.O_CREATE), flock.SetPermissions(0o600))
	switch _, err := lock.TryLockContext(ctx, lockPause); {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, heldBy(path)
	case err != nil:
		return nil, err
	}
	return lock, nil
}

// heldBy finds the process that holds a file, if the system shows it. Linux does for processes of the same user and container. A PID
// file would be less reliable, since it may outlive its process.
func heldBy(path string) *HeldError {
	file, _ := os.Stat(path)
	locks, _ := os.ReadFile("/proc/locks")
	for line := range strings.Lines(string(locks)) {
		// 1: FLOCK ADVISORY WRITE pid major:minor:inode start end
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[1] != "FLOCK" || fields[4] == strconv.Itoa(os.Getpid()) {
			continue
		}
		// The lock may be on another file.
		links, _ := filepath.Glob(filepath.Join("/proc", fields[4], "fd", "*"))
		for _, link := range links {
			if opened, err := os.Stat(link); err == nil && os.SameFile(opened, file) {
				return &HeldError{fields[4]}
			}
		}
	}
	return &HeldError{}
}
