package main_test

import (
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// bin is the command, built once.
var bin string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		log.Fatal(err)
	}
	bin = filepath.Join(dir, "mutants")
	out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput()
	code := 1
	if err == nil {
		code = m.Run()
	}
	os.RemoveAll(dir)
	if err != nil {
		log.Fatalf("building: %v\n%s", err, out)
	}
	os.Exit(code)
}

// TestEveryBugCanBePutIn fails if a row of bugs.yaml does not match the code. Update the row then.
func TestEveryBugCanBePutIn(t *testing.T) {
	cmd := exec.Command(bin, "-check")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
