package kmsapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

func TestNextAppIDs(t *testing.T) {
	api := fakeapi.New()
	c, seen := serve(t, api, nil)
	got, err := c.NextAppIDs(t.Context(), 2)
	want := []kmsapi.AppID{{ID: strings.Repeat("0", 39) + "1", Nonce: 1}, {ID: strings.Repeat("0", 39) + "2", Nonce: 2}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := c.NextAppIDs(t.Context(), 20); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"next_app_ids ok", "next_app_ids ok"}, seen.all); diff != "" || api.Reserved() != 22 {
		t.Errorf("%d reserved, observed (-want +got):\n%s", api.Reserved(), diff)
	}
}

func TestCountsAreCheckedBeforeAnythingIsSent(t *testing.T) {
	api := fakeapi.New()
	c, _ := serve(t, api, nil)
	for _, n := range []int{-1, 0, 21} {
		want := fmt.Sprintf("reserving %d app ids: want 1 to 20", n)
		if _, err := c.NextAppIDs(t.Context(), n); err == nil || err.Error() != want {
			t.Errorf("%d: %v", n, err)
		}
	}
	if api.Requests() != 0 {
		t.Errorf("%d requests", api.Requests())
	}
}

func TestNextAppIDsIsSentOnce(t *testing.T) {
	const perhaps = "; ids may have been reserved nevertheless"
	for _, tt := range []struct {
		sentence string
		fault    fakeapi.Fault
		want     string
	}{
		{"a 429 is a refusal", fakeapi.Fault{Name: fakeapi.Status, Status: 429, RetryAfter: "0"}, `429 Too Many Requests: "The fake was told to fail" (request id "req-1")`},
		{"a 403 is a refusal", fakeapi.Fault{Name: fakeapi.Status, Status: 403}, `api.api_key_file (request id "req-1")`},
		{"a 503 may come from a proxy that gave up", fakeapi.Fault{Name: fakeapi.Status, Status: 503, RetryAfter: "0"}, `(request id "req-1")` + perhaps},
		{"a broken connection tells nothing", fakeapi.Fault{Name: fakeapi.Reset}, "connection reset by peer" + perhaps},
		{"half an answer tells that there was one", fakeapi.Fault{Name: fakeapi.Truncated}, "unexpected end of JSON input" + perhaps},
		{"an answer of another shape does, too", fakeapi.Fault{Name: fakeapi.Missing, Path: "app_ids.0.nonce"}, "app_ids[0].nonce: missing" + perhaps},
	} {
		api := fakeapi.New()
		tt.fault.Endpoint = fakeapi.NextAppIDs
		api.Fail(tt.fault)
		c, seen := serve(t, api, nil)
		_, err := c.NextAppIDs(t.Context(), 1)
		if err == nil || !strings.HasPrefix(err.Error(), "reserving 1 app ids: ") || !strings.HasSuffix(err.Error(), tt.want) {
			t.Errorf("%s: error\n%v\nwant … %s", tt.sentence, err, tt.want)
		}
		if api.Requests() != 1 || len(seen.all) != 1 {
			t.Errorf("%s: %d requests, %d observed", tt.sentence, api.Requests(), len(seen.all))
		}
	}
}

// net/http sends a GET again where a kept connection breaks before an answer: a server that reserves and then goes
// away would reserve twice.
func TestNoKeptConnectionIsUsedToReserve(t *testing.T) {
	api := world(t)
	var asked atomic.Int32
	c, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/next_app_id") {
			asked.Add(1)
			panic(http.ErrAbortHandler)
		}
		api.ServeHTTP(w, r)
	}), nil)
	if _, err := c.OnChainDetail(t.Context(), "base"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.NextAppIDs(t.Context(), 1); err == nil || asked.Load() != 1 {
		t.Errorf("asked %d times, error %v", asked.Load(), err)
	}
}

// FuzzDecodeAppIDs holds that a body is refused with a short reason, or says the same when it is written down and read again.
func FuzzDecodeAppIDs(f *testing.F) {
	f.Add([]byte(`{"app_ids": [{"app_id": "ab", "nonce": 1}, {"app_id": "", "nonce": 18446744073709551615, "x": {}}]}`))
	f.Add([]byte(`{"app_ids": []}`))
	f.Add([]byte(`{"app_ids": null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		ids, err := kmsapi.DecodeAppIDs(body)
		if err != nil {
			shortInvalid(t, err)
			return
		}
		rows := []map[string]any{}
		for _, id := range ids {
			rows = append(rows, map[string]any{"app_id": id.ID, "nonce": id.Nonce})
		}
		again, err := kmsapi.DecodeAppIDs(written(t, map[string]any{"app_ids": rows}))
		if diff := cmp.Diff(ids, again); err != nil || diff != "" {
			t.Fatalf("read again: %v (-want +got):\n%s", err, diff)
		}
	})
}
