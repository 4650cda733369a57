//go:build e2e

package main_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestHunt runs the command in a separate module.
func TestHunt(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":        "module m\n\ngo 1.26\n",
		"m/m.go":        "package m\n\nfunc Less(a, b int) bool { return a < b }\n\nfunc Free() int { return 1 }\n",
		"m/m_test.go":   "package m\n\nimport \"testing\"\n\nfunc TestOther(t *testing.T) {}\n\nfunc TestLess(t *testing.T) {\n\tt.Run(\"equals\", func(t *testing.T) {\n\t\tif Less(1, 1) {\n\t\t\tt.Error()\n\t\t}\n\t})\n}\n",
		"bad/b.go":      "package bad\n\nvar B = 1\n",
		"bad/b_test.go": "package bad\n\nimport \"testing\"\n\nfunc TestBad(t *testing.T) { t.Error() }\n",
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		sentence, bug string
		code          int
		says          string
	}{
		{"a test finds it", "{bug: b, file: m/m.go, find: a < b, put: a <= b, tests: [m]}", 0, "TestLess/equals"},
		{"the test that is to be first finds it", "{bug: b, file: m/m.go, find: a < b, put: a <= b, first: TestLess, tests: [m]}", 0, "TestLess/equals"},
		{"another test than the first finds it", "{bug: b, file: m/m.go, find: a < b, put: a <= b, first: TestOther, tests: [m]}", 0, "TestLess/equals"},
		{"the tests of a second package find it", "{bug: b, file: m/m.go, find: a < b, put: a <= b, tests: [m, m]}", 0, "1 bugs, 1 found"},
		{"no test finds it", "{bug: b, file: m/m.go, find: return 1, put: return 2, tests: [m]}", 1, "**nothing**"},
		{"it is no Go", "{bug: b, file: m/m.go, find: return 1, put: return one, tests: [m]}", 1, "undefined: one"},
		{"its text is gone", "{bug: b, file: m/m.go, find: return 3, put: return 2, tests: [m]}", 2, "0 times, want once"},
		{"its text is there twice", "{bug: b, file: m/m.go, find: return, put: go, tests: [m]}", 2, "2 times, want once"},
		{"its file is gone", "{bug: b, file: m/n.go, find: return, put: go, tests: [m]}", 2, "reading its file"},
		{"it changes nothing", "{bug: b, file: m/m.go, find: a < b, put: a < b, tests: [m]}", 2, "that differ"},
		{"no tests are given", "{bug: b, file: m/m.go, find: a < b, put: a > b}", 2, "and tests"},
		{"an unknown key", "{bug: b, files: m/m.go}", 2, "field files not found"},
		{"its tests fail without it", "{bug: b, file: bad/b.go, find: '1', put: '2', first: TestBad, tests: [bad]}", 2, "without any bug: it fails"},
		{"its other tests fail without it", "{bug: b, file: bad/b.go, find: '1', put: '2', tests: [bad]}", 1, "without any bug: it fails"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			table := filepath.Join(t.TempDir(), "bugs.yaml")
			if err := os.WriteFile(table, []byte("- "+row.bug+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			cmd := exec.Command(bin, "-bugs", table)
			cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
			err := cmd.Run()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if got := cmd.ProcessState.ExitCode(); got != row.code || !strings.Contains(out.String(), row.says) {
				t.Errorf("it ended with %d, want %d and %q:\n%s", got, row.code, row.says, out.String())
			}
		})
	}
}
