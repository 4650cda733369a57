package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// programs are what the bench runs: built into dir, or installed by e2e/setup.sh.
type programs struct {
	root, dir             string
	geth, launch, auditor string
	cast, abigen, script  string // what others write; script is the compiled TypeScript. Empty: not built
	multicall             []byte // creation code of Multicall3; empty: viem is not installed
	keep                  string // folder where worlds are kept for the next time; empty: they are not
}

// newPrograms builds the release binary and the launcher. more goes to the build of kms-auditor.
func newPrograms(dir string, more ...string) (p *programs, err error) {
	p = &programs{dir: dir}
	if p.root, err = os.Getwd(); err != nil {
		return nil, err
	}
	p.geth = filepath.Join(p.root, "e2e", ".tools", "bin", "geth")
	if _, err := os.Stat(p.geth); err != nil {
		return nil, fmt.Errorf("%w: run e2e/setup.sh first, and this in the folder of go.mod", err)
	}
	if p.multicall, err = readMulticall(p.root); err != nil {
		return nil, err
	}
	if p.launch, err = p.build("./bench/launch"); err == nil {
		p.auditor, err = p.build("./cmd/kms-auditor", more...)
	}
	return p, err
}

// addOthers builds what kms-auditor is measured against.
func (p *programs) addOthers() (err error) {
	p.cast = filepath.Join(p.root, "e2e", ".tools", "bin", "cast")
	if _, err := os.Stat(p.cast); err != nil {
		return fmt.Errorf("%w: run e2e/setup.sh first", err)
	}
	if p.abigen, err = p.build("./bench/abigen"); err != nil {
		return err
	}
	ts := filepath.Join(p.root, "bench", "ts")
	p.script = filepath.Join(p.dir, "audit.mjs")
	cmd := exec.Command(filepath.Join(ts, "node_modules", ".bin", "esbuild"), "audit.ts", "--bundle", "--minify", "--platform=node", "--target=node20",
		"--format=esm", "--log-level=warning", "--banner:js=import{createRequire}from'node:module';const require=createRequire(import.meta.url);", "--outfile="+p.script)
	cmd.Dir = ts
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compiling the TypeScript: %w (npm ci in bench/ts comes first)\n%s", err, out)
	}
	return nil
}

// build compiles a command as a release is compiled, and returns its path.
func (p *programs) build(pkg string, more ...string) (string, error) {
	path := filepath.Join(p.dir, filepath.Base(pkg))
	args := append([]string{"build", "-trimpath", "-ldflags", "-s -w", "-o", path}, more...)
	cmd := exec.Command("go", append(args, pkg)...)
	cmd.Dir, cmd.Env = p.root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", pkg, err, out)
	}
	return path, nil
}
