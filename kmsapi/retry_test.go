package kmsapi_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// direct hands requests to a handler without a network, so that the clock of a synctest bubble can run ahead.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result(), nil
}

func TestRetries(t *testing.T) {
	tests := []struct {
		sentence string
		fault    fakeapi.Fault
		date     time.Duration // Retry-After as an HTTP date that far away
		limit    time.Duration // of ctx
		took     time.Duration
		requests int
		want     string // part of the error
	}{
		{"a passing 429 is asked again after a second", fakeapi.Fault{Status: 429, Times: 1}, 0, 0, time.Second, 2, ""},
		{"the delay doubles", fakeapi.Fault{Status: 503, Times: 2}, 0, 0, 3 * time.Second, 3, ""},
		{"the third refusal is the last", fakeapi.Fault{Status: 429}, 0, 0, 3 * time.Second, 3, "(3 tries)"},
		{"Retry-After in seconds is honoured", fakeapi.Fault{Status: 429, Times: 1, RetryAfter: "7"}, 0, 0, 7 * time.Second, 2, ""},
		{"Retry-After as a date is honoured", fakeapi.Fault{Status: 503, Times: 1}, 90 * time.Second, 0, 90 * time.Second, 2, ""},
		{"Retry-After in the past is none", fakeapi.Fault{Status: 503, Times: 1}, -time.Hour, 0, time.Second, 2, ""},
		{"Retry-After that is garbage is none", fakeapi.Fault{Status: 503, Times: 1, RetryAfter: "soon"}, 0, 0, time.Second, 2, ""},
		{"a wait past the deadline is not begun", fakeapi.Fault{Status: 429, RetryAfter: "3600"}, 0, 2 * time.Minute, 0, 1,
			"the next try would be in 1h0m0s, after the deadline"},
		{"a wait of centuries is not begun", fakeapi.Fault{Status: 429, RetryAfter: "99999999999999999999"}, 0, 2 * time.Minute, 0, 1,
			"after the deadline"},
		{"a 500 is not asked again", fakeapi.Fault{Status: 500}, 0, 0, 0, 1, "500"},
		{"a 409 is not asked again", fakeapi.Fault{Status: 409, RetryAfter: "1"}, 0, 0, 0, 1, "409"},
	}
	for _, tt := range tests {
		t.Run(tt.sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if tt.limit > 0 {
					ctx, cancel = context.WithTimeout(ctx, tt.limit)
				}
				defer cancel()
				tt.fault.Name = fakeapi.Status
				if tt.date != 0 {
					tt.fault.RetryAfter = time.Now().Add(tt.date).UTC().Format(http.TimeFormat)
				}
				api := world(t)
				api.Fail(tt.fault)
				c, err := kmsapi.New(kmsapi.Options{BaseURL: "http://api", Transport: direct{api}})
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				_, err = c.OnChainDetail(ctx, "base")
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %s, want %s", took, tt.took)
				}
				if api.Requests() != tt.requests {
					t.Errorf("%d requests, want %d", api.Requests(), tt.requests)
				}
				if tt.want == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				var status *kmsapi.StatusError
				if !errors.As(err, &status) || status.Status != tt.fault.Status || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error %v, want status %d and %q", err, tt.fault.Status, tt.want)
				}
			})
		})
	}
}

func TestCancelEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := world(t)
		api.Fail(fakeapi.Fault{Name: fakeapi.Status, Status: 429, RetryAfter: "60", Shape: fakeapi.ShapeNested})
		c, err := kmsapi.New(kmsapi.Options{BaseURL: "http://api", Transport: direct{api}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Second, cancel)
		start := time.Now()
		_, err = c.OnChainDetail(ctx, "base")
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("took %s", took)
		}
		var status *kmsapi.StatusError
		if !errors.Is(err, context.Canceled) || !errors.As(err, &status) {
			t.Fatalf("error %v, want both the refusal and the cancellation", err)
		}
		if diff := cmp.Diff(&kmsapi.StatusError{
			Status: 429, Code: "ERR-01-001", Message: "The fake was told to fail", RequestID: "req-1", RetryAfter: time.Minute,
		}, status); diff != "" {
			t.Error("refusal (-want +got):\n", diff)
		}
	})
}
