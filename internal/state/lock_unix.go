//go:build unix && !solaris && !aix

package state

import (
	"os"
	"syscall"
)

// flock locks f until it is closed, and reports whether nobody else has.
func flock(f *os.File) (free bool, err error) {
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == syscall.EWOULDBLOCK {
		return false, nil
	}
	return err == nil, err
}
