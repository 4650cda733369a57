//go:build unix && !solaris && !aix

package history

import (
	"os"
	"syscall"
	"time"
)

// lock locks f as bbolt does, so that it can be looked at before bbolt has it.
func lock(f *os.File) error {
	for end := time.Now().Add(lockWait); ; time.Sleep(lockPause) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != syscall.EWOULDBLOCK {
			return err
		}
		if time.Now().After(end) {
			return heldBy(f)
		}
	}
}
