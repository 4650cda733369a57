package state

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// How long another process that is just ending may still hold the file.
const (
	lockWait  = 300 * time.Millisecond
	lockPause = 20 * time.Millisecond
)

// HeldError says that another process holds the file.
type HeldError struct {
	PID string // empty: the system does not tell
}

func (e *HeldError) Error() string {
	who := "another process"
	if e.PID != "" {
		who = "process " + e.PID
	}
	return who + " holds it: end that one, or give each its own state"
}

// lockFile opens and locks a file until it is closed.
func lockFile(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|flag, 0o600)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockWait); ; time.Sleep(lockPause) {
		free, err := flock(f)
		if free {
			return f, nil
		}
		if err == nil && time.Now().After(end) {
			err = heldBy(f)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
}

// heldBy names the process that holds f, where the system tells: Linux does, of processes of this user and container.
// Asking is better than a note of the holder's, which outlives it.
func heldBy(f *os.File) *HeldError {
	held, self := &HeldError{}, strconv.Itoa(os.Getpid())
	if locks, err := os.Open("/proc/locks"); err == nil {
		defer locks.Close()
		for lines := bufio.NewScanner(locks); lines.Scan(); {
			// 1: FLOCK ADVISORY WRITE pid major:minor:inode start end
			fields := strings.Fields(lines.Text())
			// This process has f open itself, and may hold another file.
			if len(fields) > 4 && fields[1] == "FLOCK" && fields[4] != self && opened(fields[4], f) {
				held.PID = fields[4]
			}
		}
	}
	return held
}

// opened reports whether the process with this id has the file open.
func opened(pid string, f *os.File) bool {
	want, err := f.Stat()
	if err != nil {
		return false
	}
	links, _ := filepath.Glob(filepath.Join("/proc", pid, "fd", "*"))
	for _, link := range links {
		if got, err := os.Stat(link); err == nil && os.SameFile(got, want) {
			return true
		}
	}
	return false
}
