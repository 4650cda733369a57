package kmsapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

func TestFaults(t *testing.T) {
	const told = `"The fake was told to fail"`
	const hint = "; the key is missing or refused: see api.api_key_env and api.api_key_file"
	tests := []struct {
		sentence string
		fault    fakeapi.Fault
		want     string // ends the error
		results  []string
	}{
		{"a 400 says what the API says",
			fakeapi.Fault{Name: fakeapi.Status, Status: 400},
			`the API answered 400 Bad Request: ` + told + ` (request id "req-1")`, []string{"client_error"}},
		{"a 401 names the keys of the config",
			fakeapi.Fault{Name: fakeapi.Status, Status: 401},
			`the API answered 401 Unauthorized: ` + told + hint + ` (request id "req-1")`, []string{"unauthorized"}},
		{"a 403 names the keys of the config",
			fakeapi.Fault{Name: fakeapi.Status, Status: 403, Shape: fakeapi.ShapeEmpty},
			`the API answered 403 Forbidden` + hint + ` (request id "req-1")`, []string{"unauthorized"}},
		{"a 404 with a proxy's page shows its beginning",
			fakeapi.Fault{Name: fakeapi.Status, Status: 404, Shape: fakeapi.ShapeHTML},
			`404 Not Found: "<!DOCTYPE html><html><body><h1>It will be back soon</h1></body></html>" (request id "req-1")`, []string{"client_error"}},
		{"a 422 names the place of each complaint",
			fakeapi.Fault{Name: fakeapi.Status, Status: 422, Shape: fakeapi.ShapeList},
			`422 Unprocessable Entity: "path.chain: The fake was told to fail" (request id "req-1")`, []string{"client_error"}},
		{"a 500 with an error code shows it",
			fakeapi.Fault{Name: fakeapi.Status, Shape: fakeapi.ShapeCode},
			`500 Internal Server Error, code "ERR-01-001": ` + told + ` (request id "req-1")`, []string{"server_error"}},
		{"a 502 with a nested error code shows it",
			fakeapi.Fault{Name: fakeapi.Status, Status: 502, Shape: fakeapi.ShapeNested},
			`502 Bad Gateway, code "ERR-01-001": ` + told + ` (request id "req-1")`, []string{"server_error"}},
		{"a 429 is asked three times",
			fakeapi.Fault{Name: fakeapi.Status, Status: 429},
			`429 Too Many Requests: ` + told + ` (request id "req-3") (3 tries)`, []string{"rate_limited", "rate_limited", "rate_limited"}},
		{"a 503 that passes is no fault",
			fakeapi.Fault{Name: fakeapi.Status, Status: 503, Times: 1},
			``, []string{"server_error", "ok"}},
		{"a status nobody knows is invalid",
			fakeapi.Fault{Name: fakeapi.Status, Status: 299},
			`the API answered 299: ` + told + ` (request id "req-1")`, []string{"invalid"}},
		{"200 with a web page is no answer",
			fakeapi.Fault{Name: fakeapi.HTML},
			`the API's answer cannot be used: content type "text/html; charset=utf-8", want JSON`, []string{"invalid"}},
		{"truncated JSON is no answer",
			fakeapi.Fault{Name: fakeapi.Truncated},
			`cannot be used: unexpected end of JSON input`, []string{"invalid"}},
		{"a wrong type names its path",
			fakeapi.Fault{Name: fakeapi.WrongTypes},
			`cannot be used: contracts: want a list, got a string`, []string{"invalid"}},
		{"a missing field names its path",
			fakeapi.Fault{Name: fakeapi.Missing, Path: "contracts.0.devices.2.device_id"},
			`cannot be used: contracts[0].devices[2].device_id: missing`, []string{"invalid"}},
		{"a malformed address is quoted",
			fakeapi.Fault{Name: fakeapi.Replaced, Path: "contracts.0.contract_address", Value: json.RawMessage(`"0x12"`)},
			`contracts[0].contract_address: "0x12" has 2 characters after the prefix, want 40 hex digits`, []string{"invalid"}},
		{"null is no answer",
			fakeapi.Fault{Name: fakeapi.Null},
			`cannot be used: want an object, got null`, []string{"invalid"}},
		{"nothing is no answer",
			fakeapi.Fault{Name: fakeapi.Empty},
			`cannot be used: empty body`, []string{"invalid"}},
		{"a redirect is refused",
			fakeapi.Fault{Name: fakeapi.Redirect, Location: "http://127.0.0.1:1/"},
			`the API answered 302 Found: redirects are not followed (request id "req-1")`, []string{"invalid"}},
		{"a redirect to nowhere is refused without a look at it",
			fakeapi.Fault{Name: fakeapi.Redirect, Location: "http://[broken"},
			`redirects are not followed (request id "req-1")`, []string{"invalid"}},
		{"a connection reset is a network error",
			fakeapi.Fault{Name: fakeapi.Reset},
			`connection reset by peer`, []string{"network_error"}},
		{"a key echoed by an error is masked",
			fakeapi.Fault{Name: fakeapi.EchoKey},
			`401 Unauthorized, code "your key [redacted]": "your key [redacted]"` + hint + ` (request id "[redacted]")`, []string{"unauthorized"}},
		{"a key echoed by a failing server is masked",
			fakeapi.Fault{Name: fakeapi.EchoKey, Status: 500},
			`500 Internal Server Error: "your key [redacted]" (request id "[redacted]")`, []string{"server_error"}},
		{"another chain id is for the audit to judge",
			fakeapi.Fault{Name: fakeapi.WrongChainID}, ``, []string{"ok"}},
		{"a row of another chain is for the audit to judge",
			fakeapi.Fault{Name: fakeapi.ForeignRow}, ``, []string{"ok"}},
	}
	for _, tt := range tests {
		t.Run(tt.sentence, func(t *testing.T) {
			api := world(t)
			api.Fail(tt.fault)
			c, seen := serve(t, api, nil)
			_, err := c.OnChainDetail(t.Context(), "base")
			check(t, err, tt.want)
			for i := range tt.results {
				tt.results[i] = "on_chain_detail " + tt.results[i]
			}
			if diff := cmp.Diff(tt.results, seen.all); diff != "" {
				t.Error("observed (-want +got):\n", diff)
			}
			if api.Requests() != len(tt.results) {
				t.Errorf("%d requests", api.Requests())
			}
		})
	}
}

// check wants err to end in want, or to be nil where want is empty, and to name the chain but nothing secret.
func check(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Error(err)
		}
		return
	}
	if err == nil {
		t.Fatal("no error, want", want)
	}
	msg := err.Error()
	if !strings.HasPrefix(msg, "fetching the on-chain detail of base: ") || !strings.HasSuffix(msg, want) {
		t.Errorf("error  %s\nwant … %s", msg, want)
	}
	for _, s := range []string{canary, "http://", "/api/v1"} {
		if strings.Contains(msg, s) {
			t.Errorf("%q is shown in %s", s, msg)
		}
	}
}

func TestNoAnswerInTime(t *testing.T) {
	for _, fault := range []string{fakeapi.Hang, fakeapi.Stall} {
		t.Run(fault, func(t *testing.T) {
			api := world(t)
			api.Fail(fakeapi.Fault{Name: fault})
			c, seen := serve(t, api, func(o *kmsapi.Options) { o.Timeout = 30 * time.Millisecond })
			_, err := c.OnChainDetail(t.Context(), "base")
			check(t, err, "context deadline exceeded")
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer within 30ms") {
				t.Errorf("error %v", err)
			}
			if diff := cmp.Diff([]string{"on_chain_detail timeout"}, seen.all); diff != "" {
				t.Error("observed (-want +got):\n", diff)
			}
		})
	}
}

func TestCallerGivesUp(t *testing.T) {
	api := world(t)
	api.Fail(fakeapi.Fault{Name: fakeapi.Hang})
	c, seen := serve(t, api, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := c.OnChainDetail(ctx, "base")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer in the remaining time") {
		t.Errorf("at the deadline: %v", err)
	}
	cancel()
	if _, err := c.OnChainDetail(ctx, "base"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.OnChainDetail(gone, "base"); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	want := []string{"on_chain_detail timeout", "on_chain_detail timeout", "on_chain_detail canceled"}
	if diff := cmp.Diff(want, seen.all); diff != "" {
		t.Error("observed (-want +got):\n", diff)
	}
}

func TestConnectionRefused(t *testing.T) {
	srv := httptest.NewServer(nil)
	at := srv.Listener.Addr().String()
	srv.Close()
	c, seen := serve(t, nil, func(o *kmsapi.Options) {
		o.BaseURL = "http://user:pass-" + canary + "@" + at + "/api/v1?k=" + canary
	})
	_, err := c.OnChainDetail(t.Context(), "base")
	check(t, err, "connect: connection refused")
	var op *net.OpError
	if !errors.Is(err, syscall.ECONNREFUSED) || !errors.As(err, &op) {
		t.Errorf("error %#v does not unwrap", err)
	}
	if diff := cmp.Diff([]string{"on_chain_detail network_error"}, seen.all); diff != "" {
		t.Error("observed (-want +got):\n", diff)
	}
}
