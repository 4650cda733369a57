// Command bench compares the cost of kms-auditor with that of simple scripts, and prints the tables of docs/performance.md.
//
// For each size it starts a chain and an API (world.go) behind meters that delay and count requests (meter.go), and runs each
// contender as a separate process (contender.go). A wrong result ends the bench (table.go).
//
// It needs the tools that e2e/setup.sh installs, and npm ci in ts. Run it in its own folder.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	runs := flag.Int("runs", 3, "runs of each contender")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "bench [-runs N] [CONTRACTSxENTRIES[xAPPS]...]")
		flag.PrintDefaults()
	}
	flag.Parse()
	names := flag.Args()
	if len(names) == 0 {
		names = []string{"1x10", "1x40", "1x1000", "10x40"}
	}
	if err := run(ctx, names, *runs); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string, runs int) error {
	sizes := make([]size, len(names))
	for i, name := range names {
		var err error
		if sizes[i], err = parseSize(name); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "kms-auditor-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	programs, err := build(ctx, dir)
	if err != nil {
		return err
	}
	var times, costs []string
	for _, s := range sizes {
		w, err := newWorld(s, programs.multicall)
		if err != nil {
			return fmt.Errorf("making a world of %s: %w", s, err)
		}
		t, c, err := programs.measureAll(ctx, w, runs)
		w.close()
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		times, costs = append(times, t...), append(costs, c...)
	}
	fmt.Printf("%s\n%s\n\n%s\n%s\n", timesHead, strings.Join(times, "\n"), costsHead, strings.Join(costs, "\n"))
	return nil
}

// programs are the built programs and tools.
type programs struct {
	dir       string // of the built programs and the auditor's configuration
	tools     string // directory of cast
	multicall []byte // creation code of Multicall3
}

// build compiles kms-auditor as for a release, the launcher and the TypeScript.
func build(ctx context.Context, dir string) (p *programs, err error) {
	p = &programs{dir: dir}
	if p.tools, err = filepath.Abs("../e2e/.tools/bin"); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"go", "build", "-C", "..", "-trimpath", "-ldflags", "-s -w", "-o", dir + "/kms-auditor", "./cmd/kms-auditor"},
		{"go", "build", "-o", dir + "/launch", "./launch"},
		{"ts/node_modules/.bin/esbuild", "ts/audit.ts", "--bundle", "--minify", "--platform=node", "--target=node20", "--format=esm", "--log-level=warning",
			"--banner:js=import{createRequire}from'node:module';const require=createRequire(import.meta.url);", "--outfile=" + dir + "/audit.mjs"},
		{p.tools + "/cast", "--version"},
	} {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("running %s: %w (run e2e/setup.sh, and npm ci in bench/ts, first)\n%s", args[0], err, out)
		}
	}
	p.multicall, err = readMulticall(ctx)
	return p, err
}
