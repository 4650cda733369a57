//go:build e2e

package e2e_test

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/internal/fakeapi"
)

// TestAnOutageResolvesNoAlert: while the API is down, and the daemon is restarted, what is open goes on to page.
func TestAnOutageResolvesNoAlert(t *testing.T) {
	const waits = 5 * time.Second // of every rule
	s := newScene(t, 3, 1)
	s.settings.State = filepath.Join(t.TempDir(), "state.db")
	d := startDaemon(t, s.settings)
	var at atomic.Pointer[url.URL]
	scraped := serve(t, &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(at.Load()) }})
	follow := func() {
		u, err := url.Parse(d.url)
		must(t, err)
		at.Store(u)
	}
	follow()
	page, _, p := startPaging(t, scraped, waits.String())
	d.finds(t, "consistent")

	lie := s.claim()
	lie.Contracts[0].Devices = lie.Contracts[0].Devices[1:]
	lie.Contracts[0].Devices[0].Allowed = new(false)
	must(t, s.api.put(lie))
	const firing = `count(ALERTS{alertname="KMSAuditorCriticalFinding",alertstate="firing"})`
	p.becomes(t, firing, 2)
	if m := page.next(t, "KMSAuditorCriticalFinding"); m.Status != "firing" {
		t.Errorf("the page says %s", m.Status)
	}
	// stands fails the test where an alert ends within three times what its rule waits, or the page does not say what is open.
	stands := func(when string) {
		t.Helper()
		for end := time.Now().Add(3 * waits); time.Now().Before(end); d.audit(t) {
			if n, _ := p.value(t, firing); n != 2 {
				t.Fatalf("%s: %v alerts fire, want 2", when, n)
			}
		}
		if text := d.page(t, "/"); !hasAll(text, []string{s.devices[0].Hex()[:10], s.devices[1].Hex()[:10], "unlisted_chain_allowed", "claim_denied_chain_allowed"}) {
			t.Errorf("%s: the page does not say what is open:\n%s", when, text)
		}
	}
	must(t, s.api.fail(fakeapi.Fault{Name: fakeapi.Status, Status: http.StatusServiceUnavailable}))
	d.finds(t, "unknown")
	stands("the API is down")
	d.end(t, syscall.SIGTERM)
	d = startDaemon(t, s.settings)
	follow()
	d.finds(t, "unknown")
	stands("the daemon was restarted")
	must(t, s.api.heal())
	d.finds(t, "drift")
	stands("the API lies again")
	for len(page) > 0 {
		if m := <-page; m.Status != "firing" {
			t.Errorf("the page is taken back: %+v", m)
		}
	}
	must(t, s.api.put(s.claim()))
	for m := page.next(t, "KMSAuditorCriticalFinding"); m.Status != "resolved"; {
		m = page.next(t, "KMSAuditorCriticalFinding")
	}
	d.finds(t, "consistent")
}
