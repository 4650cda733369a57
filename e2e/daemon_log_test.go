//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

func TestDaemonLogsChanges(t *testing.T) {
	t.Parallel()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	schema, err := compiler.Compile("../docs/report.schema.json")
	must(t, err)

	s := newScene(t, 2, 2)
	d := startDaemon(t, s.settings)
	for _, step := range []struct {
		sentence string
		change   func() error
		verdict  string
	}{
		{"at first both sides agree", func() error { return nil }, "consistent"},
		{"the contract refuses a device that the API offers", func() error { return s.kms.RemoveDevice(t.Context(), s.devices[0]) }, "drift"},
		{"the provider fails while the finding is open", func() error { s.proxy.Set(rpcfault.Status(503, "")); return nil }, "unknown"},
		{"the provider is back, and the finding still there", func() error { s.proxy.Set(rpcfault.Fault{}); return nil }, "drift"},
		{"the contract takes the device back", func() error { return s.kms.AllowDevice(t.Context(), s.devices[0]) }, "consistent"},
		{"the API fails", func() error { return s.api.fail(fakeapi.Fault{Name: fakeapi.HTML}) }, "unknown"},
		{"the API is back", s.api.heal, "consistent"},
	} {
		must(t, wrap(step.sentence, step.change()))
		d.finds(t, step.verdict)
		body := d.page(t, "/api/v1/report")
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
		must(t, err)
		if err := schema.Validate(doc); err != nil {
			t.Errorf("%s: %v\n%s", step.sentence, err, body)
		}
		if got := decodeReport(t, body).Verdict.String(); got != step.verdict {
			t.Errorf("%s: the report says %s", step.sentence, got)
		}
	}
	if code := d.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}

	want := []string{
		"finding_opened claim_allowed_chain_denied " + s.devices[0].Hex(),
		"source_failed rpc p1",
		"finding_resolved claim_allowed_chain_denied " + s.devices[0].Hex(),
		"source_failed decode api",
	}
	if diff := cmp.Diff(want, story(t, d.logged())); diff != "" {
		t.Errorf("logged events (-want +got):\n%s\n%s", diff, strings.Join(d.logged(), "\n"))
	}
}

// story checks that every line is JSON, and that each audit's lines are between its start and its end and have its audit_id. It
// returns the events without repetitions.
func story(t *testing.T, lines []string) []string {
	t.Helper()
	var told []string
	ids, current := map[string]bool{}, ""
	for _, line := range lines {
		var l struct {
			Level, Time, Msg, Event string
			AuditID                 string `json:"audit_id"`
			Kind, ID, Stage, Source string
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Level == "" || l.Time == "" || l.Msg == "" {
			t.Errorf("no log line in JSON: %v\n%s", err, line)
			continue
		}
		switch {
		case l.Event == "":
			continue
		case l.Event == "audit_started" && current == "" && l.AuditID != "" && !ids[l.AuditID]:
			current, ids[l.AuditID] = l.AuditID, true
		case l.Event == "audit_started", l.AuditID != current:
			t.Errorf("in audit %q:\n%s", current, line)
		}
		what := fmt.Sprintf("%s %s%s %s%s", l.Event, l.Kind, l.Stage, l.ID, l.Source)
		switch {
		case l.Event == "audit_finished":
			current = ""
		case l.Event != "audit_started" && (len(told) == 0 || told[len(told)-1] != what):
			told = append(told, what)
		}
	}
	return told
}
