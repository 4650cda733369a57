package fakeapi_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
)

const published = "../../../kmsapi/testdata/kms-on-chain-base.json"

func open(t *testing.T) []fakeapi.Chain {
	t.Helper()
	f, err := os.Open(published)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	chains, err := fakeapi.ReadWorld(f)
	if err != nil {
		t.Fatal(err)
	}
	return chains
}

// get asks with a key and returns status, header and body.
func get(s *fakeapi.Server, path, key string) (int, http.Header, string) {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	if key != "" {
		r.Header.Set("X-API-Key", key)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Code, w.Header(), w.Body.String()
}

func TestAnswerIsTheWorldAsGiven(t *testing.T) {
	want, err := os.ReadFile(published)
	if err != nil {
		t.Fatal(err)
	}
	s := fakeapi.New(open(t)...)
	for _, prefix := range []string{"", "/api/v1", "/x/y"} {
		code, header, got := get(s, prefix+"/kms/on-chain/base", "")
		if code != 200 || header.Get("Content-Type") != "application/json" {
			t.Errorf("%q: %d %s", prefix, code, header)
		}
		if diff := cmp.Diff(parse(t, string(want)), parse(t, got)); diff != "" {
			t.Errorf("%q: body (-want +got):\n%s", prefix, diff)
		}
	}
	if s.Requests() != 3 {
		t.Errorf("%d requests", s.Requests())
	}
}

func parse(t *testing.T, body string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v in %.200s", err, body)
	}
	return v
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		sentence, path, key string
		code                int
		body                string
	}{
		{"an unknown chain", "/api/v1/kms/on-chain/solana", "right", 400, `{"detail":"Unsupported chain: solana"}`},
		{"an unknown path", "/api/v1/apps", "right", 404, `{"detail":"Not Found"}`},
		{"no key", "/api/v1/kms/on-chain/base", "", 403, `{"detail":"Not authenticated"}`},
		{"a wrong key", "/api/v1/kms/on-chain/base", "wrong", 401, `{"detail":"Invalid API key"}`},
	}
	s := fakeapi.New(open(t)...)
	s.RequireKey("right")
	for _, tt := range tests {
		code, header, body := get(s, tt.path, tt.key)
		if code != tt.code || body != tt.body || header.Get("X-Request-ID") == "" {
			t.Errorf("%s: %d %s %v", tt.sentence, code, body, header)
		}
	}
	if code, _, _ := get(s, "/kms/on-chain/base", "right"); code != 200 {
		t.Errorf("the right key: %d", code)
	}
}

func TestWorldChangesWhileItServes(t *testing.T) {
	node := "n"
	given := fakeapi.Chain{ChainName: "base", ChainID: 8453, Contracts: []fakeapi.Contract{{Address: "a"}}}
	s := fakeapi.New(given)
	given.Contracts[0].Address = "changed behind the server's back"
	s.Update("base", func(c *fakeapi.Chain) {
		c.Contracts[0].Devices = append(c.Contracts[0].Devices, fakeapi.Device{ID: "0xD", NodeName: &node})
	})
	s.Set(fakeapi.Chain{ChainName: "empty"})
	want := `{"chain_name":"base","chain_id":8453,"contracts":[{"contract_address":"a","chain_id":0,"chain_name":"","k256_pubkey":null,` +
		`"ca_pubkey":null,"gateway_contract_address":null,"devices":[{"device_id":"0xD","node_name":"n","on_chain_allowed":null}],"os_images":[]}]}`
	if _, _, got := get(s, "/kms/on-chain/base", ""); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if _, _, got := get(s, "/kms/on-chain/empty", ""); got != `{"chain_name":"empty","chain_id":0,"contracts":[]}` {
		t.Errorf("got %s", got)
	}
}

func TestFaultEnds(t *testing.T) {
	two := fakeapi.Chain{ChainName: "ethereum", ChainID: 1}
	s := fakeapi.New(append(open(t), two)...)
	codes := func(path string, n int) (all []int) {
		for range n {
			code, _, _ := get(s, path, "")
			all = append(all, code)
		}
		return all
	}
	s.Fail(fakeapi.Fault{Name: fakeapi.Status, Status: 503, Times: 2, Chain: "base"})
	if got := codes("/kms/on-chain/ethereum", 2); !slices.Equal(got, []int{200, 200}) {
		t.Errorf("another chain: %d", got)
	}
	if got := codes("/kms/on-chain/base", 3); !slices.Equal(got, []int{503, 503, 200}) {
		t.Errorf("a fault of two requests: %d", got)
	}
	s.Fail(fakeapi.Fault{Name: fakeapi.Status, After: 2, Times: 1})
	if got := codes("/kms/on-chain/base", 4); !slices.Equal(got, []int{200, 200, 500, 200}) {
		t.Errorf("a fault after two requests: %d", got)
	}
	s.Fail(fakeapi.Fault{Name: fakeapi.Status})
	if got := codes("/kms/on-chain/base", 3); !slices.Equal(got, []int{500, 500, 500}) {
		t.Errorf("a fault that stays: %d", got)
	}
	s.ClearFault()
	if got := codes("/kms/on-chain/base", 1); !slices.Equal(got, []int{200}) {
		t.Errorf("healed: %d", got)
	}
}

// The kmsapi tests go through most faults; these are the ones whose body only the audit judges.
func TestFaultsThatChangeTheBody(t *testing.T) {
	tests := []struct {
		fault       fakeapi.Fault
		top, row    float64
		firstDevice any
	}{
		{fakeapi.Fault{Name: fakeapi.WrongChainID}, 8454, 8454, "c84e73c6ce0b01f85606727593be79296c30a41510679c4492aec02dc57407d0"},
		{fakeapi.Fault{Name: fakeapi.ForeignRow}, 8453, 8454, "c84e73c6ce0b01f85606727593be79296c30a41510679c4492aec02dc57407d0"},
		{fakeapi.Fault{Name: fakeapi.Missing, Path: "contracts.0.devices.0.device_id"}, 8453, 8453, nil},
		{fakeapi.Fault{Name: fakeapi.Replaced, Path: "contracts.0.devices.0.device_id", Value: json.RawMessage("7")}, 8453, 8453, 7.0},
		{fakeapi.Fault{Name: fakeapi.EchoKey, Status: 200}, 8453, 8453, "your key k"},
	}
	for _, tt := range tests {
		s := fakeapi.New(open(t)...)
		s.Fail(tt.fault)
		_, _, body := get(s, "/kms/on-chain/base", "k")
		top := parse(t, body).(map[string]any)
		row := top["contracts"].([]any)[0].(map[string]any)
		device := row["devices"].([]any)[0].(map[string]any)["device_id"]
		if top["chain_id"] != tt.top || row["chain_id"] != tt.row || device != tt.firstDevice {
			t.Errorf("%s: chain id %v, row's %v, device %v", tt.fault.Name, top["chain_id"], row["chain_id"], device)
		}
	}
}

func TestCloseLetsGoOfHangingRequests(t *testing.T) {
	s := fakeapi.New(open(t)...)
	s.Fail(fakeapi.Fault{Name: fakeapi.Stall})
	srv := httptest.NewServer(s)
	defer srv.Close()
	resp, err := http.Get(srv.URL + "/kms/on-chain/base")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	s.Close()
	s.Close() // a second one is harmless
	if body, err := io.ReadAll(resp.Body); err != nil || len(body) == 0 {
		t.Errorf("%d bytes, then %v", len(body), err)
	}
}

func TestMistakesOfATestAreLoud(t *testing.T) {
	s := fakeapi.New()
	for sentence, f := range map[string]func(){
		"a fault nobody knows": func() { s.Fail(fakeapi.Fault{Name: "brake"}) },
		"a shape nobody knows": func() { s.Fail(fakeapi.Fault{Name: fakeapi.Status, Shape: "round"}) },
		"a change of no chain": func() { s.Update("base", func(*fakeapi.Chain) {}) },
		"a path that leads nowhere": func() {
			s := fakeapi.New(open(t)...)
			s.Fail(fakeapi.Fault{Name: fakeapi.Missing, Path: "contracts.0.device"})
			get(s, "/kms/on-chain/base", "")
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", sentence)
				}
			}()
			f()
		}()
	}
	for _, world := range []string{`{"chain": "base"}`, `[{"chain_name": 1}]`, `{`} {
		if _, err := fakeapi.ReadWorld(strings.NewReader(world)); err == nil {
			t.Errorf("%s: no error", world)
		}
	}
	list, err := fakeapi.ReadWorld(strings.NewReader(` [{"chain_name": "a"}, {"chain_name": "b"}] `))
	if err != nil || len(list) != 2 || list[1].ChainName != "b" {
		t.Errorf("a list of two: %v, %v", list, err)
	}
}
