package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// state is the path of the database, which may not be there yet, in a folder that is.
func (r resolver) state(name string) string {
	if name == "" {
		return ""
	}
	path := r.abs(name)
	switch info, err := os.Stat(path); {
	case err == nil && info.IsDir():
		r.add("state", "%s is a folder: give a file in it", sanitize.Quote(name))
	case err == nil && !info.Mode().IsRegular():
		r.add("state", "%s is not a regular file", sanitize.Quote(name))
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			r.add("state", "finding the folder of %s: %s", sanitize.Quote(name), cause(err))
		}
	case err != nil:
		r.add("state", "finding %s: %s", sanitize.Quote(name), cause(err))
	}
	return path
}

const maxEvidence = 100_000

func (r resolver) evidence(f fileEvidence) Evidence {
	count := func(path string, n uint64) int {
		if n < 1 || n > maxEvidence {
			r.add(path, "must be from 1 to %d", maxEvidence)
		}
		return int(min(n, maxEvidence))
	}
	e := Evidence{r.abs(f.Dir), count("evidence.keep_changes", f.KeepChanges), count("evidence.keep_last", f.KeepLast)}
	if e.Dir == "" {
		return e
	}
	switch info, err := os.Stat(e.Dir); {
	case err != nil:
		r.add("evidence.dir", "finding the folder %s: %s", sanitize.Quote(f.Dir), cause(err))
	case !info.IsDir():
		r.add("evidence.dir", "%s is not a folder", sanitize.Quote(f.Dir))
	}
	return e
}

// abs is the path of a file that the configuration names, from the configuration's own folder.
func (r resolver) abs(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(r.env.Dir, name)
}
