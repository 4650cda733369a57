package faults_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/internal/testenv/faults"
)

const body = `{"all": "is well"}`

var well = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, body)
})

// ask asks once; the status is 0 where no whole answer came in time.
func ask(t *testing.T, url string, timeout time.Duration) (status int, contentType, got string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", err.Error()
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(b)
}

func TestWires(t *testing.T) {
	is := func(want string) func(string) bool {
		return func(got string) bool { return strings.TrimSpace(got) == want }
	}
	says := func(part string) func(string) bool {
		return func(got string) bool { return strings.Contains(got, part) }
	}
	for _, tt := range []struct {
		sentence string
		wire     faults.Wire
		status   int
		typed    string
		body     func(string) bool
	}{
		{"nothing is wrong", nil, 200, "application/json", is(body)},
		{"it is late, but it comes", faults.Late(time.Millisecond), 200, "application/json", is(body)},
		{"it is late by as much as it likes", faults.Jitter(faults.UpTo(time.Millisecond)), 200, "application/json", is(body)},
		{"it comes in drops", faults.Drip(7, time.Millisecond), 200, "application/json", is(body)},
		{"it comes in drops, too slowly", faults.Drip(1, time.Minute), 0, "", says("deadline")},
		{"it never comes", faults.HalfOpen, 0, "", says("deadline")},
		{"the connection is reset", faults.Reset, 0, "", nil},
		{"it breaks off", faults.BreaksOff, 0, "", nil},
		{"half of it is all", faults.Truncated, 200, "application/json", is(body[:len(body)/2])},
		{"a byte is corrupt", faults.Corrupt(1), 200, "application/json", func(got string) bool {
			return len(got) == len(body) && bytes.Count([]byte(got), []byte{0}) == 1
		}},
		{"the status is another", faults.Status(503), 503, "text/plain; charset=utf-8", is("no luck today")},
		{"something else is said", faults.Says("text/html", func() []byte { return []byte("<p>") }), 200, "text/html", is("<p>")},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			p := faults.API(well, faults.Fault{Wire: tt.wire})
			srv := httptest.NewServer(p)
			defer srv.Close()
			defer p.Close()
			patience := time.Minute
			if tt.status == 0 {
				patience = 100 * time.Millisecond
			}
			status, typed, got := ask(t, srv.URL, patience)
			if status != tt.status || typed != tt.typed || tt.body != nil && !tt.body(got) {
				t.Errorf("%d, %s, %q; want %d, %s", status, typed, got, tt.status, tt.typed)
			}
		})
	}
}

func TestWhen(t *testing.T) {
	for _, tt := range []struct {
		sentence string
		when     faults.When
		hit      []int
	}{
		{"all", faults.When{}, []int{0, 1, 2, 3, 4, 5}},
		{"from the third on", faults.When{From: 2}, []int{2, 3, 4, 5}},
		{"two of them", faults.When{From: 1, Count: 2}, []int{1, 2}},
		{"every other", faults.When{From: 1, Every: 2}, []int{1, 3, 5}},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			p := faults.API(well, faults.Fault{When: tt.when, Wire: faults.Status(500)})
			srv := httptest.NewServer(p)
			defer srv.Close()
			var hit []int
			for n := range 6 {
				if status, _, _ := ask(t, srv.URL, time.Minute); status == 500 {
					hit = append(hit, n)
				}
			}
			if !slices.Equal(hit, tt.hit) || p.Requests() != 6 {
				t.Errorf("%v of %d requests, want %v", hit, p.Requests(), tt.hit)
			}
		})
	}
}
