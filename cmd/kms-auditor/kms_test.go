package main_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOneCommandAloneReserves holds that nothing but kms next-app-ids can reserve ids on the server.
func TestOneCommandAloneReserves(t *testing.T) {
	const root = "../.."
	for word, want := range map[string][]string{
		".NextAppIDs":   {"cmd/kms-auditor/kms_appids.go"},
		"next_app_id\"": {"internal/testenv/fakeapi/server.go", "kmsapi/kms.go"},
	} {
		var got []string
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "node_modules") {
				return filepath.SkipDir
			}
			if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			b, err := os.ReadFile(path)
			if strings.Contains(string(b), word) {
				name, _ := filepath.Rel(root, path)
				got = append(got, filepath.ToSlash(name))
			}
			return err
		})
		slices.Sort(got)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s stands in (-want +got): %v\n%s", word, err, diff)
		}
	}
}
