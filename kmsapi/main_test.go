package kmsapi_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// canary is in every secret that a client of these tests has.
const canary = "c4n4ry"

func vectors(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/kms-on-chain-base.json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func world(t testing.TB) *fakeapi.Server {
	t.Helper()
	f, err := os.Open("testdata/kms-on-chain-base.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	chains, err := fakeapi.ReadWorld(f)
	if err != nil {
		t.Fatal(err)
	}
	return fakeapi.New(chains...)
}

// results collects what a client observes, and checks that only listed values occur.
type results struct {
	t   testing.TB
	mu  sync.Mutex
	all []string
}

func (r *results) observe(endpoint, result string, took time.Duration) {
	if !slices.Contains(kmsapi.Endpoints, endpoint) || !slices.Contains(kmsapi.Results, result) || took < 0 {
		r.t.Errorf("observed %s %s %s", endpoint, result, took)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, endpoint+" "+result)
}

// serve returns a client of h over TCP, with a canary in everything secret.
func serve(t testing.TB, h http.Handler, change func(*kmsapi.Options)) (*kmsapi.Client, *results) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	seen := &results{t: t}
	o := kmsapi.Options{
		BaseURL:    strings.Replace(srv.URL, "://", "://user-"+canary+":pass-"+canary+"@", 1) + "/api/v1/?token=query-" + canary,
		Version:    "2026-06-23",
		Key:        sanitize.NewSecret("phak_" + canary),
		UserAgent:  "kms-auditor/test",
		RetryDelay: time.Millisecond,
		Observe:    seen.observe,
	}
	if change != nil {
		change(&o)
	}
	c, err := kmsapi.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, seen
}
