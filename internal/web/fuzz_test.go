package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
	"github.com/kms-auditor/kms-auditor/internal/web"
)

// pipes is a listener within the process, as ports run out.
type pipes struct {
	conns chan net.Conn
	done  context.Context
	close context.CancelFunc
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done.Done():
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error   { p.close(); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// FuzzRequest sends any target of a request, and holds that the answer is HTTP, that a refusal is short, and that the
// history holds nothing but what was asked for.
func FuzzRequest(f *testing.F) {
	for _, target := range []string{"/", "/metrics", "/api/v1/report", "/-/ready", "*", "http://other/", "/%", "/\x1b", "/../api//v1/history", "/ HTTP/1.1\r\nHost: x\r\n\r\nGET /"} {
		f.Add(target)
	}
	for _, query := range []string{"", "limit=3", "limit=0", "limit=10001", "limit=1&limit=2", "list=app&list=device", "list=%1b", "chain=base", "chain=ethereum", "chain=%", "contract=" + contract, "contract=0x12",
		"since=2026-10-20", "since=2026-10-20T00:00:01Z", "since=yesterday", "lists=app", "limit=5&list=device&since=2026-02-01&chain=base&contract=" + contract} {
		f.Add("/api/v1/history?" + query)
	}
	o := options(nil)
	remember(f, o.State, 300)
	o.State.SetChainID("ethereum", 1)
	ctx, cancel := context.WithCancel(context.Background())
	done, closed := context.WithCancel(context.Background())
	listener, ended := pipes{make(chan net.Conn), done, closed}, make(chan error)
	go func() { ended <- web.Serve(ctx, []net.Listener{listener}, o) }()
	f.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, target string) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		listener.conns <- theirs
		go io.WriteString(ours, "GET "+target+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(ours), nil)
		if err != nil {
			t.Fatalf("%q is answered by no HTTP: %v", target, err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		var told struct {
			render.History
			Error string `json:"error"`
		}
		isJSON := resp.Header.Get("Content-Type") == "application/json"
		switch {
		case isJSON && json.Unmarshal(body, &told) != nil:
			t.Errorf("%q is answered by no JSON: %.300q", target, body)
		case resp.StatusCode >= 400:
			fit.Text(t, told.Error, 1000)
			if len(body) > 2000 {
				t.Errorf("%q is refused with %d bytes", target, len(body))
			}
		case isJSON:
			asked, err := url.ParseRequestURI(target)
			if err != nil {
				return // it was more than one line
			}
			heldHistory(t, asked.Query(), told.Events)
		}
	})
}

func heldHistory(t *testing.T, asked url.Values, events []render.Event) {
	t.Helper()
	limit := 100
	if s := asked.Get("limit"); s != "" {
		limit, _ = strconv.Atoi(s)
	}
	if len(events) > limit || limit < 1 || limit > 10_000 {
		t.Errorf("%d events come for %v", len(events), asked)
	}
	lists := asked["list"]
	if lists == nil {
		lists = []string{"device", "os_image", "contract"}
	}
	since, _ := time.Parse(time.DateOnly, asked.Get("since"))
	for _, e := range events {
		if !slices.Contains(lists, e.List) || e.Time.Before(since) || asked.Has("chain") && e.Chain != asked.Get("chain") {
			t.Errorf("%+v comes for %v", e, asked)
		}
	}
}
