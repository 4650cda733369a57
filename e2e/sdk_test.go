//go:build e2e

package e2e_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/fakeapi"
)

const recorded = "../kmsapi/testdata/kms-on-chain-base.json"

// askSDK runs the official client against the fake.
func askSDK(t *testing.T, a *api, chain string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.CommandContext(t.Context(), "node", "sdk.mjs", a.url, "key", chain)
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &errs, environ(nil)
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func TestTheOfficialClientAcceptsTheFakesAnswers(t *testing.T) {
	world, err := filepath.Abs(recorded)
	must(t, err)
	a := startAPI(t, "-world", world, "-key", "key")
	out, errs, err := askSDK(t, a, "base")
	if err != nil {
		t.Fatalf("%v\n%s", err, errs)
	}
	want, err := os.ReadFile(recorded)
	must(t, err)
	if diff := cmp.Diff(decode(t, string(want)), decode(t, out)); diff != "" {
		t.Errorf("what the client made of the world (-want +got):\n%s", diff)
	}
}

// A client that takes anything would prove nothing.
func TestTheOfficialClientRefusesWhatIsNoAnswer(t *testing.T) {
	world, err := filepath.Abs(recorded)
	must(t, err)
	a := startAPI(t, "-world", world)
	for sentence, f := range map[string]fakeapi.Fault{
		"a device without an id": {Name: fakeapi.Missing, Path: "contracts.0.devices.0.device_id"},
		"a claim that is a text": {Name: fakeapi.Replaced, Path: "contracts.0.devices.0.on_chain_allowed", Value: json.RawMessage(`"true"`)},
		"a refusal":              {Name: fakeapi.Status, Status: 403},
	} {
		t.Run(sentence, func(t *testing.T) {
			must(t, a.fail(f))
			if out, errs, err := askSDK(t, a, "base"); err == nil {
				t.Errorf("the client accepts %s%s", out, errs)
			}
		})
	}
}

func decode(t *testing.T, text string) (v any) {
	t.Helper()
	must(t, json.Unmarshal([]byte(text), &v))
	return v
}
