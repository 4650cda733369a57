package daemon_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/daemon"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

func TestLogsEveryLine(t *testing.T) {
	var out bytes.Buffer
	log, err := daemon.NewLogger(&out, "info", "json")
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		log.Info("the same")
	}
	log.Debug("not wanted")
	log.DPanic("a bug")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 1001 {
		t.Errorf("%d lines of 1001", len(lines))
	}
	var line struct{ Level, Time, Msg string }
	if err := json.Unmarshal([]byte(lines[0]), &line); err != nil {
		t.Fatal(err)
	}
	at, err := time.Parse(time.RFC3339, line.Time)
	if err != nil || at.Location() != time.UTC || time.Since(at) > time.Hour || line.Level != "info" || line.Msg != "the same" {
		t.Errorf("%s (%v)", lines[0], err)
	}
}

func TestLoggerKnowsItsWords(t *testing.T) {
	for _, row := range []struct{ level, format, wrong string }{
		{"debug", "json", ""},
		{"error", "console", ""},
		{"loud", "json", `log level "loud" must be one of debug, info, warn, error`},
		{"", "json", `log level "" must be one of debug, info, warn, error`},
		{"fatal", "json", `log level "fatal" must be one of debug, info, warn, error`},
		{"info", "xml", `log format "xml" is neither json nor console`},
		{"info", "", `log format "" is neither json nor console`},
	} {
		got := ""
		if _, err := daemon.NewLogger(&bytes.Buffer{}, row.level, row.format); err != nil {
			got = err.Error()
		}
		if got != row.wrong {
			t.Errorf("level %q, format %q: %q", row.level, row.format, got)
		}
	}
}

// TestLogTellsTheStory opens, keeps and resolves a finding, and then has a source fail.
func TestLogTellsTheStory(t *testing.T) {
	w := newWorld(t)
	w.claim(device, stranger)
	core, logs := observer.New(zapcore.DebugLevel)
	d := serve(t, w.config(t), daemon.Options{Log: zap.New(core)})
	for range 3 {
		d.until(t, audit.Drift)
	}
	if err := w.kms.AllowDevice(t.Context(), stranger); err != nil {
		t.Fatal(err)
	}
	d.until(t, audit.Consistent)
	w.proxy.Set(rpcfault.Status(401, ""))
	d.until(t, audit.Unknown)
	d.stop(t)

	count := map[string]int{}
	var story []map[string]any
	for _, e := range logs.All() {
		fields := e.ContextMap()
		event, _ := fields["event"].(string)
		if count[event]++; strings.HasPrefix(event, "finding_") || event == "source_failed" && count[event] == 1 {
			story = append(story, map[string]any{
				"event": event, "level": e.Level.String(), "kind": fields["kind"], "id": fields["id"],
				"stage": fields["stage"], "source": fields["source"],
			})
		}
	}
	want := []map[string]any{
		{"event": "finding_opened", "level": "warn", "kind": "claim_allowed_chain_denied", "id": stranger.Hex(), "stage": nil, "source": nil},
		{"event": "finding_resolved", "level": "info", "kind": "claim_allowed_chain_denied", "id": stranger.Hex(), "stage": nil, "source": nil},
		{"event": "source_failed", "level": "warn", "kind": nil, "id": nil, "stage": "rpc", "source": "local"},
	}
	if d := cmp.Diff(want, story); d != "" {
		t.Errorf("wanted (-) and logged (+) differ:\n%s", d)
	}
	if count["audit_finished"] < 5 {
		t.Errorf("%d audits finished, at least 5 were seen", count["audit_finished"])
	}
	oneIDPerAudit(t, logs.All())
}

// oneIDPerAudit checks that an audit's lines stand between its start and its finish, and all carry its id.
func oneIDPerAudit(t *testing.T, entries []observer.LoggedEntry) {
	t.Helper()
	current, seen := "", map[string]bool{}
	for _, e := range entries {
		fields := e.ContextMap()
		id, _ := fields["audit_id"].(string)
		switch fields["event"] {
		case nil:
		case "audit_started":
			if id == "" || seen[id] {
				t.Errorf("an audit starts with the id %q", id)
			}
			current, seen[id] = id, true
		default:
			if id != current {
				t.Errorf("%s of audit %q while %q is under way", fields["event"], id, current)
			}
		}
	}
}
