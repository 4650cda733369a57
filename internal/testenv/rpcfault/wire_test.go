package rpcfault_test

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

	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

const answer = `{"jsonrpc":"2.0","id":1,"result":"0x2105"}`

// proxy returns a Proxy in front of a node with a fixed answer.
func proxy(t *testing.T, f rpcfault.Fault) (*rpcfault.Proxy, string) {
	t.Helper()
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "["+answer+"]") }))
	t.Cleanup(node.Close)
	p := rpcfault.New(node.URL)
	p.Set(f)
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	return p, srv.URL
}

// ask makes one request. The status is 0 if no complete answer came in time.
func ask(t *testing.T, url string, timeout time.Duration) (status int, contentType, got string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}`))
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
	return resp.StatusCode, resp.Header.Get("Content-Type"), strings.TrimSpace(string(b))
}

func TestWire(t *testing.T) {
	const isJSON = "application/json"
	is := func(want string) func(string) bool { return func(got string) bool { return got == want } }
	says := func(part string) func(string) bool {
		return func(got string) bool { return strings.Contains(got, part) }
	}
	for _, tt := range []struct {
		sentence string
		fault    rpcfault.Fault
		status   int
		typed    string
		body     func(string) bool
	}{
		{"nothing is wrong", rpcfault.Fault{}, 200, isJSON, is(answer)},
		{"it is late, but it comes", rpcfault.Late(time.Millisecond), 200, isJSON, is(answer)},
		{"it never comes", rpcfault.Hang, 0, "", says("deadline")},
		{"the connection is reset", rpcfault.Reset, 0, "", says("reset")},
		{"it breaks off", rpcfault.BreaksOff, 0, "", says("EOF")},
		{"half of it is all", rpcfault.Truncated, 200, isJSON, is(answer[:len(answer)/2])},
		{"a byte is corrupt", rpcfault.Corrupt(1), 200, isJSON, func(got string) bool {
			return len(got) == len(answer) && bytes.Count([]byte(got), []byte{0}) == 1
		}},
		{"the status is another", rpcfault.Status(503, ""), 503, "text/plain; charset=utf-8", says("no luck")},
		{"something else is said", rpcfault.Body("page", "text/html", "<p>"), 200, "text/html", is("<p>")},
		{"two things are wrong", rpcfault.Join(rpcfault.Late(time.Millisecond), rpcfault.Truncated), 200, isJSON, is(answer[:len(answer)/2])},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			_, url := proxy(t, tt.fault)
			patience := time.Minute
			if tt.status == 0 {
				patience = 100 * time.Millisecond
			}
			status, typed, got := ask(t, url, patience)
			if status != tt.status || typed != tt.typed || !tt.body(got) {
				t.Errorf("%d, %s, %q; want %d, %s", status, typed, got, tt.status, tt.typed)
			}
		})
	}
}

func TestWhen(t *testing.T) {
	for _, tt := range []struct {
		sentence string
		when     rpcfault.When
		hit      []int
	}{
		{"all", rpcfault.When{}, []int{0, 1, 2, 3, 4, 5}},
		{"from the third on", rpcfault.When{From: 2}, []int{2, 3, 4, 5}},
		{"two of them", rpcfault.When{From: 1, Count: 2}, []int{1, 2}},
		{"every other", rpcfault.When{From: 1, Every: 2}, []int{1, 3, 5}},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			f := rpcfault.Status(500, "")
			f.When = tt.when
			p, url := proxy(t, rpcfault.Fault{})
			ask(t, url, time.Minute)
			p.Set(f)
			var hit []int
			for n := range 6 {
				if status, _, _ := ask(t, url, time.Minute); status == 500 {
					hit = append(hit, n)
				}
			}
			if !slices.Equal(hit, tt.hit) || p.Requests() != 7 {
				t.Errorf("%v of %d requests, want %v", hit, p.Requests(), tt.hit)
			}
		})
	}
}
