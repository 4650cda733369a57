//go:build e2e

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// publicWorld is a KMS of Base with the ids that were public in 2026: what the API lists, and a chain that agrees.
func publicWorld(t *testing.T) (fakeapi.Chain, *testchain.Chain, *testchain.KMS) {
	t.Helper()
	f, err := os.Open("../cmd/demo/world.json")
	must(t, err)
	defer f.Close()
	all, err := fakeapi.ReadWorld(f)
	must(t, err)
	claim := all[0]
	c := &claim.Contracts[0]
	p := testchain.Preload{Address: common.HexToAddress(c.Address)}
	add := func(list *[]common.Hash, id *string, allowed *bool) {
		if id != nil && *allowed {
			h, err := sanitize.ParseID(*id)
			must(t, err)
			*list = append(*list, h)
		}
	}
	for _, d := range c.Devices {
		add(&p.Devices, &d.ID, d.Allowed)
	}
	for _, i := range c.OSImages {
		add(&p.Images, i.Hash, i.Allowed)
	}
	chain, err := testchain.Start(testchain.Options{ChainID: claim.ChainID, Preload: []testchain.Preload{p}})
	must(t, err)
	t.Cleanup(func() { must(t, chain.Close()) })
	chain.Commit()
	return claim, chain, chain.KMS(p.Address)
}

// TestThePageInEveryState looks at the page before, while and after a contract trusts a device that the API does not
// list, and in an outage of the API. It also takes the pictures of the docs, if E2E_IMAGES names their folder.
func TestThePageInEveryState(t *testing.T) {
	t.Parallel()
	const image = "0x2d24d302cc8686d6a0ece71a6afef55c506bc8591e3bcc1ec3eb5323d77582c4" // dstack-0.5.3
	claim, chain, kms := publicWorld(t)
	unlisted := common.HexToHash(claim.Contracts[0].Devices[2].ID)
	a := startAPI(t)
	devices := claim.Contracts[0].Devices
	claim.Contracts[0].Devices = devices[:2]
	must(t, a.put(claim))
	s := (&node{proxied: chain.URL(), chainID: claim.ChainID}).settings(a)
	s.Schedule, s.Web = "@every 2s", &webSettings{Listen: []string{"127.0.0.1:0"}}
	s.State, s.Chains[0].Explorer = filepath.Join(t.TempDir(), "state"), "https://explorer.test"
	d := startDaemon(t, s)
	b := startBrowser(t)

	// look shows the page at a desk and on a phone. Where a phone does not show first before one scrolls, it fails.
	look := func(name, status, first string, want ...string) {
		t.Helper()
		for _, o := range []struct {
			name string
			order
		}{
			{"light", order{Width: 1080, Height: 860}}, {"dark", order{Width: 1080, Height: 860, Dark: true}},
			{"phone", order{Width: 390, Height: 760}}, {"", order{Width: 390, Height: 760, Dark: true}}, {"", order{Script: new(false)}},
		} {
			o.URL = d.url
			b.open(t, o.order)
			b.await(t, "#status."+status)
			b.look(t, want...)
			var bottom float64
			b.do(t, order{Command: "eval", Code: fmt.Sprintf("document.querySelector(%q).getBoundingClientRect().bottom", first)}, &bottom)
			if o.Width == 390 && bottom > 560 { // of a small phone, without the browser's bars
				t.Errorf("%s: %s ends at %.0f pixels", name, first, bottom)
			}
			if dir := os.Getenv("E2E_IMAGES"); dir != "" && o.name != "" {
				if name == "after" {
					b.do(t, order{Command: "eval", Code: `document.querySelector(".past").scrollIntoView()`}, nil)
				}
				b.do(t, order{Command: "shot", Path: filepath.Join(dir, strings.ReplaceAll("page-"+name+"-"+o.name+".png", "-drift-", "-"))}, nil)
			}
		}
	}
	icons := []string{}
	icon := func() {
		t.Helper()
		var href string
		b.do(t, order{Command: "eval", Code: `document.querySelector("link[rel=icon]").href`}, &href)
		if !strings.HasPrefix(href, "data:image/svg+xml,") || slices.Contains(icons, href) {
			t.Errorf("the icon %s is not one of this state alone", href)
		}
		icons = append(icons, href)
	}

	d.finds(t, "consistent")
	look("fine", "consistent", ".headline", "Consistent", "dstack-0.5.9", "prod7")
	icon()

	must(t, kms.AllowDevice(t.Context(), unlisted))
	must(t, kms.RemoveImage(t.Context(), common.HexToHash(image)))
	trusts := "on base trusts device " + unlisted.Hex() + ", which the API does not list"
	look("drift", "drift", ".headline + p", "Drift", "1 critical", "1 warning", "KMS contract "+kms.Address().Hex(), trusts, "and 1 more",
		"contract refuses OS image dstack-0.5.3 ("+image+"), which the API says is allowed")
	icon()
	var links []string
	b.do(t, order{Command: "eval", Code: `[...document.querySelectorAll("a.out")].map((a) => a.href.replace(/0x.*/, ""))`}, &links)
	for _, want := range []string{"address", "tx", "block"} {
		if !slices.ContainsFunc(links, func(l string) bool { return strings.HasPrefix(l, "https://explorer.test/"+want+"/") }) {
			t.Errorf("no link leads to %s: %q", want, links)
		}
	}

	must(t, a.fail(fakeapi.Fault{Name: fakeapi.Status}))
	look("outage", "unknown", ".headline + p", "Unknown", trusts, "The last audit could not check it again", "The last comparison", "prod7", "500")

	must(t, a.heal())
	must(t, kms.RemoveDevice(t.Context(), unlisted))
	must(t, kms.AllowImage(t.Context(), common.HexToHash(image)))
	look("after", "consistent", ".headline", "Consistent", "Past findings", "unlisted_chain_allowed", "claim_allowed_chain_denied")
}
