//go:build e2e

package e2e_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// Only goreleaser's schema is used, since building takes minutes.
const goreleaser = "github.com/goreleaser/goreleaser/v2@v2.12.7"

func TestTheReleaseFollowsItsSchema(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("go", "mod", "download", "-json", goreleaser)
	cmd.Dir = t.TempDir()
	out, err := cmd.Output()
	must(t, err)
	var module struct{ Dir string }
	must(t, json.Unmarshal(out, &module))
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join(module.Dir, "www/docs/static/schema.json"))
	must(t, err)
	text := readFile(t, "../.goreleaser.yaml")
	validate := func(text string) error {
		var config any
		must(t, yaml.Unmarshal([]byte(text), &config))
		return schema.Validate(config)
	}
	if err := validate(text); err != nil {
		t.Error(err)
	}
	if err := validate(strings.Replace(text, "mod_timestamp", "mod_timestamps", 1)); err == nil {
		t.Error("a key that goreleaser does not know passes")
	}
}

// TestTheReleaseHasManualAndCompletions runs the hooks before a release like goreleaser, without a shell.
func TestTheReleaseHasManualAndCompletions(t *testing.T) {
	t.Parallel()
	var config struct {
		Before   struct{ Hooks []string }
		Archives []struct{ Files []string }
	}
	must(t, yaml.Unmarshal([]byte(readFile(t, "../.goreleaser.yaml")), &config))
	root, err := filepath.Abs("..")
	must(t, err)
	dir := t.TempDir()
	for _, hook := range config.Before.Hooks {
		hook = strings.NewReplacer("{{ .CommitTimestamp }}", "1793534400", "go run ./cmd/kms-auditor", filepath.Join(bin, "kms-auditor"), "go test", "go -C "+root+" test", "../../man", dir+"/man").Replace(hook)
		var args []string
		if program, script, ok := strings.Cut(hook, ` -c "`); ok {
			args = []string{program, "-c", strings.TrimSuffix(script, `"`)}
		} else {
			args = strings.Fields(hook)
		}
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	for _, want := range []string{"man/kms-auditor-audit.1", "completions/kms-auditor.bash", "completions/kms-auditor.zsh", "completions/kms-auditor.fish"} {
		if info, err := os.Stat(filepath.Join(dir, want)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", want, err)
		}
	}
	for _, pattern := range config.Archives[0].Files {
		made, _ := filepath.Glob(filepath.Join(dir, pattern))
		if found, err := filepath.Glob(filepath.Join("..", pattern)); err != nil || len(found)+len(made) == 0 {
			t.Errorf("the archive's %s matches nothing: %v", pattern, err)
		}
	}
}
