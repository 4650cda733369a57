package main_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	bench "github.com/kms-auditor/kms-auditor/bench"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestASizeIsReadAsItIsWritten(t *testing.T) {
	for _, good := range []string{"1x10", "100x1000@8", "8x1@8"} {
		if s, err := bench.ParseSize(good); err != nil || s.String() != good {
			t.Errorf("%s: got %s, %v", good, s, err)
		}
	}
	for _, bad := range []string{"", "10", "x10", "1x", "0x10", "1x-1", "1x10@0", "1x10@1", "2x10@3", "1x10@", "1x10 ", "01x10"} {
		if s, err := bench.ParseSize(bad); err == nil {
			t.Errorf("%q was read as %s", bad, s)
		}
	}
}

func TestAProxyCountsWhatPassesUnchanged(t *testing.T) {
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
	p, err := bench.NewProxy(upstream.URL)
	must(t, err)
	defer p.Close()
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	defer client.CloseIdleConnections()
	for range 3 {
		resp, err := client.Post(p.URL+"/kms", "text/plain", strings.NewReader("question"))
		must(t, err)
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		must(t, err)
		if resp.StatusCode != http.StatusOK || !bytes.Equal(got, packed.Bytes()) {
			t.Fatalf("%s: the answer changed: %q", resp.Status, got)
		}
	}
	requests, n := p.Counts()
	if least := int64(3 * (packed.Len() + len("question"))); requests != 3 || n < least || n > least+3*1000 {
		t.Errorf("%d requests and %d bytes, want 3, and little more than %d", requests, n, least)
	}
}

func TestAnAnswerOfTheAuditorIsWhole(t *testing.T) {
	entry := func(v string) string {
		return `{"list": "device", "id": "0xAb", "claim": "allowed", "on_chain": "denied", "verdict": "` + v + `"}`
	}
	report := func(verdict, assurance, errors, entries string) string {
		return fmt.Sprintf(`{"chains": [{"chain": "base", "errors": [%s], "targets": [{"contract": "0xC0", "verdict": %q, "assurance": %q, "completeness": "proven", "entries": [%s]}]}]}`,
			errors, verdict, assurance, entries)
	}
	for _, row := range []struct {
		sentence, report string
		want             []string
		refused          bool
	}{
		{"what matches is no difference", report("consistent", "proven", "", entry("match")), []string{}, false},
		{"a mismatch is one", report("drift", "proven", "", entry("match")+","+entry("mismatch")), []string{"base 0xc0 device 0xab true false"}, false},
		{"unknown is no answer", report("unknown", "proven", "", entry("match")), nil, true},
		{"what is not proven is no answer", report("consistent", "single", "", entry("match")), nil, true},
		{"where a source failed there is no answer", report("consistent", "proven", `{"stage": "rpc"}`, entry("match")), nil, true},
		{"what is no report is no answer", "nothing", nil, true},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			got, err := bench.ReadReport(audit.Proven, audit.Complete)([]byte(row.report))
			if d := cmp.Diff(row.want, []string(got)); d != "" || (err != nil) != row.refused {
				t.Errorf("%v (-want +got):\n%s", err, d)
			}
		})
	}
}

func TestLinesAreAnAnswerInAnyOrder(t *testing.T) {
	got, err := bench.ReadLines([]byte("b\na\n"))
	if d := cmp.Diff([]string{"a", "b"}, []string(got)); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
}

func TestGoals(t *testing.T) {
	ms := func(n ...time.Duration) []time.Duration {
		for i := range n {
			n[i] *= time.Millisecond
		}
		return n
	}
	const twice = "`--once` at least 2× faster than TypeScript"
	for _, row := range []struct {
		sentence string
		figures  []bench.Figures
		verdict  string
	}{
		{"nothing measured is nothing met", nil, "not measured"},
		{"twice as fast is enough", []bench.Figures{{"kms-auditor", 1, 10, 0, ms(100)}, {"TypeScript", 1, 10, 0, ms(200)}}, "met"},
		{"the median counts", []bench.Figures{{"kms-auditor", 1, 10, 0, ms(90, 100, 900)}, {"TypeScript", 1, 10, 0, ms(10, 200, 210)}}, "met"},
		{"the worst size counts", []bench.Figures{
			{"kms-auditor", 1, 10, 0, ms(100)}, {"TypeScript", 1, 10, 0, ms(400)},
			{"kms-auditor", 1, 100, 0, ms(100)}, {"TypeScript", 1, 100, 0, ms(50)},
		}, "missed by a factor of 4.00"},
		{"times of different delays are not held against each other", []bench.Figures{{"kms-auditor", 1, 10, 0, ms(100)}, {"TypeScript", 1, 10, 50, ms(100)}}, "not measured"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			if shown, got := bench.Goals(twice, row.figures...); got != row.verdict {
				t.Errorf("got %q (%s), want %q", got, shown, row.verdict)
			}
		})
	}
}

func TestTheProgramCanBeProfiled(t *testing.T) {
	source, err := os.ReadFile("../cmd/kms-auditor/main.go")
	must(t, err)
	if n := strings.Count(string(source), bench.MainCall); n != 1 {
		t.Errorf("main.go has %s %d times", bench.MainCall, n)
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
		t.Errorf("it told %q", told)
	}
	if string(out) != "out\n" || cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("%q, %v", out, err)
	}
}
