package kmsapi_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// key is what stands for KEY in a fuzzed answer, and pieces are enough of it to do harm.
const key = "phak_c4n4ry-0123456789"

var pieces = []string{key[:8], key[len(key)-8:]}

type answering func() *http.Response

func (a answering) RoundTrip(*http.Request) (*http.Response, error) { return a(), nil }

// FuzzAnswer holds that an answer of the API, with its headers, is either decoded whole, or ends in one short error
// without the key, of a known result, after as many tries as are due.
func FuzzAnswer(f *testing.F) {
	const json = "application/json"
	f.Add(200, json, "", "req-1", vectors(f))
	f.Add(200, "application/problem+json; charset=utf-8", "", "\x1b[2J", []byte(small))
	f.Add(200, json, "", "KEY", []byte(strings.Replace(small, `"chain_name": "`, `"chain_name": "KEY`, 1)))
	f.Add(200, strings.Repeat("x", 190)+"KEY", "", strings.Repeat("x", 190)+"KEY", []byte(small))
	f.Add(200, "text/html", "", "", []byte("<html>KEY</html>"))
	f.Add(200, json, "", "", []byte(`{"`+strings.Repeat("x", 190)+`KEY":1,"`+strings.Repeat("x", 190)+`KEY":1}`))
	f.Add(200, json, "", "", []byte(`{"chain_name":"x","chain_id":`+strings.Repeat("1", 300)+`}`))
	f.Add(301, "", "", "", []byte(nil))
	f.Add(401, json, "", "", []byte(`{"detail":"no such key: KEY"}`))
	f.Add(422, json, "", "", []byte(`{"detail":[{"loc":["path",0,"KEY"],"msg":"field \u001brequired"},{"loc":7,"msg":"x"},7]}`))
	f.Add(429, json, "3", "", []byte(`{"error_code":"ERR-01-001","message":"KEY","request_id":"KEY"}`))
	f.Add(503, "", "Sun, 01 Nov 2026 12:00:30 GMT", "", []byte(`{"detail":{"error_code":7,"message":"`+strings.Repeat("x", 190)+`KEY"}}`))
	f.Add(503, "", "Sun, 01 Nov 7000 00:00:00 GMT", "", []byte(nil))
	f.Add(500, "", "", "", []byte(strings.Repeat("x", 190)+"KEY"))
	f.Fuzz(func(t *testing.T, status int, contentType, retryAfter, requestID string, body []byte) {
		put := func(s string) string { return strings.ReplaceAll(s, "KEY", key) }
		body = []byte(put(string(body)))
		header := http.Header{"Content-Type": {put(contentType)}, "Retry-After": {put(retryAfter)}, "X-Request-Id": {put(requestID)}}
		synctest.Test(t, func(t *testing.T) {
			seen := &results{t: t}
			c, err := kmsapi.New(kmsapi.Options{BaseURL: "http://api", Key: sanitize.NewSecret(key), Observe: seen.observe, Transport: answering(func() *http.Response {
				return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(bytes.NewReader(body))}
			})})
			if err != nil {
				t.Fatal(err)
			}
			d, err := c.OnChainDetail(t.Context(), "base")
			passing := status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
			if n := len(seen.all); n != 3 && passing || n != 1 && !passing || (err == nil) != (seen.all[0] == "on_chain_detail ok") {
				t.Errorf("status %d is observed as %q: %v", status, seen.all, err)
			}
			if err != nil {
				refusedAnswer(t, status, err)
				return
			}
			want, err := kmsapi.Decode([]byte(strings.ReplaceAll(string(body), key, sanitize.Mask)))
			sum := sha256.Sum256(body)
			want.Source = d.Source
			if diff := cmp.Diff(want, d); status != http.StatusOK || err != nil || diff != "" || d.Source.Body != string(body) || d.Source.SHA256 != hex.EncodeToString(sum[:]) {
				t.Errorf("status %d: %v (-want +got):\n%s", status, err, diff)
			}
			if d.Source.HoldsKey != bytes.Contains(body, []byte(key)) {
				t.Errorf("the body is said to hold the key: %t", d.Source.HoldsKey)
			}
			fit.Text(t, d.Source.RequestID, 1000, pieces...)
			for _, v := range d.Source.Header {
				fit.Text(t, v, 1000, pieces...)
			}
		})
	})
}

func refusedAnswer(t *testing.T, status int, err error) {
	t.Helper()
	fit.Error(t, err, 4000, pieces...)
	refusal, refuses := errors.AsType[*kmsapi.StatusError](err)
	_, invalid := errors.AsType[*kmsapi.InvalidError](err)
	if refuses == invalid || invalid != (status == http.StatusOK) {
		t.Errorf("status %d is an error of no kind, or of two: %v", status, err)
	}
	if refuses && (refusal.Status != status || refusal.RetryAfter < 0) {
		t.Errorf("%+v", refusal)
	}
}
