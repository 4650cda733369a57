package web_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/internal/web"
)

func TestReload(t *testing.T) {
	reload := func(err error) func() error { return func() error { return err } }
	for _, row := range []struct {
		sentence string
		reload   func() error
		method   string
		origin   string // Sec-Fetch-Site, as a browser sends it
		status   int
		body     []string // contained in the answer
	}{
		{"a good configuration is told of", reload(nil), "POST", "", 200, []string{"reloaded; the running configuration is the second\n"}},
		{"a bad one is answered with every problem, and with what goes on", reload(errors.New("line 1: a\nline 2: b")), "POST", "", 400,
			[]string{"not reloaded; the running configuration is the second\nline 1: a\nline 2: b\n"}},
		{"where it is off, nothing is reloaded", reload(fmt.Errorf("wrapped: %w", web.ErrReloadOff)), "POST", "", 403, []string{"set web.reload to true"}},
		{"where it cannot be, nothing is reloaded", nil, "POST", "", 403, []string{"set web.reload to true"}},
		{"asking for the page reloads nothing", reload(nil), "GET", "", 405, nil},
		{"a page of another site reloads nothing", reload(nil), "POST", "cross-site", 403, []string{"cross-origin"}},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			o := options(first)
			reloads := 0
			o.Config = web.Config{Running: func() string { return "is the second" }}
			if row.reload != nil {
				o.Config.Reload = func() error { reloads++; return row.reload() }
			}
			s := serve(t, o, 1)
			req := request(t, row.method, "http://"+s.addrs[0]+"/-/reload")
			if row.origin != "" {
				req.Header.Set("Sec-Fetch-Site", row.origin)
			}
			resp, body := ask(t, client, req)
			if resp.StatusCode != row.status {
				t.Errorf("%d %q, want %d", resp.StatusCode, body, row.status)
			}
			for _, part := range row.body {
				if !strings.Contains(body, part) {
					t.Errorf("%q lacks %q", body, part)
				}
			}
			if tried := row.reload != nil && row.method == "POST" && row.origin == ""; tried != (reloads == 1) {
				t.Errorf("it was reloaded %d times", reloads)
			}
			if row.status != 405 && !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
				t.Errorf("headers: %v", resp.Header)
			}
		})
	}
}
