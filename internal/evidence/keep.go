package evidence

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	prefix    = "evidence-"
	suffix    = ".json.gz"
	unchanged = "-unchanged" + suffix
	stamp     = "20060102T150405.000Z"
	abandoned = time.Hour // the age at which an unfinished file is removed
)

// The names of Keep's finished and unfinished files.
var (
	finished   = regexp.MustCompile(`^evidence-[0-9]{8}T[0-9]{6}\.[0-9]{3}Z-[0-9A-Z]+(-unchanged)?\.json\.gz$`)
	unfinished = regexp.MustCompile(`^\.evidence-[0-9]+$`)
)

// Pack encodes the evidence for a file with the given name. It gzips it if the name ends in .gz.
func (f *File) Pack(name string) ([]byte, error) {
	b, err := f.Encode()
	if err != nil || !strings.HasSuffix(name, ".gz") {
		return b, err
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	z.Write(b) // a buffer never fails
	z.Close()
	return out.Bytes(), nil
}

// Rotation is how many files are kept: the newest KeepChanges of audits that changed something, the newest KeepLast of all audits,
// and at most KeepChanges that first showed a finding that is still open.
type Rotation struct{ KeepChanges, KeepLast int }

// Keep writes the evidence atomically to a folder and removes files that the rotation does not keep. The name of a file says
// whether the audit changed something; a name from an earlier release, which does not say, counts as changed. Names sort by the
// time of the audit. Files with later names count as oldest, from before the clock was set back. Unfinished files of killed
// processes are removed after an hour. Other files are not touched.
func Keep(dir string, r Rotation, changed bool, f *File) error {
	end := suffix
	if !changed {
		end = unchanged
	}
	name := prefix + f.Report.StartedAt.UTC().Format(stamp) + "-" + f.Report.AuditID + end
	b, err := f.Pack(name)
	if err != nil {
		return err
	}
	if err := write(filepath.Join(dir, name), b); err != nil {
		return fmt.Errorf("writing the evidence: %w", err)
	}
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return fmt.Errorf("listing the evidence: %w", err)
	}
	var sorted, gone []string
	for _, e := range entries {
		switch info, err := e.Info(); {
		case err != nil || !info.Mode().IsRegular():
		case finished.MatchString(e.Name()):
			sorted = append(sorted, e.Name())
		case unfinished.MatchString(e.Name()) && time.Since(info.ModTime()) > abandoned:
			gone = append(gone, e.Name())
		}
	}
	later, _ := slices.BinarySearch(sorted, name+"~")
	all, changes := slices.Concat(sorted[later:], sorted[:later]), 0
	open := f.openedBy(sorted, r.KeepChanges)
	for i, name := range slices.Backward(all) {
		change := !strings.HasSuffix(name, unchanged)
		if change {
			changes++
		}
		if len(all)-i > r.KeepLast && (!change || changes > r.KeepChanges) && !open[name] {
			gone = append(gone, name)
		}
	}
	for _, old := range gone {
		if err := os.Remove(filepath.Join(dir, old)); err != nil {
			return fmt.Errorf("removing old evidence: %w", err)
		}
	}
	return nil
}

// openedBy returns which of the sorted names are of audits that first showed a finding that is open now. It returns at most most
// names, of the longest open findings.
func (f *File) openedBy(sorted []string, most int) map[string]bool {
	var since []string
	for _, c := range f.Report.Chains {
		for _, t := range c.Targets {
			for _, finding := range t.Findings {
				if first := finding.FirstSeen; first != nil {
					since = append(since, prefix+first.UTC().Format(stamp)+"~") // sorts after every audit of that moment
				}
			}
		}
	}
	slices.Sort(since)
	out := map[string]bool{}
	for _, s := range slices.Compact(since) {
		if i, _ := slices.BinarySearch(sorted, s); i > 0 && len(out) < most {
			out[sorted[i-1]] = true
		}
	}
	return out
}

func write(name string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), "."+prefix)
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
