package kmsapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/kmsapi"
)

const small = `{"chain_name": "base", "chain_id": 8453, "contracts": [{
	"contract_address": "2F83172A49584C017F2B256F0FB2DCA14126BA9C", "chain_id": 8453, "chain_name": "base", "k256_pubkey": "0x04",
	"devices": [{"device_id": "0xAb", "node_name": "n", "on_chain_allowed": true}],
	"os_images": [{"name": "i", "version": "1", "os_image_hash": "Cd", "on_chain_allowed": false}]}]}`

var kms = common.HexToAddress("0x2f83172a49584c017f2b256f0fb2dca14126ba9c")

func TestDecode(t *testing.T) {
	got, err := kmsapi.Decode([]byte(small))
	if err != nil {
		t.Fatal(err)
	}
	want := &kmsapi.OnChainDetail{ChainName: "base", ChainID: 8453, Contracts: []kmsapi.Contract{{
		Address: kms, ChainID: 8453, ChainName: "base", K256Pubkey: "0x04",
		Devices:  []kmsapi.Device{{ID: "0xAb", NodeName: "n", Allowed: kmsapi.AllowedTrue}},
		OSImages: []kmsapi.OSImage{{Name: "i", Version: "1", Hash: "Cd", Allowed: kmsapi.AllowedFalse}},
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("(-want +got):\n", diff)
	}
}

func TestDecodeVectors(t *testing.T) {
	d, err := kmsapi.Decode(vectors(t))
	if err != nil {
		t.Fatal(err)
	}
	c := d.Contracts[0]
	if c.Address != kms || len(c.Devices) != 3 || len(c.OSImages) != 8 {
		t.Errorf("%s has %d devices and %d images", c.Address, len(c.Devices), len(c.OSImages))
	}
	if diff := cmp.Diff([]kmsapi.OSImage{
		{Name: "dstack-nvidia-0.5.9", Version: "0.5.9", Hash: "806a352e16175d90568de97dff563f31f680239e6b90e9b5b2e9141d0955b0d9"},
		{Name: "dstack-dev-0.5.0", Version: "0.5.0"},
	}, c.OSImages[6:]); diff != "" {
		t.Error("images with null (-want +got):\n", diff)
	}
}

func TestDecodeTolerates(t *testing.T) {
	for sentence, swap := range map[string][2]string{
		"an extra field at the top":     {`"chain_name": "base", "chain_id": 8453, "contracts"`, `"new": [{"a": 1, "a": 2}], "chain_name": "base", "chain_id": 8453, "contracts"`},
		"an extra field in a row":       {`"device_id"`, `"new": null, "device_id"`},
		"a field that differs by case":  {`"device_id"`, `"On_Chain_Allowed": false, "device_id"`},
		"an optional text that is null": {`"k256_pubkey": "0x04"`, `"ca_pubkey": null, "k256_pubkey": "0x04"`},
		"white space around the body":   {`{"chain_name"`, " \n{\"chain_name\""},
		"a key spelled with an escape":  {`"device_id"`, `"device\u005fid"`},
	} {
		body := strings.Replace(small, swap[0], swap[1], 1)
		if body == small {
			t.Fatalf("%s: nothing swapped", sentence)
		}
		want, _ := kmsapi.Decode([]byte(small))
		got, err := kmsapi.Decode([]byte(body))
		if err != nil {
			t.Errorf("%s: %v", sentence, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", sentence, diff)
		}
	}
}

func TestAllowedAndHashStates(t *testing.T) {
	for field, want := range map[string]kmsapi.OSImage{
		`"on_chain_allowed": true`:                            {Allowed: kmsapi.AllowedTrue},
		`"on_chain_allowed": false`:                           {Allowed: kmsapi.AllowedFalse},
		`"on_chain_allowed": null`:                            {},
		`"ON_CHAIN_ALLOWED": true`:                            {},
		`"os_image_hash": null`:                               {},
		`"os_image_hash": ""`:                                 {},
		`"os_image_hash": "", "on_chain_allowed": false`:      {Allowed: kmsapi.AllowedFalse},
		`"os_image_hash": "not hex", "on_chain_allowed":true`: {Hash: "not hex", Allowed: kmsapi.AllowedTrue},
	} {
		d, err := kmsapi.Decode([]byte(strings.Replace(small, `"os_image_hash": "Cd", "on_chain_allowed": false`, field, 1)))
		if err != nil {
			t.Errorf("%s: %v", field, err)
			continue
		}
		want.Name, want.Version = "i", "1"
		if diff := cmp.Diff(want, d.Contracts[0].OSImages[0]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", field, diff)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	tests := []struct{ sentence, old, new, path, reason string }{
		{"anything after the JSON", `}]}]}`, `}]}]} {}`, "", "invalid character '{' after top-level value"},
		{"a list instead of the object", small, `[]`, "", "want an object, got a list"},
		{"a chain id in quotes", `"chain_id": 8453, "contracts"`, `"chain_id": "8453", "contracts"`, "chain_id", "want a whole number, got a string"},
		{"a negative chain id", `"chain_id": 8453, "chain_name"`, `"chain_id": -1, "chain_name"`, "contracts[0].chain_id", `want a whole number, got number "-1"`},
		{"a broken chain id", `"chain_id": 8453, "chain_name"`, `"chain_id": 1.5, "chain_name"`, "contracts[0].chain_id", `want a whole number, got number "1.5"`},
		{"a number for a name", `"name": "i"`, `"name": 1`, "contracts[0].os_images[0].name", `want a string, got number "1"`},
		{"a number for an optional text", `"node_name": "n"`, `"node_name": {}`, "contracts[0].devices[0].node_name", "want a string, got an object"},
		{"a list for a hash", `"os_image_hash": "Cd"`, `"os_image_hash": []`, "contracts[0].os_images[0].os_image_hash", "want a string, got a list"},
		{"a claim in quotes", `"on_chain_allowed": true`, `"on_chain_allowed": "true"`, "contracts[0].devices[0].on_chain_allowed", "want true, false or null, got a string"},
		{"a claim of 1", `"on_chain_allowed": true`, `"on_chain_allowed": 1`, "contracts[0].devices[0].on_chain_allowed", `want true, false or null, got number "1"`},
		{"a row that is null", `"contracts": [`, `"contracts": [null, `, "contracts[0]", "want an object, got null"},
		{"a second row that is a text", `"devices": [{"device_id": "0xAb", "node_name": "n", "on_chain_allowed": true}`, `"devices": [{"device_id": "a"}, "b"`, "contracts[0].devices[1]", "want an object, got a string"},
		{"an object for a list", `"devices": [{"device_id": "0xAb", "node_name": "n", "on_chain_allowed": true}]`, `"devices": {}`, "contracts[0].devices", "want a list, got an object"},
		{"a claim given twice", `"on_chain_allowed": false`, `"on_chain_allowed": false, "on_chain_allowed": true`, "contracts[0].os_images[0]", `"on_chain_allowed" given twice`},
		{"a claim given twice, once with an escape", `"on_chain_allowed": false`, `"on_chain_allowed": false, "on\u005fchain_allowed": true`, "contracts[0].os_images[0]", `"on_chain_allowed" given twice`},
		{"contracts given twice", `{"chain_name"`, `{"contracts": [], "chain_name"`, "", `"contracts" given twice`},
		{"an address of 39 digits", `"2F83172A49584C017F2B256F0FB2DCA14126BA9C"`, `"0x2F83172A49584C017F2B256F0FB2DCA14126BA9"`, "contracts[0].contract_address", `"0x2F83172A49584C017F2B256F0FB2DCA14126BA9" has 39 characters after the prefix, want 40 hex digits`},
		{"an address that is no hex", `"2F83172A49584C017F2B256F0FB2DCA14126BA9C"`, `"zF83172A49584C017F2B256F0FB2DCA14126BA9C"`, "contracts[0].contract_address", `"zF83172A49584C017F2B256F0FB2DCA14126BA9C" is not hex`},
		{"a byte that is no UTF-8", `"n"`, "\"\xff\"", "", "not UTF-8, as JSON is"},
		{"nesting without end", `"n"`, strings.Repeat("[", 20000), "", "invalid character '[' exceeded max depth"},
	}
	for _, tt := range tests {
		body := strings.Replace(small, tt.old, tt.new, 1)
		if body == small {
			t.Fatalf("%s: nothing swapped", tt.sentence)
		}
		refused(t, tt.sentence, []byte(body), &kmsapi.InvalidError{Path: tt.path, Reason: tt.reason})
	}
}

func refused(t *testing.T, sentence string, body []byte, want *kmsapi.InvalidError) {
	t.Helper()
	_, err := kmsapi.Decode(body)
	var got *kmsapi.InvalidError
	if !errors.As(err, &got) {
		t.Errorf("%s: error %v", sentence, err)
	} else if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", sentence, diff)
	}
}

func TestRequiredFields(t *testing.T) {
	for path, field := range map[string]string{
		"chain_name":                        `{"chain_name": "base",`,
		"chain_id":                          `"chain_id": 8453, "contracts"`,
		"contracts":                         `"contracts"`,
		"contracts[0].contract_address":     `"contract_address"`,
		"contracts[0].chain_id":             `"chain_id": 8453, "chain_name"`,
		"contracts[0].chain_name":           `"chain_name": "base", "k256`,
		"contracts[0].devices":              `"devices"`,
		"contracts[0].devices[0].device_id": `"device_id"`,
		"contracts[0].os_images":            `"os_images"`,
		"contracts[0].os_images[0].name":    `"name"`,
		"contracts[0].os_images[0].version": `"version"`,
	} {
		name := path[strings.LastIndex(path, ".")+1:]
		absent := strings.Replace(small, field, strings.Replace(field, `"`+name+`"`, `"was_`+name+`"`, 1), 1)
		refused(t, path+" is absent", []byte(absent), &kmsapi.InvalidError{Path: path, Reason: "missing"})
		null := strings.Replace(small, field, strings.Replace(field, `"`+name+`"`, fmt.Sprintf(`%q: null, "was_%s"`, name, name), 1), 1)
		refused(t, path+" is null", []byte(null), &kmsapi.InvalidError{Path: path, Reason: "missing"})
	}
}

func TestAnIDIsAText(t *testing.T) {
	for _, tt := range []struct{ value, kind string }{{"true", "a boolean"}, {"{}", "an object"}, {"[]", "a list"}, {"1e3", `number "1e3"`}} {
		body := []byte(strings.Replace(small, `"0xAb"`, tt.value, 1))
		refused(t, tt.kind, body, &kmsapi.InvalidError{Path: "contracts[0].devices[0].device_id", Reason: "want a string, got " + tt.kind})
	}
}

// FuzzDecode holds that a body is either refused with a short reason, or says the same when it is written down and read again.
func FuzzDecode(f *testing.F) {
	f.Add(vectors(f))
	f.Add([]byte(small))
	for _, s := range []string{"", "null", "[]", `{}`, small[:len(small)/2], small + "x", strings.ToUpper(small), `{"chain_name":"\ud800","chain_id":1,"contracts":[]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := kmsapi.Decode(body)
		if err != nil {
			shortInvalid(t, err)
			return
		}
		again, err := kmsapi.Decode(encode(t, d))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d, again); diff != "" {
			t.Fatal("read again (-want +got):\n", diff)
		}
	})
}

func encode(t *testing.T, d *kmsapi.OnChainDetail) []byte {
	type m = map[string]any
	claims := map[kmsapi.Allowed]any{kmsapi.AllowedTrue: true, kmsapi.AllowedFalse: false}
	contracts := []m{}
	for _, c := range d.Contracts {
		devices, images := []m{}, []m{}
		for _, e := range c.Devices {
			devices = append(devices, m{"device_id": e.ID, "node_name": e.NodeName, "on_chain_allowed": claims[e.Allowed]})
		}
		for _, e := range c.OSImages {
			images = append(images, m{"name": e.Name, "version": e.Version, "os_image_hash": e.Hash, "on_chain_allowed": claims[e.Allowed]})
		}
		contracts = append(contracts, m{
			"contract_address": c.Address, "chain_id": c.ChainID, "chain_name": c.ChainName, "k256_pubkey": c.K256Pubkey,
			"ca_pubkey": c.CAPubkey, "gateway_contract_address": c.GatewayContractAddress, "devices": devices, "os_images": images,
		})
	}
	b, err := json.Marshal(m{"chain_name": d.ChainName, "chain_id": d.ChainID, "contracts": contracts})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
