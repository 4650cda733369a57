//go:build e2e

package e2e_test

import (
	"strings"
	"testing"
)

func TestSelftest(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := runAuditor(t, "selftest")
	if code != 0 || strings.Count(stdout, "ok      ") != 4 || stderr != "" {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	// Without even 127.0.0.1 nothing is found, and the self-test must fail.
	code, stdout, stderr = runAuditorIn(t, offline(), nil, "selftest")
	if code != 1 || strings.Count(stdout, "FAILED  ") != 4 || !hasAll(stdout, []string{": unknown\n", "expected: consistent", "network is unreachable"}) || !strings.Contains(stderr, "4 of 4 audits") {
		t.Errorf("cut off: exit code %d\n%s%s", code, stdout, stderr)
	}
}
