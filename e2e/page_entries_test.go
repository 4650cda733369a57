//go:build e2e

package e2e_test

import "testing"

// TestThePagesOfEveryEntry follows the links from the status page to the last page of entries.
func TestThePagesOfEveryEntry(t *testing.T) {
	t.Parallel()
	s := newScene(t, 510, 510)
	s.settings.Schedule = "@every 1h" // so that the page does not change during the test
	d := startDaemon(t, s.settings)
	d.await(t, 0, `"event":"audit_finished"`)
	b := startBrowser(t)
	b.open(t, order{URL: d.url})
	b.look(t, "1000 of 1020 entries are shown here")
	var link string
	b.do(t, order{Command: "eval", Code: `document.querySelector(".more a").href`}, &link)
	b.open(t, order{URL: link})
	b.await(t, "tr.match >> nth=999") // axe would take minutes for so many, so only the next page is checked
	b.do(t, order{Command: "eval", Code: `document.querySelector(".pages a").href`}, &link)
	for _, o := range []order{{URL: link}, {URL: link, Width: 360, Dark: true, Script: new(false)}} {
		b.open(t, o)
		if v := b.look(t, "Page 2 of 2", "allowed", s.kms.Address().Hex()); v.Title != "entries · kms-auditor" {
			t.Errorf("the title is %q", v.Title)
		}
	}
}
