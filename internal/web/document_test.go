package web_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

func TestTheReportIsTheSameHoweverItIsSent(t *testing.T) {
	for _, tt := range []struct {
		name, accept string
		report       *audit.Report
		packed       bool
	}{
		{"as it is", "", first, false},
		{"packed", "gzip", first, true},
		{"packed, among others", "deflate, GZIP;q=0.5, br", first, true},
		{"as it is for who refuses", "gzip;q=0", first, false},
		{"as it is for who refuses in full", "gzip; q=0.000", first, false},
		{"as it is for who takes others", "x-gzip, br", first, false},
		{"a large one as it is", "", crowd(1, 20_000), false},
		{"a large one packed", "gzip", crowd(1, 20_000), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var want bytes.Buffer
			if err := render.JSON(&want, tt.report); err != nil {
				t.Fatal(err)
			}
			s := serve(t, options(tt.report), 1)
			for range 2 { // the first, and what is kept
				req := request(t, "GET", "http://"+s.addrs[0]+"/api/v1/report")
				req.Header.Set("Accept-Encoding", tt.accept)
				resp, body := ask(t, client, req)
				if packed := resp.Header.Get("Content-Encoding") == "gzip"; packed != tt.packed || resp.Header.Get("Vary") != "Accept-Encoding" {
					t.Fatalf("packed %t, want %t: %v", packed, tt.packed, resp.Header)
				}
				if tt.packed {
					zip, err := gzip.NewReader(strings.NewReader(body))
					if err != nil {
						t.Fatal(err)
					}
					plain, err := io.ReadAll(zip)
					if err != nil {
						t.Fatal(err)
					}
					body = string(plain)
				}
				if body != want.String() {
					t.Errorf("%d bytes are not the report's %d", len(body), want.Len())
				}
			}
		})
	}
}

func TestTheReportIsSentOnce(t *testing.T) {
	one, two := *first, *first
	now := &one
	o := options(nil)
	o.Report = func() *audit.Report { return now }
	s := serve(t, o, 1)
	get := func(method, match string) (int, string, string) {
		req := request(t, method, "http://"+s.addrs[0]+"/api/v1/report")
		req.Header.Set("If-None-Match", match)
		resp, body := ask(t, client, req)
		return resp.StatusCode, resp.Header.Get("ETag"), body
	}
	_, tag, _ := get("GET", "")
	if tag == "" {
		t.Fatal("there is no tag")
	}
	for _, tt := range []struct {
		name, method, match string
		report              *audit.Report
		status              int
	}{
		{"the same is not sent again", "GET", tag, &one, http.StatusNotModified},
		{"nor is any", "GET", "*", &one, http.StatusNotModified},
		{"nor where it is one of several", "HEAD", `"another", W/` + tag, &one, http.StatusNotModified},
		{"another tag is another report", "GET", `"another"`, &one, http.StatusOK},
		{"a new report is sent, though it says the same", "GET", tag, &two, http.StatusOK},
	} {
		now = tt.report
		status, _, body := get(tt.method, tt.match)
		if status != tt.status || (body == "") != (status == http.StatusNotModified) {
			t.Errorf("%s: %d with %d bytes, want %d", tt.name, status, len(body), tt.status)
		}
	}
}
