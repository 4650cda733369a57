package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/config"
)

// badEnv is the world that testdata/bad points at.
var badEnv = config.Env{
	Dir: "testdata/files",
	Lookup: func(name string) (string, bool) {
		v, ok := map[string]string{"BLANK": " \n", "LINES": "https://rpc.example\nsecond", "PASTED_SECRET": "pasted-secret", "RPC_URL": "https://rpc.example"}[name]
		return v, ok
	},
	Now: func() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) },
}

// TestEveryMistakeHasItsSentence holds each testdata/bad/X.yaml against X.txt, its exact messages.
func TestEveryMistakeHasItsSentence(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 30 {
		t.Fatalf("only %d files (%v)", len(files), err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(strings.TrimSuffix(path, "yaml") + "txt")
			if err != nil {
				t.Fatal(err)
			}
			_, err = config.Parse(data, badEnv)
			problems, ok := errors.AsType[config.Problems](err)
			if !ok {
				t.Fatalf("no problems, but %v", err)
			}
			got := problems.Error()
			if d := cmp.Diff(string(want), got+"\n"); d != "" {
				t.Errorf("wanted (-) and got (+) differ:\n%s", d)
			}
			for _, never := range []string{"pasted-secret", "pasted\r", "phak_", "!!", "config.", "yaml:", "strconv", "failed to"} {
				if strings.Contains(got, never) {
					t.Errorf("%q shows in:\n%s", never, got)
				}
			}
		})
	}
}
