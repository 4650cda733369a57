package main_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// build gives the demo as a newcomer runs it.
func build(t *testing.T) string {
	t.Helper()
	exe := filepath.Join(t.TempDir(), "demo")
	if out, err := exec.Command("go", "build", "-o", exe, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return exe
}

func TestTheFirstReportNamesTheImageThatDrifts(t *testing.T) {
	out, err := exec.Command(build(t), "--once").Output()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 {
		t.Fatalf("exit %v, want 1", err)
	}
	for _, want := range []string{"verdict: drift", "claim_allowed_chain_denied", "the contract refuses OS image dstack-0.5.9 (0xbd36…033), which the API says is allowed"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the report lacks %q:\n%s", want, out)
		}
	}
}

func TestARoundOfAPolicy(t *testing.T) {
	out, err := exec.Command(build(t), "--policy").Output()
	if err != nil {
		t.Fatalf("exit %v", err)
	}
	told := string(out)
	for _, want := range []string{
		"claims: none", "policy snapshot --chain own --contract", "verdict: unknown", "          os_images:\n", "verdict: consistent",
		"critical policy_denied_chain_allowed: the contract trusts OS image 0xbd36…033, which the policy does not list", "verdict: drift", "\n+            - \"0xbd369a8c", "verdict: consistent",
	} {
		_, rest, found := strings.Cut(told, want)
		if !found {
			t.Fatalf("%q does not follow:\n%s", want, out)
		}
		told = rest
	}
}

func TestDriftAppearsIsNamedAndResolves(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, build(t), "--listen", "127.0.0.1:0", "--pace", "2s")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	var told strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		told.Write(buf[:n])
		if text := told.String(); strings.Contains(text, "opened: claim_denied_chain_allowed (critical): the contract trusts device 0x05c7…22d") && strings.Contains(text, "resolved: claim_denied_chain_allowed") {
			break
		}
		if err != nil {
			t.Fatalf("the story ends with %v before drift has come and gone:\n%s", err, told.String())
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("Ctrl-C ends it with %v", err)
	}
}
