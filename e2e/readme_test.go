//go:build e2e

package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
)

// leftOut are the README's lines that cannot run here, and why. Every other line runs.
var leftOut = map[string]string{
	"go install github.com/kms-auditor/kms-auditor/cmd/kms-auditor@latest": "it fetches a release; the program built here takes its place",
}

// endless are the README's lines that run until they are stopped: what each also gets here, so that it takes no fixed port or
// folder, and what says where it listens.
var endless = map[string]struct{ more, ready string }{
	"go run ./cmd/demo":                       {" --listen 127.0.0.1:0", `serving http://(\S+)/metrics`},
	"kms-auditor audit -c config.yaml":        {" --web.listen-address 127.0.0.1:0", `"msg":"serving".*"addresses":\["([^"]+)"`},
	"prometheus --config.file=prometheus.yml": {" --web.listen-address=127.0.0.1:0 --storage.tsdb.path=data", `msg="Listening on" address=(\S+)`},
}

// ending are the README's lines that end otherwise than with 0.
var ending = map[string]int{"go run ./cmd/demo --once": 1}

// reader is a person who has the README, and does what it says in a folder of their own.
type reader struct {
	dir      string
	replaced map[string]string
	unread   map[string]bool // keys of replaced that were not met yet
}

// read gives a text of the README the addresses of the world here.
func (r *reader) read(text string) string {
	for old, now := range r.replaced {
		if strings.Contains(text, old) {
			delete(r.unread, old)
		}
		text = strings.ReplaceAll(text, old, now)
	}
	return text
}

func (r *reader) replace(old, now string) {
	r.replaced[old], r.unread[old] = now, true
}

// shell is a line as the reader's shell runs it. Without -c, a line gets the README's configuration too: the built-in one asks
// public endpoints.
func (r *reader) shell(line string) (path string, args, env []string) {
	env = []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
	if !strings.Contains(line, "-c ") {
		env = append(env, "KMS_AUDITOR_CONFIG="+filepath.Join(r.dir, "config.yaml"))
	}
	return "bash", []string{"-c", "cd " + r.dir + " && exec " + line}, env
}

// run runs a line to its end.
func (r *reader) run(t *testing.T, line string) (code int, output string) {
	t.Helper()
	path, args, env := r.shell(line)
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = environ(env)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("%s: %v", line, err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// blocks are the README's indented blocks, without the indent.
func blocks(t *testing.T) (all []string) {
	t.Helper()
	for _, block := range regexp.MustCompile(`(?m)(?:^ {4}.*\n|^\n)*^ {4}.*\n`).FindAllString(readFile(t, "../README.md"), -1) {
		all = append(all, strings.TrimSpace(regexp.MustCompile(`(?m)^ {4}`).ReplaceAllString(block, "")))
	}
	return all
}

// TestTheReadmeIsEnough: who has only the README gets a daemon, Prometheus with the alert rules, and a page for their own chain.
func TestTheReadmeIsEnough(t *testing.T) {
	t.Parallel()
	s := sceneOn(t, startNode(t, "anvil", "--chain-id", "8453"), 2, 3)
	must(t, s.client.Client().CallContext(t.Context(), nil, "anvil_mine", 100)) // finalized lags behind by 64
	head, err := s.client.BlockNumber(t.Context())
	must(t, err)
	out, err := exec.Command("go", "build", "-o", bin+"/", "../cmd/demo").CombinedOutput()
	must(t, wrap(string(out), err))
	root, err := filepath.Abs("..")
	must(t, err)

	r := &reader{t.TempDir(), map[string]string{}, map[string]bool{}}
	r.replace("chains:\n", "api: {base_url: "+s.api.url+"}\nchains:\n") // not Phala's
	r.replace("https://base-rpc.publicnode.com", s.proxied)
	r.replace("https://base.drpc.org", s.url)
	r.replace("0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C", s.kms.Address().Hex())
	r.replace("--block 51375546", fmt.Sprint("--block ", head-80))
	r.replace("go run ./cmd/demo", filepath.Join(bin, "demo")) // go run would outlive its end
	r.replace("https://raw.githubusercontent.com/kms-auditor/kms-auditor/main/", "file://"+root+"/")
	r.replace(": 15s", ": 1s") // Prometheus' intervals

	var commands []string
	files := map[string]string{}
	for _, block := range blocks(t) {
		var keys map[string]any
		switch err := yaml.Unmarshal([]byte(block), &keys); {
		case err == nil && keys["chains"] != nil:
			files["config.yaml"] = block
		case err == nil && keys["scrape_configs"] != nil:
			files["prometheus.yml"] = block
		default:
			for line := range strings.Lines(block) {
				line, _, _ = strings.Cut(line, " #")
				commands = append(commands, strings.TrimRight(strings.TrimSpace(line), ";"))
			}
		}
	}
	if len(files) != 2 || len(commands) < 10 {
		t.Fatalf("the README has the files %q and the commands %q", files, commands)
	}
	for line := range leftOut {
		if !slices.Contains(commands, line) {
			t.Errorf("the README has no line %q any more", line)
		}
	}
	must(t, os.WriteFile(filepath.Join(r.dir, "config.yaml"), []byte(r.read(files["config.yaml"])), 0o600))

	serving := map[string]string{}
	for _, line := range commands {
		if leftOut[line] != "" {
			continue
		}
		end, ok := endless[line]
		if !ok {
			if code, out := r.run(t, r.read(line)); code != ending[line] {
				t.Errorf("%s exits with %d:\n%s", line, code, out)
			}
			continue
		}
		path, args, env := r.shell(r.read(line) + end.more)
		_, serving[line] = start(t, end.ready, path, args, env, nil)
		if strings.HasPrefix(line, "kms-auditor") {
			r.replace("localhost:10726", serving[line])
			must(t, os.WriteFile(filepath.Join(r.dir, "prometheus.yml"), []byte(r.read(files["prometheus.yml"])), 0o600))
		}
	}
	for line := range endless {
		if serving[line] == "" {
			t.Fatalf("the README has no line %q any more", line)
		}
	}

	eventually(t, "the page shows the contract", func() bool {
		status, page := get(t, "http://"+serving["kms-auditor audit -c config.yaml"]+"/")
		return status == http.StatusOK && strings.Contains(page, s.kms.Address().Hex()) && strings.Contains(page, "consistent")
	})
	p := &prometheus{"http://" + serving["prometheus --config.file=prometheus.yml"]}
	p.becomes(t, `kms_auditor_target_verdict{chain="base",verdict="consistent"}`, 1)
	p.becomes(t, `kms_auditor:audit_period_seconds > bool 0`, 1) // by one of the rules
	_, rules := get(t, p.url+"/api/v1/rules")
	for _, m := range regexp.MustCompile(`- name: (\S+)`).FindAllStringSubmatch(readFile(t, "../deploy/prometheus/kms-auditor.rules.yml"), -1) {
		if !strings.Contains(rules, `"name":"`+m[1]+`"`) {
			t.Errorf("Prometheus has not loaded the group %s", m[1])
		}
	}
	_, report := get(t, "http://"+serving["kms-auditor audit -c config.yaml"]+"/api/v1/report")
	if got := decodeReport(t, report).Chains[0].Targets[0].Counts.Match; got != 5 {
		t.Errorf("%d entries match", got)
	}
	if len(r.unread) > 0 {
		t.Errorf("the README has no %v", r.unread)
	}
	r.exitCodes(t, s)
}

// exitCodes has the program end in each way of the README's table.
func (r *reader) exitCodes(t *testing.T, s *scene) {
	busy := strings.TrimPrefix(s.url, "http://")
	once := "kms-auditor audit --once --block latest "
	daemon := func(line, ready string, sig os.Signal) int {
		path, args, env := r.shell(line)
		p, _ := start(t, ready, path, args, env, nil)
		return p.end(t, sig)
	}
	code := func(line string) int {
		code, _ := r.run(t, line)
		return code
	}
	ways := map[string]func() int{
		"consistent":                 func() int { return code(once) },
		"bad usage or configuration": func() int { return code(once + "--no-such-flag") },
		"bad configuration":          func() int { return code("kms-auditor audit -c prometheus.yml") },
		"cannot serve":               func() int { return code("kms-auditor audit --web.listen-address " + busy) },
		"unknown: could not check": func() int {
			must(t, s.api.fail(fakeapi.Fault{Name: fakeapi.Status, Status: http.StatusServiceUnavailable}))
			defer func() { must(t, s.api.heal()) }()
			for _, flag := range []string{"--allow-unverifiable", "--exit-code=false"} {
				if got := code(once + flag); got != 0 {
					t.Errorf("with %s it exits with %d", flag, got)
				}
			}
			return code(once)
		},
		"`verify` only: the evidence does not hold": func() int {
			evidence := readFile(t, filepath.Join(r.dir, "evidence.json"))
			must(t, os.WriteFile(filepath.Join(r.dir, "forged.json"), []byte(strings.Replace(evidence, "allowed", "denied", 1)), 0o600))
			return code("kms-auditor verify forged.json")
		},
		"stopped by SIGINT or SIGTERM": func() int {
			return max(daemon("kms-auditor audit --web.listen-address 127.0.0.1:0", "serving", syscall.SIGINT),
				daemon("kms-auditor audit --web.listen-address 127.0.0.1:0", "serving", syscall.SIGTERM))
		},
		"drift": func() int {
			wrong := s.claim()
			wrong.Contracts[0].Devices[0].Allowed = new(false)
			must(t, s.api.put(wrong))
			defer func() { must(t, s.api.put(s.claim())) }()
			return code(once)
		},
	}
	// The daemon above has the state.
	config := filepath.Join(r.dir, "config.yaml")
	must(t, os.WriteFile(config, []byte("confirm_delay: 0s\npending_max: 0s\n"+regexp.MustCompile(`(?m)^state:.*`).ReplaceAllString(readFile(t, config), "")), 0o600))
	_, table, _ := strings.Cut(readFile(t, "../README.md"), "| exit code |")
	rows := regexp.MustCompile(`(?m)^\| (\d) \| (.*?) \| (.*?) ?\|$`).FindAllStringSubmatch(table, -1)
	for _, row := range rows {
		for _, cell := range row[2:] {
			way, ok := ways[cell]
			switch {
			case cell == "":
			case !ok:
				t.Errorf("the README has an exit code for %q, and nothing here ends so", cell)
			default:
				delete(ways, cell)
				if got := fmt.Sprint(way()); got != row[1] {
					t.Errorf("%s: it exits with %s, and the README says %s", cell, got, row[1])
				}
			}
		}
	}
	for way := range ways {
		t.Errorf("the README has no exit code for %q any more", way)
	}
}
