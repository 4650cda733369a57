package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// contender is a program that prints where claim and chain differ.
type contender struct {
	name   string
	args   func(p *programs, w *world, api string) ([]string, error)
	read   func(stdout []byte) ([]string, error) // the differences
	serial bool                                  // it sends requests one after the other, so the effect of a delay is calculated
}

// contenders returns kms-auditor first. The others prove nothing and see only what the API lists.
var contenders = []contender{
	{name: "kms-auditor", args: auditor, read: readReport},
	{name: "TypeScript", args: func(p *programs, w *world, api string) ([]string, error) {
		return []string{"node", p.dir + "/audit.mjs", api, chainName, fmt.Sprint(chainID), w.rpc.URL}, nil
	}, read: readLines},
	{name: "cast loop", args: func(p *programs, w *world, api string) ([]string, error) {
		return []string{"bash", "cast.sh", api, chainName, w.rpc.URL}, nil
	}, read: readLines, serial: true},
}

// auditor runs audit --once with configured contracts. confirm_delay is zero, so that the wait is not measured.
func auditor(p *programs, w *world, api string) ([]string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "confirm_delay: 0s\napi: {base_url: %q}\nchains:\n  - name: %s\n    chain_id: %d\n    providers: [{name: node, url: %q}]\n    contracts:\n",
		api, chainName, chainID, w.rpc.URL)
	for _, at := range w.contracts {
		fmt.Fprintf(&b, "      - {address: %q, from_block: 1}\n", at)
	}
	path := filepath.Join(p.dir, "config.yaml")
	return []string{p.dir + "/kms-auditor", "audit", "--once", "-o", "json", "-c", path}, os.WriteFile(path, []byte(b.String()), 0o600)
}

// readReport returns an error for a report that does not prove everything.
func readReport(out []byte) ([]string, error) {
	var r struct {
		Chains []struct {
			Errors  []any
			Targets []struct {
				Contract, Verdict, Assurance, Completeness string
				Entries                                    []struct {
					List, ID, Claim, Verdict string
					OnChain                  string `json:"on_chain"`
				}
			}
		}
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return nil, fmt.Errorf("reading the report: %w", err)
	}
	found := []string{}
	for _, c := range r.Chains {
		for _, t := range c.Targets {
			if t.Verdict == "unknown" || t.Assurance != "proven" || t.Completeness != "proven" || len(c.Errors) > 0 {
				return nil, fmt.Errorf("contract %s is %s, %s, %s: %v", t.Contract, t.Verdict, t.Assurance, t.Completeness, c.Errors)
			}
			for _, e := range t.Entries {
				if e.Verdict != "match" && e.Verdict != "unclaimed" { // unclaimed entries are not in the claim
					found = append(found, difference(t.Contract, e.List, e.ID, e.Claim == "allowed", e.OnChain == "allowed"))
				}
			}
		}
	}
	slices.Sort(found)
	return found, nil
}

func readLines(out []byte) ([]string, error) {
	return slices.Sorted(strings.FieldsFuncSeq(string(out), func(r rune) bool { return r == '\n' })), nil
}

// cost is the cost of one run, including the programs that it starts.
type cost struct {
	wall, cpu       time.Duration
	rss             int64 // peak of the largest process, in bytes
	api, rpc, bytes int64
}

// run makes a contender find the differences between an API and the chain. A wrong result is an error.
func (p *programs) run(ctx context.Context, c contender, w *world, api *meter, want []string) (spent cost, err error) {
	args, err := c.args(p, w, api.URL)
	if err != nil {
		return spent, err
	}
	cmd := exec.CommandContext(ctx, p.dir+"/launch", args...)
	// In its own process group, so that the programs that it starts end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Env = []string{"PATH=" + p.tools + ":" + os.Getenv("PATH"), "HOME=" + p.dir}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	figures, tell, err := os.Pipe()
	if err != nil {
		return spent, err
	}
	defer figures.Close()
	cmd.ExtraFiles = []*os.File{tell}
	before := [3]int64{api.requests.Load(), w.rpc.requests.Load(), api.bytes.Load() + w.rpc.bytes.Load()}
	err = cmd.Start()
	tell.Close()
	if err != nil {
		return spent, err
	}
	told, _ := io.ReadAll(figures) // checked below
	_ = cmd.Wait()                 // the exit code is checked below
	if _, err := fmt.Sscan(string(told), &spent.wall, &spent.cpu, &spent.rss); err != nil {
		return spent, fmt.Errorf("%s ended without its figures: %w\n%s", c.name, err, stderr.Bytes())
	}
	spent.api, spent.rpc, spent.bytes = api.requests.Load()-before[0], w.rpc.requests.Load()-before[1], api.bytes.Load()+w.rpc.bytes.Load()-before[2]
	got, err := c.read(stdout.Bytes())
	if exit := cmd.ProcessState.ExitCode(); err != nil || !slices.Equal(got, want) || exit != min(len(want), 1) {
		return spent, fmt.Errorf("%s exited with %d and found %d of %d differences (%v)\n%s", c.name, exit, len(got), len(want), err, stderr.Bytes())
	}
	return spent, nil
}
