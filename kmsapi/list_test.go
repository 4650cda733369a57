package kmsapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// many is an API with n KMS, half of them on a chain.
func many(n int) *fakeapi.Server {
	api := fakeapi.New()
	var all []fakeapi.KMS
	for i := range n {
		id := fmt.Sprintf("%03d", i)
		k := fakeapi.KMS{ID: id, Contract: fakeapi.OffChain, Nodes: []fakeapi.Node{{ID: id, URL: "u", Version: "v"}}}
		if i%2 == 0 {
			k.Contract, k.ChainID = kms.Hex(), 8453
		}
		all = append(all, k)
	}
	api.SetKMS(all...)
	return api
}

func TestListIsReadToItsEnd(t *testing.T) {
	for _, version := range []string{"2026-05-22", "2026-06-23"} {
		for _, tt := range []struct {
			n      int
			filter kmsapi.Filter
			pages  int
			ids    int
		}{
			{0, kmsapi.Filter{}, 1, 0},
			{1, kmsapi.Filter{}, 1, 1},
			{100, kmsapi.Filter{}, 1, 100},
			{101, kmsapi.Filter{}, 2, 101},
			{300, kmsapi.Filter{}, 3, 300},
			{300, kmsapi.Filter{OnChain: true}, 2, 150},
		} {
			c, seen := serve(t, many(tt.n), func(o *kmsapi.Options) { o.Version = version })
			l, err := c.List(t.Context(), tt.filter)
			if err != nil {
				t.Errorf("%d in %s: %v", tt.n, version, err)
				continue
			}
			onChain := 0
			for i, k := range l.KMS {
				step := 1
				if tt.filter.OnChain {
					step = 2
				}
				if k.ID != fmt.Sprintf("%03d", i*step) {
					t.Errorf("%d in %s: the KMS at %d is %s", tt.n, version, i, k.ID)
				}
				if k.Contract != nil {
					onChain++
				}
			}
			if len(l.KMS) != tt.ids || onChain != (tt.n+1)/2 {
				t.Errorf("%d in %s: %d KMS, %d of them on a chain", tt.n, version, len(l.KMS), onChain)
			}
			if len(l.Pages) != tt.pages || len(seen.all) != tt.pages || seen.all[0] != "kms_list ok" {
				t.Errorf("%d in %s: %d pages, observed %v", tt.n, version, len(l.Pages), seen.all)
			}
			bodies := make([][]byte, len(l.Pages))
			for i, p := range l.Pages {
				bodies[i] = []byte(p.Body)
			}
			again, err := kmsapi.DecodeList(bodies...)
			if diff := cmp.Diff(l.KMS, again); err != nil || diff != "" {
				t.Errorf("%d in %s: decoded from the bodies: %v\n%s", tt.n, version, err, diff)
			}
		}
	}
}

func TestListAsks(t *testing.T) {
	api, asked := many(101), []string(nil)
	c, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path+"?"+r.URL.RawQuery)
		api.ServeHTTP(w, r)
	}), nil)
	if _, err := c.List(t.Context(), kmsapi.Filter{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.List(t.Context(), kmsapi.Filter{OnChain: true}); err != nil {
		t.Fatal(err)
	}
	const token = "token=query-" + canary
	want := []string{
		"/api/v1/kms?" + token + "&page=1&page_size=100",
		"/api/v1/kms?" + token + "&page=2&page_size=100",
		"/api/v1/kms?" + token + "&is_onchain=true&page=1&page_size=100",
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error("asked (-want +got):\n", diff)
	}
}

func TestListFaults(t *testing.T) {
	const (
		does = "fetching the list of KMS: "
		torn = does + "the pages of the list are inconsistent: "
	)
	replaced := func(page int, path, value string) fakeapi.Fault {
		return fakeapi.Fault{Name: fakeapi.Replaced, Page: page, Path: path, Value: json.RawMessage(value)}
	}
	for _, tt := range []struct {
		sentence string
		fault    fakeapi.Fault
		want     string // empty: no error
		torn     bool
		requests int
	}{
		{"a page that is gone", fakeapi.Fault{Name: fakeapi.Status, Status: 404, Page: 2},
			torn + `page 2: gone: the API answered 404 Not Found: "The fake was told to fail" (request id "req-4") (read twice)`, true, 4},
		{"a page that is gone once", fakeapi.Fault{Name: fakeapi.Status, Status: 404, Page: 2, Times: 1}, "", false, 5},
		{"no list at all", fakeapi.Fault{Name: fakeapi.Status, Status: 404},
			does + `the API answered 404 Not Found: "The fake was told to fail" (request id "req-1")`, false, 1},
		{"a page without items", replaced(2, "items", `[]`), torn + "page 2: it has 0 items, want 100 (read twice)", true, 4},
		{"a last page with one too few", replaced(3, "items", `[]`), torn + "page 3: it has 0 items, want 50 (read twice)", true, 6},
		{"a page that comes again", fakeapi.Fault{Name: fakeapi.RepeatedPage, Endpoint: fakeapi.List},
			torn + `page 2: "000" was already on page 1 (read twice)`, true, 4},
		{"a page with another number", replaced(2, "page", `1`), torn + "page 2: it says that it is page 1 (read twice)", true, 4},
		{"a list that grows while it is read", fakeapi.Fault{Name: fakeapi.Growing},
			torn + "page 2: it says total 254 and page size 100, but the first page said 253 and 100 (read twice)", true, 4},
		{"a list that grows once", fakeapi.Fault{Name: fakeapi.Growing, Page: 2, Times: 1}, "", false, 5},
		{"another page size", replaced(2, "page_size", `99`), torn + "page 2: it says total 250 and page size 99, but the first page said 250 and 100 (read twice)", true, 4},
		{"too few pages", replaced(1, "pages", `2`), torn + "page 1: it says that there are 2 pages, but 250 rows with page size 100 make 3 (read twice)", true, 2},
		{"an item that comes again and differs", fakeapi.Fault{Name: fakeapi.RepeatedItem}, torn + `page 3: "000" is given twice with different values (read twice)`, true, 6},
		{"no page size", replaced(1, "page_size", `0`), does + "the API's answer cannot be used: page_size: 0, want 1 to 100", false, 1},
		{"more than is read", replaced(0, "total", `10001`), does + "the API's answer cannot be used: total: 10001, but at most 100 pages of 100 are read", false, 1},
		{"the largest number", replaced(0, "total", `18446744073709551615`), does + "the API's answer cannot be used: total: 18446744073709551615, but at most 100 pages of 100 are read", false, 1},
		{"a missing total", fakeapi.Fault{Name: fakeapi.Missing, Path: "total"}, does + "the API's answer cannot be used: total: missing", false, 1},
		{"no items", replaced(0, "items", `null`), does + "the API's answer cannot be used: items: missing", false, 1},
		{"a broken item", fakeapi.Fault{Name: fakeapi.Missing, Page: 2, Path: "items.7.node_count"},
			does + "the API's answer cannot be used: items[7].node_count: missing", false, 2},
		{"a refusal on the way", fakeapi.Fault{Name: fakeapi.Status, Status: 403, Shape: fakeapi.ShapeEmpty, Page: 3},
			does + `the API answered 403 Forbidden; the key is missing or refused: see api.api_key_env and api.api_key_file (request id "req-3")`, false, 3},
		{"a refusal that passes", fakeapi.Fault{Name: fakeapi.Status, Status: 503, Page: 3, Times: 1}, "", false, 4},
	} {
		api := many(250)
		tt.fault.Endpoint = fakeapi.List
		api.Fail(tt.fault)
		c, seen := serve(t, api, nil)
		l, err := c.List(t.Context(), kmsapi.Filter{})
		var torn *kmsapi.InconsistentPagesError
		switch {
		case tt.want == "" && (err != nil || len(l.KMS) < 250):
			t.Errorf("%s: error %v", tt.sentence, err)
		case tt.want != "" && (err == nil || err.Error() != tt.want || errors.As(err, &torn) != tt.torn):
			t.Errorf("%s: error\n%v\nwant\n%s", tt.sentence, err, tt.want)
		}
		if last := seen.all[len(seen.all)-1]; tt.torn && tt.fault.Status == 0 && last != "kms_list invalid" {
			t.Errorf("%s: observed %s", tt.sentence, last)
		}
		if api.Requests() != tt.requests || len(seen.all) != tt.requests {
			t.Errorf("%s: %d requests, %d observed", tt.sentence, api.Requests(), len(seen.all))
		}
	}
}

func TestEchoedKeyIsMaskedInTheList(t *testing.T) {
	api := many(2)
	value, _ := json.Marshal("your key phak_" + canary)
	api.Fail(fakeapi.Fault{Name: fakeapi.Replaced, Endpoint: fakeapi.List, Path: "items.0.slug", Value: value})
	c, _ := serve(t, api, nil)
	l, err := c.List(t.Context(), kmsapi.Filter{})
	if err != nil || l.KMS[0].Slug != "your key [redacted]" || !l.Pages[0].HoldsKey {
		t.Errorf("%+v, %v", l, err)
	}
}

// page spells a page with the number of rows that a fault leaves.
func page(number, size, total, pages int, items ...string) []byte {
	return fmt.Appendf(nil, `{"items": [%s], "total": %d, "page": %d, "page_size": %d, "pages": %d}`, strings.Join(items, ","), total, number, size, pages)
}

func TestDecodeList(t *testing.T) {
	one, other, third := aNode, strings.Replace(aNode, "kms_1", "kms_2", 1), strings.Replace(aNode, "kms_1", "kms_3", 1)
	for _, tt := range []struct {
		sentence string
		bodies   [][]byte
		ids      string
		want     string // of the error
	}{
		{"an empty list of no pages", [][]byte{page(1, 20, 0, 0)}, "", ""},
		{"an empty list of one page", [][]byte{page(1, 20, 0, 1)}, "", ""},
		{"a server that gives smaller pages", [][]byte{page(1, 2, 3, 2, one, other), page(2, 2, 3, 2, third)}, "kms_1 kms_2 kms_3", ""},
		{"a row that a page has twice", [][]byte{page(1, 2, 3, 2, one, one), page(2, 2, 3, 2, other)}, "kms_1 kms_2", ""},
		{"a row that moved to the next page", [][]byte{page(1, 2, 3, 2, one, other), page(2, 2, 3, 2, other)}, "", `page 2: "kms_2" was already on page 1`},
		{"a page that is missing", [][]byte{page(1, 2, 3, 2, one, other)}, "", "page 2: missing"},
		{"a page too many", [][]byte{page(1, 2, 2, 1, one, other), page(2, 2, 2, 1)}, "", "page 2: there are only 1"},
		{"a page too many of nothing", [][]byte{page(1, 2, 0, 0), page(2, 2, 0, 0)}, "", "page 2: there are only 0"},
		{"an empty list of two pages", [][]byte{page(1, 20, 0, 2)}, "", "page 1: it says that there are 2 pages, but 0 rows with page size 20 make 0"},
		{"no page", nil, "", "page 1: missing"},
	} {
		all, err := kmsapi.DecodeList(tt.bodies...)
		var ids []string
		for _, k := range all {
			ids = append(ids, k.ID)
		}
		if got := strings.Join(ids, " "); got != tt.ids {
			t.Errorf("%s: %s", tt.sentence, got)
		}
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.HasSuffix(err.Error(), ": "+tt.want)) {
			t.Errorf("%s: error %v", tt.sentence, err)
		}
	}
	big := append(page(1, 1, 2, 2, one), make([]byte, 5<<20)...)
	for i := len(page(1, 1, 2, 2, one)); i < len(big); i++ {
		big[i] = ' '
	}
	second := append(page(2, 1, 2, 2, other), big[len(page(2, 1, 2, 2, other)):]...)
	if _, err := kmsapi.DecodeList(big, second); err == nil || !strings.HasSuffix(err.Error(), "pages over 8 MiB together") {
		t.Errorf("two pages of 5 MiB: %v", err)
	}
}

// FuzzDecodeList holds that pages are refused with a short reason, or make as many KMS as they say at most, each once.
func FuzzDecodeList(f *testing.F) {
	one, other := aNode, aContract
	f.Add(page(1, 20, 2, 1, one, other), []byte(nil))
	f.Add(page(1, 1, 2, 2, one), page(2, 1, 2, 2, other))
	f.Add(page(1, 1, 2, 2, one), page(2, 1, 2, 2, one))
	f.Add(page(1, 100, 0, 0), []byte(nil))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		bodies := [][]byte{first, second}
		if second == nil {
			bodies = bodies[:1]
		}
		all, err := kmsapi.DecodeList(bodies...)
		var torn *kmsapi.InconsistentPagesError
		if errors.As(err, &torn) && len(err.Error()) < 2000 {
			return
		}
		if err != nil {
			shortInvalid(t, err)
			return
		}
		seen := map[string]bool{}
		var items []string
		for _, k := range all {
			if seen[k.ID] {
				t.Fatalf("%q twice", k.ID)
			}
			seen[k.ID] = true
			items = append(items, string(written(t, item(k))))
		}
		again, err := kmsapi.DecodeList(page(1, 100, len(items), 1, items...))
		if diff := cmp.Diff(all, again); len(items) <= 100 && (err != nil || diff != "") {
			t.Fatalf("read again: %v (-want +got):\n%s", err, diff)
		}
	})
}

func TestQueryOfTheBaseURLIsKept(t *testing.T) {
	var asked url.Values
	c, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked = r.URL.Query() }), nil)
	_, _ = c.Info(t.Context(), "base")
	if diff := cmp.Diff(url.Values{"token": {"query-" + canary}}, asked); diff != "" {
		t.Error("(-want +got):\n", diff)
	}
}
