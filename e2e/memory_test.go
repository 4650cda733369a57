//go:build e2e

package e2e_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// TestChangesOfControlAreRemembered kills the daemon after each finding.
func TestChangesOfControlAreRemembered(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1, 1)
	s.settings.State = filepath.Join(t.TempDir(), "state.db")
	config := writeConfig(t, s.settings)
	heir := testchain.Key("heir")
	must(t, s.client.Client().CallContext(t.Context(), nil, "anvil_setBalance", testchain.Address("heir"), "0xde0b6b3a7640000"))
	must(t, s.client.Client().CallContext(t.Context(), nil, "anvil_mine", 1)) // which has that in its state root
	run := func(verdict string) (log string) {
		t.Helper()
		d := startDaemon(t, s.settings)
		d.finds(t, verdict)
		d.finds(t, verdict) // so that the first state is saved
		d.end(t, syscall.SIGKILL)
		return strings.Join(story(t, d.logged()), ", ")
	}
	baseline := func(exit int, args ...string) string {
		t.Helper()
		got, out, errs := runAuditor(t, append([]string{"baseline", "-c", config}, args...)...)
		if got != exit {
			t.Fatalf("baseline %v exits with %d, not %d\n%s%s", args, got, exit, out, errs)
		}
		return out
	}
	same := func(want, got string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}

	baseline(1, "show")
	same("", run("consistent"))
	must(t, s.kms.TransferOwnership(t.Context(), heir))
	same("finding_opened owner_changed ", run("drift"))
	same("", run("drift"))
	must(t, s.kms.As(heir).TransferOwnership(t.Context(), testchain.Key("owner")))
	same("finding_resolved owner_changed ", run("consistent"))

	must(t, s.kms.TransferOwnership(t.Context(), heir))
	d := startDaemon(t, s.settings)
	d.finds(t, "drift")
	d.finds(t, "drift")
	if out := baseline(0, "show"); !strings.Contains(out, "differs") {
		t.Errorf("no difference is shown:\n%s", out)
	}
	next := len(d.logged())
	if out := baseline(0, "accept"); !strings.Contains(out, "has the state open and is asked to accept it") {
		t.Errorf("while a daemon locks the state:\n%s", out)
	}
	d.await(t, next, `"msg":"baseline accepted"`)
	d.finds(t, "consistent")
	d.end(t, syscall.SIGTERM)
	same("", run("consistent"))
	if out := baseline(0, "accept"); !strings.Contains(out, "accepted already") {
		t.Errorf("after it was accepted:\n%s", out)
	}
}
