package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kms-auditor/kms-auditor/internal/quote"
)

// state is the path of the database, which may not be there yet, in a folder that is.
func (r resolver) state(name string) string {
	if name == "" {
		return ""
	}
	path := r.abs(name)
	switch info, err := os.Stat(path); {
	case err == nil && info.IsDir():
		r.add("state", "%s is a folder: give a file in it", quote.Cut(name))
	case err == nil && !info.Mode().IsRegular():
		r.add("state", "%s is not a regular file", quote.Cut(name))
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			r.add("state", "finding the folder of %s: %s", quote.Cut(name), cause(err))
		}
	case err != nil:
		r.add("state", "finding %s: %s", quote.Cut(name), cause(err))
	}
	return path
}

func (r resolver) evidenceDir(name string) string {
	if name == "" {
		return ""
	}
	path := r.abs(name)
	switch info, err := os.Stat(path); {
	case err != nil:
		r.add("evidence_dir", "finding the folder %s: %s", quote.Cut(name), cause(err))
	case !info.IsDir():
		r.add("evidence_dir", "%s is not a folder", quote.Cut(name))
	}
	return path
}

// abs is the path of a file that the configuration names, from the configuration's own folder.
func (r resolver) abs(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(r.env.Dir, name)
}
