//go:build e2e

package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// actionStep is one step of action.yml.
type actionStep struct {
	Name, Run string
	Env       map[string]string
}

// actionSteps returns the steps that are scripts.
func actionSteps(t testing.TB) map[string]actionStep {
	t.Helper()
	var action struct {
		Runs struct{ Steps []actionStep }
	}
	must(t, yaml.Unmarshal([]byte(readFile(t, "../action.yml")), &action))
	steps := map[string]actionStep{}
	for _, s := range action.Runs.Steps {
		if s.Run != "" {
			steps[s.Name] = s
		}
	}
	return steps
}

// TestTheActionExitsByVerdict runs the action's own scripts like the runner, with the values of its expressions.
func TestTheActionExitsByVerdict(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1, 1)
	config := writeConfig(t, s.settings)
	steps := actionSteps(t)
	run := func(t *testing.T, step, temp string, env map[string]string) (code int, outputs map[string]string) {
		t.Helper()
		files := filepath.Join(temp, "outputs")
		cmd := exec.Command("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", steps[step].Run)
		cmd.Env = append(os.Environ(), "RUNNER_TEMP="+temp, "GITHUB_OUTPUT="+files, "GITHUB_STEP_SUMMARY="+filepath.Join(temp, "summary"))
		for name := range steps[step].Env {
			cmd.Env = append(cmd.Env, name+"="+env[name])
		}
		if out, err := cmd.CombinedOutput(); cmd.ProcessState == nil {
			t.Fatalf("running step %s: %v\n%s", step, err, out)
		}
		outputs = map[string]string{}
		if b, err := os.ReadFile(files); err == nil {
			for _, m := range regexp.MustCompile(`(?m)^(\w+)=(.*)$`).FindAllStringSubmatch(string(b), -1) {
				outputs[m[1]] = strings.TrimPrefix(m[2], temp+"/")
			}
		}
		return cmd.ProcessState.ExitCode(), outputs
	}
	for _, tt := range []struct {
		sentence string
		before   func()
		config   string
		allow    string
		want     map[string]string
		code     int
	}{
		{"both sides agree", func() {}, config, "false",
			map[string]string{"code": "0", "verdict": "consistent", "report": "kms-auditor.json", "sarif": "kms-auditor.sarif"}, 0},
		{"the configuration is not there", func() {}, "none.yaml", "false", map[string]string{"code": "2", "verdict": "unknown"}, 2},
		{"the contract refuses a device that the API offers", func() { must(t, s.kms.RemoveDevice(t.Context(), s.devices[0])) }, config, "false",
			map[string]string{"code": "1", "verdict": "drift", "report": "kms-auditor.json", "sarif": "kms-auditor.sarif"}, 1},
		{"the API gives no answer, which is allowed", func() {
			doubt := s.claim()
			doubt.Contracts[0].Devices[0].Allowed = nil
			must(t, s.api.put(doubt))
		}, config, "true", map[string]string{"code": "0", "verdict": "unknown", "report": "kms-auditor.json", "sarif": "kms-auditor.sarif"}, 0},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			tt.before()
			temp := t.TempDir()
			must(t, os.Symlink(filepath.Join(bin, "kms-auditor"), filepath.Join(temp, "kms-auditor")))
			code, outputs := run(t, "Audit", temp, map[string]string{"CONFIG": tt.config, "CHAINS": "base", "ALLOW": tt.allow})
			if diff := cmp.Diff(tt.want, outputs); code != 0 || diff != "" {
				t.Errorf("exit code %d, outputs (-want +got):\n%s", code, diff)
			}
			if code, _ := run(t, "Judge", t.TempDir(), map[string]string{"CODE": outputs["code"]}); code != tt.code {
				t.Errorf("the job ends with %d, want %d", code, tt.code)
			}
			if summary := readFile(t, filepath.Join(temp, "summary")); tt.code != 2 && !strings.Contains(summary, tt.want["verdict"]) {
				t.Errorf("the summary does not say %s:\n%s", tt.want["verdict"], summary)
			}
		})
	}
	if code, _ := run(t, "Judge", t.TempDir(), nil); code != 3 {
		t.Errorf("a job without an audit ends with %d", code)
	}
}
