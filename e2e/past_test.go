//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/render"
)

// TestHistoryMatchesTheNodesLogs changes the lists a thousand times, audits once, and compares the history in the state file with
// the node's logs.
func TestHistoryMatchesTheNodesLogs(t *testing.T) {
	t.Parallel()
	s := newScene(t, 10, 15)
	for range 19 {
		must(t, s.kms.Seed(t.Context(), s.devices, s.images))
	}
	for range 250 {
		must(t, s.kms.RemoveImage(t.Context(), s.images[3]))
		must(t, s.kms.AllowImage(t.Context(), s.images[3]))
	}
	s.settings.State = filepath.Join(t.TempDir(), "state.db")
	s.settings.Chains[0].Block = "latest"
	file := writeConfig(t, s.settings)
	if exit, out, errs := runAuditor(t, "audit", "--once", "-c", file); exit != 0 {
		t.Fatalf("exit code %d\n%s%s", exit, out, errs)
	}
	var h render.History
	s.offline(t, &h, "history", "-c", file, "-o", "json")
	got := make([]string, 0, len(h.Events))
	for _, e := range h.Events {
		got = append(got, logged(e.Block, e.LogIndex, e.Tx, e.List, e.Change, e.ID))
	}
	want := s.logs(t)
	if diff := cmp.Diff(want, got); diff != "" || len(want) < 1000 {
		t.Errorf("%d changes (-node +history):\n%s", len(want), diff)
	}
	var x render.Explanation
	s.offline(t, &x, "explain", s.images[3].Hex(), "-c", file, "-o", "json")
	if len(x.Places) != 1 || len(x.Places[0].Events) != 520 || x.Places[0].OnChain != "allowed" || x.Places[0].Name != "image" {
		t.Errorf("the image that was added 270 times and removed 250 times: %+v", x)
	}
	if last := x.Places[0].Events[519]; last.Actor == "" || last.Time == nil {
		t.Errorf("when and by whom the image was last added is unknown: %+v", last)
	}
}

// offline decodes the output of a command on the state file, and logs the shortest of a few run times.
func (s *scene) offline(t *testing.T, into any, args ...string) {
	t.Helper()
	best := time.Hour
	for range 5 {
		began := time.Now()
		exit, out, errs := runAuditorIn(t, offline(), nil, args...)
		best = min(best, time.Since(began))
		if exit != 0 || errs != "" {
			t.Fatalf("%s: exit code %d\n%s%s", args[0], exit, out, errs)
		}
		must(t, json.Unmarshal([]byte(out), into))
	}
	t.Logf("%s after 1,000 changes takes %s", args[0], best)
}

// logs returns the changes of both lists that cast reads from the node.
func (s *scene) logs(t *testing.T) []string {
	t.Helper()
	topics := map[common.Hash][2]string{}
	for signature, means := range map[string][2]string{
		"KmsDeviceAdded(bytes32)": {"device", "added"}, "KmsDeviceRemoved(bytes32)": {"device", "removed"},
		"OsImageHashAdded(bytes32)": {"os_image", "added"}, "OsImageHashRemoved(bytes32)": {"os_image", "removed"},
	} {
		topics[crypto.Keccak256Hash([]byte(signature))] = means
	}
	cast := exec.CommandContext(t.Context(), tool(t, "cast"), "logs", "--json", "--rpc-url", s.url, "--from-block", "0", "--address", s.kms.Address().Hex())
	text, err := cast.Output()
	must(t, wrap("cast logs", err))
	var logs []types.Log
	must(t, json.Unmarshal(text, &logs))
	var out []string
	for _, l := range logs {
		if means, ok := topics[l.Topics[0]]; ok {
			out = append(out, logged(l.BlockNumber, l.Index, l.TxHash.Hex(), means[0], means[1], common.BytesToHash(l.Data).Hex()))
		}
	}
	return out
}

func logged(block uint64, index uint, tx, list, change, id string) string {
	return fmt.Sprintf("%d/%d %s %s %s %s", block, index, tx, list, change, id)
}
