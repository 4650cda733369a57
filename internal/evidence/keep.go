package evidence

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	prefix = "evidence-"
	suffix = ".json.gz"

	unfinished = ".evidence-"
	abandoned  = time.Hour // no file takes so long to be written
)

// Pack encodes the evidence for a file of that name: one that ends in .gz is packed.
func (f *File) Pack(name string) ([]byte, error) {
	b, err := f.Encode()
	if err != nil || !strings.HasSuffix(name, ".gz") {
		return b, err
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, err = z.Write(b)
	if err = errors.Join(err, z.Close()); err != nil {
		return nil, fmt.Errorf("packing the evidence: %w", err)
	}
	return out.Bytes(), nil
}

// Keep writes the evidence into a folder, whole or not at all, and removes the oldest beyond n files of evidence. Their
// names sort by the time of the audit; one of a later audit is older too, from before the clock was set back. What a
// killed process left unfinished goes after an hour. Other files are left alone.
func Keep(dir string, n int, f *File) error {
	name := filepath.Join(dir, prefix+f.Report.StartedAt.UTC().Format("20060102T150405.000Z")+"-"+f.Report.AuditID+suffix)
	b, err := f.Pack(name)
	if err != nil {
		return err
	}
	if err := write(name, b); err != nil {
		return fmt.Errorf("writing the evidence: %w", err)
	}
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return fmt.Errorf("listing the evidence: %w", err)
	}
	var earlier, later, gone []string
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case !e.Type().IsRegular():
		case strings.HasPrefix(e.Name(), unfinished):
			if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > abandoned {
				gone = append(gone, path)
			}
		case !strings.HasPrefix(e.Name(), prefix) || !strings.HasSuffix(e.Name(), suffix):
		case path > name:
			later = append(later, path)
		default:
			earlier = append(earlier, path)
		}
	}
	all := append(later, earlier...)
	for _, old := range append(gone, all[:max(len(all)-n, 0)]...) {
		if err := os.Remove(old); err != nil {
			return fmt.Errorf("removing old evidence: %w", err)
		}
	}
	return nil
}

func write(name string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), unfinished)
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), name)
}
