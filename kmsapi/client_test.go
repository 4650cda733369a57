package kmsapi_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

func TestRequestAndEvidence(t *testing.T) {
	body := vectors(t)
	var got *http.Request
	c, seen := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Set("Content-Type", "application/problem+json; charset=utf-8")
		w.Header().Set("X-Request-ID", strings.Repeat("r", 300))
		_, _ = w.Write(body)
	}), nil)
	before := time.Now()
	d, err := c.OnChainDetail(t.Context(), "base")
	if err != nil {
		t.Fatal(err)
	}

	user, pass, _ := got.BasicAuth()
	request := map[string]string{
		"line": got.Method + " " + got.RequestURI, "user": user, "pass": pass,
		"agent": got.UserAgent(), "accept": got.Header.Get("Accept"),
		"version": got.Header.Get("X-Phala-Version"), "key": got.Header.Get("X-API-Key"),
	}
	if diff := cmp.Diff(map[string]string{
		"line": "GET /api/v1/kms/on-chain/base?token=query-" + canary, "user": "user-" + canary, "pass": "pass-" + canary,
		"agent": "kms-auditor/test", "accept": "application/json", "version": "2026-06-23", "key": "phak_" + canary,
	}, request); diff != "" {
		t.Error("request (-want +got):\n", diff)
	}
	if d.Source.FetchedAt.Before(before.Add(-time.Second)) || d.Source.FetchedAt.Location() != time.UTC {
		t.Errorf("fetched at %v", d.Source.FetchedAt)
	}
	d.Source.FetchedAt = time.Time{}
	if d.Source.Header["Date"] == "" {
		t.Error("the date of the answer is not kept")
	}
	delete(d.Source.Header, "Date")
	if diff := cmp.Diff(kmsapi.Source{
		SHA256:     fmt.Sprintf("%x", sha256.Sum256(body)),
		APIVersion: "2026-06-23",
		RequestID:  strings.Repeat("r", 200) + "…",
		Body:       string(body),
		Header: map[string]string{
			"Content-Type": "application/problem+json; charset=utf-8", "X-Request-Id": strings.Repeat("r", 200) + "…",
		},
	}, d.Source); diff != "" {
		t.Error("source (-want +got):\n", diff)
	}
	if diff := cmp.Diff([]string{"on_chain_detail ok"}, seen.all); diff != "" {
		t.Error("observed (-want +got):\n", diff)
	}
}

func TestNoKeyAndNoVersionAreNotSent(t *testing.T) {
	api := world(t)
	c, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, h := range []string{"X-API-Key", "X-Phala-Version"} {
			if _, sent := r.Header[http.CanonicalHeaderKey(h)]; sent {
				t.Errorf("%s was sent", h)
			}
		}
		api.ServeHTTP(w, r)
	}), func(o *kmsapi.Options) { o.Key, o.Version = sanitize.Secret{}, "" })
	if _, err := c.OnChainDetail(t.Context(), "base"); err != nil {
		t.Error(err)
	}
}

func TestChainNameStaysOnePathElement(t *testing.T) {
	for name, path := range map[string]string{
		"base":      "/api/v1/kms/on-chain/base",
		"a/../../b": "/api/v1/kms/on-chain/a%2F..%2F..%2Fb",
		"x?y#z":     "/api/v1/kms/on-chain/x%3Fy%23z",
		"..":        "",
		".":         "",
		"":          "",
	} {
		var asked string
		c, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = r.URL.EscapedPath()
			w.WriteHeader(http.StatusTeapot)
		}), nil)
		if _, err := c.OnChainDetail(t.Context(), name); err == nil {
			t.Errorf("%q: no error", name)
		}
		if asked != path {
			t.Errorf("%q asked for %q, want %q", name, asked, path)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for sentence, o := range map[string]kmsapi.Options{
		"a base URL without scheme":          {BaseURL: "cloud-api/" + canary},
		"a base URL of another scheme":       {BaseURL: "ftp://host/" + canary},
		"a base URL without host":            {BaseURL: "https:///" + canary},
		"a base URL that does not parse":     {BaseURL: "https://" + canary + ":port/"},
		"a key with a line end":              {BaseURL: "https://host", Key: sanitize.NewSecret(canary + "\n")},
		"a version with a character too odd": {BaseURL: "https://host", Version: "2026–06"},
	} {
		_, err := kmsapi.New(o)
		if err == nil {
			t.Errorf("%s: no error", sentence)
		} else if strings.Contains(err.Error(), canary) {
			t.Errorf("%s: shown in %q", sentence, err)
		}
	}
}

func TestBigBodiesAreNotKept(t *testing.T) {
	allocates := func(f func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	full := make([]byte, 8<<20+1) // the body is 100 MB
	most := 12<<20 + allocates(func() { _, _ = io.ReadAll(bytes.NewReader(full)) })
	for _, fault := range []string{fakeapi.Huge, fakeapi.GzipBomb} {
		api := world(t)
		api.Fail(fakeapi.Fault{Name: fault})
		c, _ := serve(t, api, nil)
		var err error
		if grown := allocates(func() { _, err = c.OnChainDetail(t.Context(), "base") }); grown > most {
			t.Errorf("%s: %d MiB were allocated, want at most %d", fault, grown>>20, most>>20)
		}
		if err == nil || !strings.Contains(err.Error(), "body over 8 MiB") {
			t.Errorf("%s: error %v", fault, err)
		}
	}
}

func TestBodyOfExactlyTheCapIsRead(t *testing.T) {
	body := append(vectors(t), make([]byte, 8<<20)...)[:8<<20]
	for i := len(vectors(t)); i < len(body); i++ {
		body[i] = ' '
	}
	c, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	}), nil)
	if _, err := c.OnChainDetail(t.Context(), "base"); err != nil {
		t.Error(err)
	}
}

func TestRedirectReachesNobody(t *testing.T) {
	var reached int
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
	defer other.Close()
	api := world(t)
	api.Fail(fakeapi.Fault{Name: fakeapi.Redirect, Location: other.URL + "/login?next=secret-place"})
	c, _ := serve(t, api, nil)
	_, err := c.OnChainDetail(t.Context(), "base")
	if err == nil || !strings.Contains(err.Error(), "redirects are not followed") {
		t.Errorf("error %v", err)
	}
	if err != nil && strings.Contains(err.Error(), "secret-place") {
		t.Errorf("the place is shown: %v", err)
	}
	if reached != 0 {
		t.Errorf("the other place was asked %d times", reached)
	}
}

func TestEchoedKeyIsMaskedInTexts(t *testing.T) {
	api := world(t)
	api.Fail(fakeapi.Fault{Name: fakeapi.EchoKey, Status: 200})
	c, _ := serve(t, api, nil)
	d, err := c.OnChainDetail(t.Context(), "base")
	if err != nil {
		t.Fatal(err)
	}
	want := kmsapi.Device{ID: "your key [redacted]", NodeName: "your key [redacted]", Allowed: kmsapi.AllowedTrue}
	if diff := cmp.Diff(want, d.Contracts[0].Devices[0]); diff != "" {
		t.Error("device (-want +got):\n", diff)
	}
	if d.Source.RequestID != "[redacted]" {
		t.Errorf("request id %q", d.Source.RequestID)
	}
}
