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
	if p.launch, err = p.build("./bench/launch"); err == nil {
		p.auditor, err = p.build("./cmd/kms-auditor", more...)
	}
	return p, err
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
