package history

import "io"

// Snapshot reads a file as View does, once, and tells whether it was in one piece.
func Snapshot(f io.ReaderAt, size int64) error {
	_, err := snapshot(f, size)
	return err
}
