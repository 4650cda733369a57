package main_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bench "github.com/kms-auditor/kms-auditor/bench"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAMeterCountsWhatPassesUnchanged(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := z.Write([]byte(strings.Repeat("answer ", 1000)))
	must(t, err)
	must(t, z.Close())
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/kms" || string(body) != "question" {
			http.Error(w, "that was not asked", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(packed.Bytes())
	}))
	defer upstream.Close()
	to, err := url.Parse(upstream.URL)
	must(t, err)
	m := bench.NewMeter(&httputil.ReverseProxy{Transport: bench.Transport(), Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }})
	defer m.Close()
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	defer client.CloseIdleConnections()
	for range 3 {
		resp, err := client.Post(m.URL+"/kms", "text/plain", strings.NewReader("question"))
		must(t, err)
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		must(t, err)
		if resp.StatusCode != http.StatusOK || !bytes.Equal(got, packed.Bytes()) {
			t.Fatalf("%s: the answer changed: %q", resp.Status, got)
		}
	}
	requests, n := m.Counts()
	if least := int64(3 * (packed.Len() + len("question"))); requests != 3 || n < least || n > least+3*1000 {
		t.Errorf("%d requests and %d bytes, want 3, and little more than %d", requests, n, least)
	}
}

func TestAnAnswerOfTheAuditorIsWhole(t *testing.T) {
	entry := func(v string) string {
		return `{"list": "device", "id": "0xAb", "claim": "allowed", "on_chain": "denied", "verdict": "` + v + `"}`
	}
	report := func(verdict, assurance, errors, entries string) string {
		return fmt.Sprintf(`{"chains": [{"errors": [%s], "targets": [{"contract": "0xC0", "verdict": %q, "assurance": %q, "completeness": "proven", "entries": [%s]}]}]}`,
			errors, verdict, assurance, entries)
	}
	for _, row := range []struct {
		sentence, report string
		want             []string
		refused          bool
	}{
		{"a match is not a difference", report("consistent", "proven", "", entry("match")), []string{}, false},
		{"a mismatch is one", report("drift", "proven", "", entry("match")+","+entry("mismatch")), []string{"0xc0 device 0xab true false"}, false},
		{"an unclaimed entry is not a difference", report("consistent", "proven", "", entry("unclaimed")), []string{}, false},
		{"an unknown report is an error", report("unknown", "proven", "", entry("match")), nil, true},
		{"an unproven report is an error", report("consistent", "single", "", entry("match")), nil, true},
		{"a report with a failed source is an error", report("consistent", "proven", `{"stage": "rpc"}`, entry("match")), nil, true},
		{"other output is an error", "nothing", nil, true},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			if got, err := bench.ReadReport([]byte(row.report)); !slices.Equal(got, row.want) || (err != nil) != row.refused {
				t.Errorf("got %q, %v; want %q", got, err, row.want)
			}
		})
	}
}

func TestLaunchTellsWhatAProgramTook(t *testing.T) {
	path := filepath.Join(t.TempDir(), "launch")
	if out, err := exec.Command("go", "build", "-o", path, "./launch").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	cmd := exec.Command(path, "sh", "-c", "echo out; exit 3")
	cmd.ExtraFiles = []*os.File{w}
	out, err := cmd.Output()
	w.Close()
	told, readErr := io.ReadAll(r)
	must(t, readErr)
	var wall, cpu, rss int64
	if n, _ := fmt.Sscan(string(told), &wall, &cpu, &rss); n != 3 || wall <= 0 || cpu <= 0 || rss < 100<<10 || rss > 100<<20 {
		t.Errorf("the launcher wrote %q", told)
	}
	if string(out) != "out\n" || cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("%q, %v", out, err)
	}
}
