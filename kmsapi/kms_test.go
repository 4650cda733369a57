package kmsapi_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

const (
	aNode = `{"id": "kms_1", "slug": "one", "url": "https://1", "version": "v1", "chain_id": 8453,
		"kms_contract_address": "2F83172A49584C017F2B256F0FB2DCA14126BA9C", "gateway_app_id": "0xAb"}`
	aContract = `{"id": "kc_1", "slug": "base", "label": "Base", "contract_address": "0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C", "chain_id": 8453,
		"k256_pubkey": "0x02", "ca_pubkey": "0x03", "node_count": 2}`
)

// node and contract are what aNode and aContract say, changed by f.
func node(f func(*kmsapi.KMS)) kmsapi.KMS {
	k := kmsapi.KMS{ID: "kms_1", Slug: "one", URL: "https://1", Version: "v1", ChainID: 8453, Contract: &kms, GatewayAppID: "0xAb", HasGatewayAppID: true}
	f(&k)
	return k
}

func contract(f func(*kmsapi.KMS)) kmsapi.KMS {
	k := kmsapi.KMS{ID: "kc_1", Slug: "base", Label: "Base", ChainID: 8453, Contract: &kms, K256Pubkey: "0x02", CAPubkey: "0x03", NodeCount: 2, PerContract: true}
	f(&k)
	return k
}

func TestDecodeKMS(t *testing.T) {
	for _, tt := range []struct {
		sentence, body, old, new string
		want                     kmsapi.KMS
	}{
		{"a node, as up to 2026-05-22", aNode, "", "", node(func(*kmsapi.KMS) {})},
		{"a contract, as from 2026-06-23", aContract, "", "", contract(func(*kmsapi.KMS) {})},
		{"a node with a key, as some versions give it", aNode, `"slug": "one"`, `"slug": "one", "k256_pubkey": "0x02"`,
			node(func(k *kmsapi.KMS) { k.K256Pubkey = "0x02" })},
		{"a node without a slug", aNode, `"slug": "one"`, `"slug": null`, node(func(k *kmsapi.KMS) { k.Slug = "" })},
		{"a node off chain, by null", aNode, `8453,
		"kms_contract_address": "2F83172A49584C017F2B256F0FB2DCA14126BA9C"`, `null, "kms_contract_address": null`,
			node(func(k *kmsapi.KMS) { k.ChainID, k.Contract = 0, nil })},
		{"a node off chain, by an empty text", aNode, `8453,
		"kms_contract_address": "2F83172A49584C017F2B256F0FB2DCA14126BA9C"`, `null, "kms_contract_address": ""`,
			node(func(k *kmsapi.KMS) { k.ChainID, k.Contract = 0, nil })},
		{"a node on a chain whose contract the API does not know", aNode, `"2F83172A49584C017F2B256F0FB2DCA14126BA9C"`, `null`,
			node(func(k *kmsapi.KMS) { k.Contract = nil })},
		{"a node with no gateway", aNode, `"0xAb"`, `null`, node(func(k *kmsapi.KMS) { k.GatewayAppID = "" })},
		{"a node with an empty gateway", aNode, `"0xAb"`, `""`, node(func(k *kmsapi.KMS) { k.GatewayAppID = "" })},
		{"a node with no word of a gateway", aNode, `"gateway_app_id"`, `"gateway"`,
			node(func(k *kmsapi.KMS) { k.GatewayAppID, k.HasGatewayAppID = "", false })},
		{"a contract that also tells the gateway", aContract, `"label"`, `"gateway_app_id": "x", "label"`,
			contract(func(k *kmsapi.KMS) { k.GatewayAppID, k.HasGatewayAppID = "x", true })},
		{"the contract off chain", aContract, `"0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C", "chain_id": 8453`, `"phala", "chain_id": 0`,
			contract(func(k *kmsapi.KMS) { k.ChainID, k.Contract = 0, nil })},
		{"a contract without label and keys", aContract, `"label": "Base"`, `"label": null, "x": {"y": []}`, contract(func(k *kmsapi.KMS) { k.Label = "" })},
	} {
		got, err := kmsapi.DecodeKMS([]byte(swapped(t, tt.body, tt.old, tt.new)))
		if err != nil {
			t.Errorf("%s: %v", tt.sentence, err)
		} else if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.sentence, diff)
		}
	}
}

func swapped(t *testing.T, body, old, new string) string {
	t.Helper()
	out := strings.Replace(body, old, new, 1)
	if out == body && old != "" {
		t.Fatalf("there is no %s to swap", old)
	}
	return out
}

func TestDecodeKMSRefuses(t *testing.T) {
	for _, tt := range []struct{ sentence, body, old, new, path, reason string }{
		{"a list", aNode, aNode, `[]`, "", "want an object, got a list"},
		{"nothing", aNode, aNode, ` `, "", "empty body"},
		{"anything after it", aNode, `"0xAb"}`, `"0xAb"} 7`, "", "invalid character '7' after top-level value"},
		{"no word of a contract", aNode, `"kms_contract_address"`, `"address"`, "contract_address", "missing"},
		{"a node without id", aNode, `"id"`, `"was_id"`, "id", "missing"},
		{"a node without url", aNode, `"https://1"`, `null`, "url", "missing"},
		{"a node without version", aNode, `"version"`, `"was_version"`, "version", "missing"},
		{"a contract without id", aContract, `"id": "kc_1"`, `"id": null`, "id", "missing"},
		{"a contract without address", aContract, `"0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C"`, `null`, "contract_address", "missing"},
		{"a contract without chain", aContract, `8453`, `null`, "chain_id", "missing"},
		{"a contract without number of nodes", aContract, `"node_count"`, `"nodes"`, "node_count", "missing"},
		{"a malformed address", aContract, `Ba9C"`, `Ba9"`, "contract_address", `"0x2f83172A49584C017F2B256F0FB2Dca14126Ba9" has 39 characters after the prefix, want 40 hex digits`},
		{"an address on no chain", aNode, `8453`, `null`, "chain_id", `missing, where kms_contract_address is "2F83172A49584C017F2B256F0FB2DCA14126BA9C"`},
		{"the KMS off chain, on a chain", aContract, `"0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C"`, `"phala"`, "contract_address", `"phala" has 5 characters after the prefix, want 40 hex digits`},
		{"a number for a slug", aNode, `"one"`, `1`, "slug", `want a string, got number "1"`},
		{"a text for a number of nodes", aContract, `"node_count": 2`, `"node_count": "2"`, "node_count", "want a whole number, got a string"},
		{"a field given twice", aNode, `"slug"`, `"id": "x", "slug"`, "", `"id" given twice`},
	} {
		_, err := kmsapi.DecodeKMS([]byte(swapped(t, tt.body, tt.old, tt.new)))
		var got *kmsapi.InvalidError
		if !errors.As(err, &got) {
			t.Errorf("%s: error %v", tt.sentence, err)
		} else if diff := cmp.Diff(&kmsapi.InvalidError{Path: tt.path, Reason: tt.reason}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.sentence, diff)
		}
	}
}

func TestInfo(t *testing.T) {
	for version, want := range map[string]kmsapi.KMS{
		"2026-05-22": {ID: "kms_base", Slug: "base-node", URL: "https://kms.base.example", Version: "v0.5.8", ChainID: 8453, Contract: &kms, HasGatewayAppID: true},
		"2026-06-23": {ID: "kc_base", Slug: "base", Label: "KMS base", ChainID: 8453, Contract: &kms, NodeCount: 1, PerContract: true},
	} {
		c, seen := serve(t, world(t), func(o *kmsapi.Options) { o.Version = version })
		for _, id := range []string{want.ID, want.Slug} {
			got, err := c.Info(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			got.K256Pubkey, got.CAPubkey = "", ""
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s in %s (-want +got):\n%s", id, version, diff)
			}
		}
		if diff := cmp.Diff([]string{"kms_info ok", "kms_info ok"}, seen.all); diff != "" {
			t.Error("observed (-want +got):\n", diff)
		}
	}
}

func TestInfoFaults(t *testing.T) {
	for _, tt := range []struct {
		sentence, id string
		fault        fakeapi.Fault
		want, result string
	}{
		{"nobody's id is not found", "kc_nobody", fakeapi.Fault{Name: fakeapi.Status},
			`fetching the KMS kc_nobody: the API knows no such KMS: the API answered 404 Not Found: "KMS not found" (request id "req-1")`, "client_error"},
		{"an id stays one element of the path", "../on-chain/base", fakeapi.Fault{Name: fakeapi.Status},
			`fetching the KMS ../on-chain/base: the API knows no such KMS: the API answered 404 Not Found: "KMS not found" (request id "req-1")`, "client_error"},
		{"a 500 does not say that it is not there", "base", fakeapi.Fault{Name: fakeapi.Status, Endpoint: fakeapi.Info},
			`fetching the KMS base: the API answered 500 Internal Server Error: "The fake was told to fail" (request id "req-1")`, "server_error"},
		{"a missing field names its path", "base", fakeapi.Fault{Name: fakeapi.Missing, Endpoint: fakeapi.Info, Path: "node_count"},
			`fetching the KMS base: the API's answer cannot be used: node_count: missing`, "invalid"},
	} {
		api := world(t)
		api.Fail(tt.fault)
		c, seen := serve(t, api, nil)
		_, err := c.Info(t.Context(), tt.id)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s: error\n%v\nwant\n%s", tt.sentence, err, tt.want)
		}
		if diff := cmp.Diff([]string{"kms_info " + tt.result}, seen.all); diff != "" {
			t.Errorf("%s: observed (-want +got):\n%s", tt.sentence, diff)
		}
	}
	c, seen := serve(t, world(t), nil)
	if _, err := c.Info(t.Context(), ""); err == nil || len(seen.all) > 0 {
		t.Errorf("no id: error %v after %v", err, seen.all)
	}
}

// FuzzDecodeKMS holds that a body is refused with a short reason, or says the same when it is written down and read again.
func FuzzDecodeKMS(f *testing.F) {
	f.Add([]byte(aNode))
	f.Add([]byte(aContract))
	f.Add([]byte(strings.Replace(aContract, "8453", "0", 1)))
	f.Fuzz(func(t *testing.T, body []byte) {
		k, err := kmsapi.DecodeKMS(body)
		if err != nil {
			shortInvalid(t, err)
			return
		}
		again, err := kmsapi.DecodeKMS(written(t, item(k)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(k, again); diff != "" {
			t.Fatal("read again (-want +got):\n", diff)
		}
	})
}

func shortInvalid(t *testing.T, err error) {
	t.Helper()
	var invalid *kmsapi.InvalidError
	if !errors.As(err, &invalid) {
		t.Fatalf("an error of another kind: %.300q", err)
	}
	fit.Error(t, err, 2000)
}

// item spells k as the API does.
func item(k kmsapi.KMS) map[string]any {
	m := map[string]any{"id": k.ID, "slug": k.Slug, "chain_id": k.ChainID, "k256_pubkey": k.K256Pubkey, "ca_pubkey": k.CAPubkey}
	address := ""
	if k.Contract != nil {
		address = k.Contract.Hex()
	}
	if k.PerContract {
		m["label"], m["contract_address"], m["node_count"] = k.Label, address, k.NodeCount
	} else {
		m["url"], m["version"], m["kms_contract_address"] = k.URL, k.Version, address
	}
	if k.HasGatewayAppID {
		m["gateway_app_id"] = k.GatewayAppID
	}
	return m
}

func written(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
