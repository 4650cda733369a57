//go:build e2e

package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
)

// browser is Chromium with one open page, driven by page.mjs.
type browser struct {
	in  io.WriteCloser
	out *bufio.Reader
}

func startBrowser(t *testing.T) *browser {
	t.Helper()
	cmd := exec.Command("node", "page.mjs")
	cmd.Env, cmd.Stderr = environ(nil), os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the browser ends with %v", err)
		}
	})
	return &browser{in, bufio.NewReader(out)}
}

// order is a command to page.mjs.
type order struct {
	Command  string `json:"command"`
	URL      string `json:"url,omitempty"`
	Width    int    `json:"width,omitempty"`
	Height   int    `json:"height,omitempty"`
	Dark     bool   `json:"dark,omitempty"`
	Script   *bool  `json:"script,omitempty"` // nil means on
	Selector string `json:"selector,omitempty"`
	Code     string `json:"code,omitempty"`
	Path     string `json:"path,omitempty"`
}

func (b *browser) do(t *testing.T, o order, value any) {
	t.Helper()
	line, err := json.Marshal(o)
	must(t, err)
	_, err = fmt.Fprintf(b.in, "%s\n", line)
	must(t, err)
	answer, err := b.out.ReadBytes('\n')
	must(t, err)
	said := struct {
		Value any    `json:"value"`
		Error string `json:"error"`
	}{Value: value}
	must(t, json.Unmarshal(answer, &said))
	if said.Error != "" {
		t.Fatalf("%s %s: %s", o.Command, o.Selector, said.Error)
	}
}

func (b *browser) open(t *testing.T, o order) {
	t.Helper()
	o.Command = "open"
	b.do(t, o, nil)
}

func (b *browser) await(t *testing.T, selector string) {
	t.Helper()
	b.do(t, order{Command: "await", Selector: selector}, nil)
}

// view is what a reader sees, and faults of the page.
type view struct {
	Title, Status, Text string
	Overflow            int      // pixels beyond the width of the window
	Axe, Said, Outside  []string // accessibility faults, console messages, requests to other hosts
}

// look fails the test if the page has a fault or does not show all of want.
func (b *browser) look(t *testing.T, want ...string) view {
	t.Helper()
	var v view
	b.do(t, order{Command: "look"}, &v)
	if len(v.Axe)+len(v.Said)+len(v.Outside) > 0 || v.Overflow > 0 {
		t.Errorf("axe %q, console %q, requests to others %q, %d pixels too wide", v.Axe, v.Said, v.Outside, v.Overflow)
	}
	for _, w := range want {
		if !strings.Contains(v.Text, w) {
			t.Errorf("the page does not show %q:\n%s", w, v.Text)
		}
	}
	return v
}

// everywhere looks at the page on a desk and on a phone, in light and dark, and without JavaScript.
func (b *browser) everywhere(t *testing.T, url string, want ...string) {
	t.Helper()
	for _, o := range []order{
		{URL: url}, {URL: url, Dark: true}, {URL: url, Width: 360, Height: 740}, {URL: url, Width: 360, Height: 740, Dark: true},
		{URL: url, Script: new(false)}, {URL: url, Width: 360, Script: new(false)},
	} {
		b.open(t, o)
		b.look(t, want...)
	}
}

func TestThePageUpdatesItself(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2, 2)
	s.settings.Timeout = "5s"
	s.settings.ConfirmDelay = "100ms"
	d := startDaemon(t, s.settings)
	d.finds(t, "consistent")
	b := startBrowser(t)
	b.open(t, order{URL: d.url})
	b.await(t, "#status.consistent")
	b.look(t, "Consistent", "4 match", s.kms.Address().Hex())

	lie := s.claim()
	lie.Contracts[0].OSImages[1].Allowed = new(false)
	must(t, s.api.put(lie))
	b.await(t, "#status.drift") // without a reload
	found := b.look(t, "Drift", "1 critical", "claim_denied_chain_allowed", s.images[1].Hex(), "What to do")
	if found.Title != "drift · kms-auditor" {
		t.Errorf("the title is %q", found.Title)
	}
	var link string
	b.do(t, order{Command: "eval", Code: `document.querySelector(".group a").href`}, &link)
	if !strings.HasSuffix(link, "docs/findings.md#claim_denied_chain_allowed") {
		t.Errorf("the link leads to %s", link)
	}
	b.everywhere(t, d.url, "Drift", s.images[1].Hex())

	b.open(t, order{URL: d.url})
	must(t, s.api.put(s.claim()))
	b.await(t, "#status.consistent")
	b.look(t, "4 match", "Past findings", "claim_denied_chain_allowed")
	var stays bool
	b.do(t, order{Command: "eval", Code: `document.getElementById("findings") !== null`}, &stays)
	if stays {
		t.Error("the finding is still shown")
	}
	must(t, s.api.fail(fakeapi.Fault{Name: fakeapi.Status}))
	b.await(t, "#status.unknown")
	b.look(t, "Unknown", "api", "500")
	b.everywhere(t, d.url, "Unknown")

	b.open(t, order{URL: d.url})
	d.end(t, syscall.SIGTERM)
	b.await(t, "#lost")
	b.await(t, "#status.stale .old")
	var title string
	b.do(t, order{Command: "eval", Code: "document.title"}, &title)
	if title != "out of date · kms-auditor" {
		t.Errorf("with the daemon down, the title is %q", title)
	}
}

func TestThePageWithoutJavaScriptLoadsItselfAgain(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, newScene(t, 1, 1).settings)
	b := startBrowser(t)
	b.open(t, order{URL: d.url, Script: new(false)})
	var refresh string
	b.do(t, order{Command: "eval", Code: `document.querySelector("meta[http-equiv=refresh]").content`}, &refresh)
	if refresh != "30" {
		t.Errorf("the page reloads after %s", refresh)
	}
}

func TestThePageOfAThousandEntries(t *testing.T) {
	t.Parallel()
	s := newScene(t, 500, 500)
	d := startDaemon(t, s.settings)
	d.finds(t, "consistent")
	b := startBrowser(t)
	b.everywhere(t, d.url, "1000 match", "1000 entries match")
	s.settings.Schedule = "@every 1h"
	quiet := startDaemon(t, s.settings)
	quiet.await(t, 0, `"event":"audit_finished"`)
	b.open(t, order{URL: quiet.url})
	b.do(t, order{Command: "click", Selector: "summary"}, nil)
	b.await(t, "tr.match >> nth=999")
	b.do(t, order{Command: "click", Selector: "tr.match .id"}, nil)
	var picked string
	b.do(t, order{Command: "eval", Code: "getSelection().toString()"}, &picked)
	if !strings.Contains(s.kms.Address().Hex()+fmt.Sprint(s.devices, s.images), picked) || len(picked) != 66 {
		t.Errorf("a click selects %q, want a whole id", picked)
	}
}

// hostileNames are names from an API that could break a page.
var hostileNames = []string{
	"<script>document.title='taken'</script>", `"><img src=x onerror="document.title='taken'">`, "'\"&amp;</td></table>{{.}}`",
	strings.Repeat("long", 2500), "\u202e\u2066gnorw\u05d0\u05d1\u05d2 \u0627\u0644\u0639\u0631\u0628\u064a\u0629", "\U0001F468\u200d\U0001F469\u200d\U0001F467\U0001F3F4\u0308\u0308\u0308",
}

func TestThePageOfHostileNames(t *testing.T) {
	t.Parallel()
	s := newScene(t, len(hostileNames), len(hostileNames))
	c := s.claim()
	for i, name := range hostileNames {
		c.Contracts[0].Devices[i].NodeName = &name
		c.Contracts[0].OSImages[i].Name, c.Contracts[0].OSImages[i].Version = name, name
	}
	c.Contracts[0].Devices[0].Allowed = new(false) // so that its name is in a finding
	c.Contracts[0].Devices = append(c.Contracts[0].Devices, fakeapi.Device{ID: hostileNames[0] + hostileNames[3], NodeName: &hostileNames[4], Allowed: new(true)})
	must(t, s.api.put(c))
	d := startDaemon(t, s.settings)
	d.finds(t, "drift")
	b := startBrowser(t)
	b.everywhere(t, d.url, hostileNames[0], "longlong", "malformed_id")
	var title string
	b.do(t, order{Command: "eval", Code: "document.title"}, &title)
	if title != "drift · kms-auditor" {
		t.Errorf("the title is %q", title)
	}
}

func TestTheDemosPage(t *testing.T) {
	t.Parallel()
	demo := filepath.Join(t.TempDir(), "demo")
	if out, err := exec.Command("go", "build", "-o", demo, "../cmd/demo").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b := startBrowser(t)
	_, addr := start(t, `serving http://([^/]+)/`, demo, []string{"--listen", "127.0.0.1:0", "--pace", "8s"}, nil, nil)
	b.open(t, order{URL: "http://" + addr + "/"})
	b.await(t, "#status.drift")
	b.look(t, "Drift", "dstack-0.5.9")
	b.await(t, "#status.consistent")
	b.look(t, "Consistent")
}
