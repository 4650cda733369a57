//go:build e2e

// Package soak_test runs the real kms-auditor for a long time, kills it, breaks its disk and changes its clock.
//
// The world runs in the test process: simulated chains behind faulty proxies, and the fake API. It records the truth of every block
// and every claim, so that each verdict and each logged event can be compared with it.
package soak_test

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Durations; longer outside make e2e.
var (
	soakFor = flag.Duration("for", 10*time.Second, "how long TestSoak lasts; what grows is judged from two minutes on")
	still   = flag.Bool("still", false, "in TestSoak only the API's lists change, and no contract logs an event")
	kills   = flag.Int("kills", 20, "how often TestKilled kills")
	proofs  = flag.Bool("soak-evidence", false, "TestSoak keeps evidence too")
)

// bin is the folder of the programs that TestMain builds.
var bin string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	if os.Getenv(inside) != "" {
		bin = os.Getenv(inside)
		return m.Run()
	}
	var err error
	if bin, err = os.MkdirTemp("", "soak"); err != nil {
		log.Print(err)
		return 1
	}
	defer os.RemoveAll(bin)
	if err := build(filepath.Join(bin, "kms-auditor")); err != nil {
		log.Print(err)
		return 1
	}
	return m.Run()
}

// build builds the auditor with additional arguments for go build.
func build(to string, args ...string) error {
	cmd := exec.Command("go", append(append([]string{"build", "-o", to}, args...), "../../cmd/kms-auditor")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building kms-auditor: %w\n%s", err, out)
	}
	return nil
}

// environ returns the test's environment without the auditor's variables.
func environ() (env []string) {
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PHALA_") && !strings.HasPrefix(kv, "KMS_AUDITOR_") {
			env = append(env, kv)
		}
	}
	return env
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
