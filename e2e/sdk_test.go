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

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
)

const recorded = "../kmsapi/testdata/kms-on-chain-base.json"

// sdkVersions are the official client's API versions, the default first.
var sdkVersions = []string{"2026-01-21", "2025-10-28"}

// askSDK runs an action of the official client, such as GetKmsInfo, against the fake API.
func askSDK(t *testing.T, a *api, version, action, parameters string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.CommandContext(t.Context(), "node", "sdk.mjs", a.url, "key", version, action, parameters)
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &errs, environ(nil)
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// sdk returns the official client's result for the fake API's answer, which it must accept.
func sdk(t *testing.T, a *api, version, action, parameters string) any {
	t.Helper()
	out, errs, err := askSDK(t, a, version, action, parameters)
	if err != nil {
		t.Fatalf("%s in %s: %v\n%s", action, version, err, errs)
	}
	return decode(t, out)
}

func startRecorded(t *testing.T) *api {
	t.Helper()
	world, err := filepath.Abs(recorded)
	must(t, err)
	return startAPI(t, "-world", world, "-key", "key")
}

func TestTheOfficialClientAcceptsTheFakesAnswers(t *testing.T) {
	t.Parallel()
	a := startRecorded(t)
	want, err := os.ReadFile(recorded)
	must(t, err)
	var reserved float64
	for _, version := range sdkVersions {
		if diff := cmp.Diff(decode(t, string(want)), sdk(t, a, version, "GetKmsOnChainDetail", `{"chain": "base"}`)); diff != "" {
			t.Errorf("%s: the client's result (-want +got):\n%s", version, diff)
		}

		offChain := decode(t, `{"id": "kms_phala", "slug": "phala-node", "url": "https://kms.phala.example", "version": "v0.5.8",
			"chain_id": null, "kms_contract_address": null, "gateway_app_id": null}`)
		onChain := decode(t, `{"id": "kms_base", "slug": "base-node", "url": "https://kms.base.example", "version": "v0.5.8",
			"chain_id": 8453, "kms_contract_address": "0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C", "gateway_app_id": null}`)
		list := sdk(t, a, version, "GetKmsList", `{"page": 1, "page_size": 100}`).(map[string]any)
		withoutChain(t, list["items"].([]any)[1])
		if diff := cmp.Diff(any(map[string]any{"items": []any{offChain, onChain}, "total": 2.0, "page": 1.0, "page_size": 100.0, "pages": 1.0}), any(list)); diff != "" {
			t.Errorf("%s: the list (-want +got):\n%s", version, diff)
		}
		list = sdk(t, a, version, "GetKmsList", `{"is_onchain": true, "page_size": 1, "page": 2}`).(map[string]any)
		if diff := cmp.Diff(any(map[string]any{"items": []any{}, "total": 1.0, "page": 2.0, "page_size": 1.0, "pages": 1.0}), any(list)); diff != "" {
			t.Errorf("%s: a page past the end (-want +got):\n%s", version, diff)
		}
		for _, id := range []string{"kms_base", "base-node"} {
			got := sdk(t, a, version, "GetKmsInfo", `{"kms_id": "`+id+`"}`)
			withoutChain(t, got)
			if diff := cmp.Diff(onChain, got); diff != "" {
				t.Errorf("%s: %s (-want +got):\n%s", version, id, diff)
			}
		}

		ids := sdk(t, a, version, "NextAppIds", `{"counts": 2}`).(map[string]any)["app_ids"].([]any)
		if len(ids) != 2 || len(ids[0].(map[string]any)["app_id"].(string)) != 40 || ids[1].(map[string]any)["nonce"] != reserved+2 {
			t.Errorf("%s: the client was given %v", version, ids)
		}
		reserved += 2
	}
}

// withoutChain removes the fields that the client adds for a known chain.
func withoutChain(t *testing.T, item any) {
	t.Helper()
	row := item.(map[string]any)
	chain, ok := row["chain"].(map[string]any)
	if !ok || chain["id"] != row["chain_id"] {
		t.Errorf("the client does not know the chain of %v", row["id"])
	}
	delete(row, "chain")
}

// TestTheOfficialClientRefusesInvalidAnswers checks that the client really validates.
func TestTheOfficialClientRefusesInvalidAnswers(t *testing.T) {
	t.Parallel()
	a := startRecorded(t)
	questions := map[string][2]string{
		"":                 {"GetKmsOnChainDetail", `{"chain": "base"}`},
		fakeapi.List:       {"GetKmsList", `{}`},
		fakeapi.Info:       {"GetKmsInfo", `{"kms_id": "kms_base"}`},
		fakeapi.NextAppIDs: {"NextAppIds", `{"counts": 1}`},
	}
	for _, tt := range []struct {
		sentence string
		fault    fakeapi.Fault
	}{
		{"a device without an id", fakeapi.Fault{Name: fakeapi.Missing, Path: "contracts.0.devices.0.device_id"}},
		{"a claim that is a text", fakeapi.Fault{Name: fakeapi.Replaced, Path: "contracts.0.devices.0.on_chain_allowed", Value: json.RawMessage(`"true"`)}},
		{"a refusal", fakeapi.Fault{Name: fakeapi.Status, Status: 403}},
		{"a list without a total", fakeapi.Fault{Endpoint: fakeapi.List, Name: fakeapi.Missing, Path: "total"}},
		{"a node without a URL", fakeapi.Fault{Endpoint: fakeapi.List, Name: fakeapi.Missing, Path: "items.0.url"}},
		{"a node without a word of its gateway", fakeapi.Fault{Endpoint: fakeapi.Info, Name: fakeapi.Missing, Path: "gateway_app_id"}},
		{"a KMS that is not there", fakeapi.Fault{Endpoint: fakeapi.Info, Name: fakeapi.Status, Status: 404}},
		{"a nonce that is a text", fakeapi.Fault{Endpoint: fakeapi.NextAppIDs, Name: fakeapi.Replaced, Path: "app_ids.0.nonce", Value: json.RawMessage(`"1"`)}},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			must(t, a.fail(tt.fault))
			q := questions[tt.fault.Endpoint]
			if out, errs, err := askSDK(t, a, sdkVersions[0], q[0], q[1]); err == nil {
				t.Errorf("the client accepts %s%s", out, errs)
			}
		})
	}
	// The client's types describe nodes. The contracts that the same path returns since 2026-06-23 do not match them.
	must(t, a.heal())
	if out, errs, err := askSDK(t, a, "2026-06-23", "GetKmsInfo", `{"kms_id": "base"}`); err == nil || !strings.Contains(errs, "kms_contract_address") {
		t.Errorf("the client takes a contract for a node: %s%s", out, errs)
	}
}

func decode(t *testing.T, text string) (v any) {
	t.Helper()
	must(t, json.Unmarshal([]byte(text), &v))
	return v
}
