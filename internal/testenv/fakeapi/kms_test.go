package fakeapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
)

// ask asks in an API version and returns status and body.
func ask(s *fakeapi.Server, path, version string) (int, string) {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set("X-Phala-Version", version)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

const twoKMS = `[
	{"id": "kc_1", "slug": "phala", "label": "Off chain", "contract_address": "phala", "nodes": [{"id": "kms_1", "slug": "phala-1", "url": "https://1", "version": "v1"}]},
	{"id": "kc_2", "slug": "base", "contract_address": "0xAb", "chain_id": 8453, "k256_pubkey": "0x02", "ca_pubkey": "0x03", "gateway_app_id": "0x04",
	 "nodes": [{"id": "kms_2", "url": "https://2", "version": "v2"}, {"id": "kms_3", "slug": "base-2", "url": "https://3", "version": "v3"}]}]`

func twoOf(t *testing.T) *fakeapi.Server {
	t.Helper()
	all, err := fakeapi.ReadKMS(strings.NewReader(twoKMS))
	if err != nil {
		t.Fatal(err)
	}
	s := fakeapi.New()
	s.SetKMS(all...)
	return s
}

func TestShapesOfTheVersions(t *testing.T) {
	const (
		older, newer  = "2026-05-22", "2026-06-23"
		phalaNode     = `{"id": "kms_1", "slug": "phala-1", "url": "https://1", "version": "v1", "chain_id": null, "kms_contract_address": null, "gateway_app_id": null}`
		baseNode1     = `{"id": "kms_2", "slug": null, "url": "https://2", "version": "v2", "chain_id": 8453, "kms_contract_address": "0xAb", "gateway_app_id": "0x04"}`
		baseNode2     = `{"id": "kms_3", "slug": "base-2", "url": "https://3", "version": "v3", "chain_id": 8453, "kms_contract_address": "0xAb", "gateway_app_id": "0x04"}`
		phalaContract = `{"id": "kc_1", "slug": "phala", "label": "Off chain", "contract_address": "phala", "chain_id": 0, "k256_pubkey": null, "ca_pubkey": null, "node_count": 1}`
		baseContract  = `{"id": "kc_2", "slug": "base", "label": null, "contract_address": "0xAb", "chain_id": 8453, "k256_pubkey": "0x02", "ca_pubkey": "0x03", "node_count": 2}`
	)
	for _, tt := range []struct{ sentence, version, path, want string }{
		{"an older version lists nodes", older, "/kms",
			`{"items": [` + phalaNode + `, ` + baseNode1 + `, ` + baseNode2 + `], "total": 3, "page": 1, "page_size": 20, "pages": 1}`},
		{"no version is an old one", "", "/api/v1/kms?page=2&page_size=2",
			`{"items": [` + baseNode2 + `], "total": 3, "page": 2, "page_size": 2, "pages": 2}`},
		{"a newer version lists contracts", newer, "/kms",
			`{"items": [` + phalaContract + `, ` + baseContract + `], "total": 2, "page": 1, "page_size": 20, "pages": 1}`},
		{"only those on a chain", newer, "/kms?is_onchain=true",
			`{"items": [` + baseContract + `], "total": 1, "page": 1, "page_size": 20, "pages": 1}`},
		{"only those off chain", older, "/kms?is_onchain=false",
			`{"items": [` + phalaNode + `], "total": 1, "page": 1, "page_size": 20, "pages": 1}`},
		{"a page past the end is empty", newer, "/kms?page=9",
			`{"items": [], "total": 2, "page": 9, "page_size": 20, "pages": 1}`},
		{"an older version finds nodes", older, "/kms/kms_3", baseNode2},
		{"by slug too", older, "/kms/phala-1", phalaNode},
		{"a newer version finds contracts", newer, "/kms/kc_2", baseContract},
		{"by slug as well", newer, "/kms/base", baseContract},
	} {
		code, got := ask(twoOf(t), tt.path, tt.version)
		if diff := cmp.Diff(parse(t, tt.want), parse(t, got)); code != 200 || diff != "" {
			t.Errorf("%s: %d (-want +got):\n%s", tt.sentence, code, diff)
		}
	}
	for _, path := range []string{"/kms/kc_2", "/kms/nobody"} {
		if code, got := ask(twoOf(t), path, older); code != 404 || got != `{"detail":"KMS not found"}` {
			t.Errorf("%s: %d %s", path, code, got)
		}
	}
	for _, query := range []string{"page=0", "page=x", "page_size=101", "page_size=0", "is_onchain=maybe"} {
		if code, got := ask(twoOf(t), "/kms?"+query, newer); code != 422 || !strings.Contains(got, `"loc"`) {
			t.Errorf("%s: %d %s", query, code, got)
		}
	}
}

func TestListFollowsTheChainsUntilItIsSet(t *testing.T) {
	s := fakeapi.New(open(t)...)
	contract := open(t)[0].Contracts[0]
	_, got := ask(s, "/kms/base", "2026-06-23")
	want := map[string]any{"id": "kc_base", "slug": "base", "label": "KMS base", "contract_address": contract.Address, "chain_id": 8453.0,
		"k256_pubkey": pointed(contract.K256Pubkey), "ca_pubkey": pointed(contract.CAPubkey), "node_count": 1.0}
	if diff := cmp.Diff(any(want), parse(t, got)); diff != "" {
		t.Error("(-want +got):\n", diff)
	}
	s.Update("base", func(c *fakeapi.Chain) { c.Contracts[0].Address = "0xCd" })
	if _, got := ask(s, "/kms/base", "2026-06-23"); !strings.Contains(got, `"contract_address":"0xCd"`) {
		t.Error("after a change of the chain:", got)
	}
	s.UpdateKMS(func(all *[]fakeapi.KMS) { (*all)[1].Contract = "0xEf" })
	s.Update("base", func(c *fakeapi.Chain) { c.Contracts[0].Address = "0x00" })
	if _, got := ask(s, "/kms/base", "2026-06-23"); !strings.Contains(got, `"contract_address":"0xEf"`) {
		t.Error("after a change of the list:", got)
	}
}

func pointed(s *string) any {
	if s == nil {
		return nil
	}
	return *s
}

func TestFaultsOfTheList(t *testing.T) {
	pages := func(s *fakeapi.Server) (ids string) {
		for page := range 2 {
			code, body := ask(s, fmt.Sprintf("/kms?page_size=2&page=%d", page+1), "2026-05-22")
			if code != 200 {
				ids += fmt.Sprintf("%d; ", code)
				continue
			}
			top := parse(t, body).(map[string]any)
			for _, item := range top["items"].([]any) {
				row := item.(map[string]any)
				ids += fmt.Sprintf("%v %v, ", row["id"], row["slug"])
			}
			ids += fmt.Sprintf("%v; ", top["total"])
		}
		return ids
	}
	for _, tt := range []struct {
		sentence string
		fault    fakeapi.Fault
		want     string
	}{
		{"a page that is gone", fakeapi.Fault{Name: fakeapi.Status, Status: 404, Endpoint: fakeapi.List, Page: 2},
			"kms_1 phala-1, kms_2 <nil>, 3; 404; "},
		{"one item that is there twice, and differs", fakeapi.Fault{Name: fakeapi.RepeatedItem, Endpoint: fakeapi.List},
			"kms_1 phala-1, kms_2 <nil>, 4; kms_3 base-2, kms_1 another, 4; "},
		{"one page for all", fakeapi.Fault{Name: fakeapi.RepeatedPage, Endpoint: fakeapi.List},
			"kms_1 phala-1, kms_2 <nil>, 3; kms_1 phala-1, kms_2 <nil>, 3; "},
		{"a list that grows", fakeapi.Fault{Name: fakeapi.Growing, Endpoint: fakeapi.List},
			"kms_grown-1 grown-1-node, kms_1 phala-1, 4; kms_1 phala-1, kms_2 <nil>, 5; "},
		{"a fault of all that is asked", fakeapi.Fault{Name: fakeapi.Status, Endpoint: fakeapi.Any}, "500; 500; "},
		{"a fault of something else", fakeapi.Fault{Name: fakeapi.Status, Endpoint: fakeapi.Info},
			"kms_1 phala-1, kms_2 <nil>, 3; kms_3 base-2, 3; "},
		{"a fault of no named endpoint is the on-chain detail's", fakeapi.Fault{Name: fakeapi.Status},
			"kms_1 phala-1, kms_2 <nil>, 3; kms_3 base-2, 3; "},
	} {
		s := twoOf(t)
		s.Fail(tt.fault)
		if got := pages(s); got != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.sentence, got, tt.want)
		}
	}
	for _, f := range []fakeapi.Fault{
		{Name: fakeapi.Growing},
		{Name: fakeapi.RepeatedItem, Endpoint: fakeapi.Any},
		{Name: fakeapi.WrongTypes, Endpoint: fakeapi.List},
		{Name: fakeapi.EchoKey, Status: 200, Endpoint: fakeapi.Any},
		{Name: fakeapi.Status, Endpoint: "kms"},
	} {
		if f.Check() == nil {
			t.Errorf("%+v is taken", f)
		}
	}
}

func TestReservedIDsAreNeverGivenAgain(t *testing.T) {
	s := fakeapi.New()
	const id = "000000000000000000000000000000000000000"
	for _, step := range []struct {
		query string
		code  int
		want  string
	}{
		{"", 200, `{"app_ids":[{"app_id":"` + id + `1","nonce":1}]}`},
		{"?counts=2", 200, `{"app_ids":[{"app_id":"` + id + `2","nonce":2},{"app_id":"` + id + `3","nonce":3}]}`},
		{"?counts=0", 422, `{"detail":"counts must be 1 to 20"}`},
		{"?counts=21", 422, `{"detail":"counts must be 1 to 20"}`},
	} {
		if code, got := ask(s, "/api/v1/kms/phala/next_app_id"+step.query, ""); code != step.code || got != step.want {
			t.Errorf("%s: %d %s", step.query, code, got)
		}
	}
	if s.Reserved() != 3 {
		t.Errorf("%d are reserved", s.Reserved())
	}
}
