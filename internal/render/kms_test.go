package render_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

func show(t *testing.T, a render.Answer, asJSON bool) string {
	t.Helper()
	var b bytes.Buffer
	if err := render.Show(&b, a, render.TextOptions{}, asJSON); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestAnswers(t *testing.T) {
	at := common.HexToAddress("0x2f83172a49584c017f2b256f0fb2dca14126ba9c")
	contract := kmsapi.KMS{ID: "kc_1", Slug: "base", Label: "Base", ChainID: 8453, Contract: &at, K256Pubkey: "02", CAPubkey: "03", PerContract: true}
	node := kmsapi.KMS{ID: "kms_1", URL: "https://1", Version: "v1", HasGatewayAppID: true}
	gateway := node
	gateway.GatewayAppID = "0xAb"
	detail := &kmsapi.OnChainDetail{ChainName: "base", ChainID: 8453, Contracts: []kmsapi.Contract{
		{
			Address: at, ChainID: 1, ChainName: "ethereum", K256Pubkey: "02", GatewayContractAddress: "0xcd",
			Devices:  []kmsapi.Device{{ID: strings.Repeat("AB", 32), Allowed: kmsapi.AllowedTrue}, {ID: "0xBad", NodeName: "n"}},
			OSImages: []kmsapi.OSImage{{Name: "i", Version: "1", Allowed: kmsapi.AllowedFalse}},
		},
		{Address: at, ChainID: 8453, ChainName: "base"},
	}}
	const id = "0xabababababababababababababababababababababababababababababababab"
	for _, tt := range []struct {
		sentence   string
		answer     render.Answer
		text, json string
	}{
		{"contracts", render.NewKMSList(&kmsapi.List{KMS: []kmsapi.KMS{contract}}),
			"ID    SLUG  LABEL  CHAIN ID  CONTRACT                                    NODES\n" +
				"kc_1  base  Base   8453      0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C  0\n",
			`{"kms": [{"id": "kc_1", "slug": "base", "label": "Base", "chain_id": 8453, "contract": "0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C",
				"k256_pubkey": "02", "ca_pubkey": "03", "node_count": 0}]}`},
		{"no KMS at all", render.NewKMSList(&kmsapi.List{}), "the API lists no KMS\n", `{"kms": []}`},
		{"one node without a gateway", render.NewKMS(node), "id              kms_1\nchain id        off chain\nversion         v1\nurl             https://1\ngateway app id  none\n",
			`{"id": "kms_1", "chain_id": 0, "gateway_app_id": "", "version": "v1", "url": "https://1"}`},
		{"one node with a gateway", render.NewKMS(gateway), "id              kms_1\nchain id        off chain\nversion         v1\nurl             https://1\ngateway app id  0xAb\n",
			`{"id": "kms_1", "chain_id": 0, "gateway_app_id": "0xAb", "version": "v1", "url": "https://1"}`},
		{"the claims of a chain", render.NewOnChain(detail),
			"base (chain id 8453): 2 contracts\n\n" +
				"0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C on ethereum (chain id 1)\n" +
				"  k256 pubkey       02\n" +
				"  gateway contract  0xcd\n" +
				"  LIST      CLAIM    ID                                                                  NAME  VERSION\n" +
				"  device    allowed  " + id + "  -     -\n" +
				"  device    unknown  0xBad                                                               n     -\n" +
				"  os_image  denied   -                                                                   i     1\n\n" +
				"0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C on base (chain id 8453)\n" +
				"  no entries\n",
			`{"chain": "base", "chain_id": 8453, "contracts": [
				{"contract": "0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C", "chain": "ethereum", "chain_id": 1, "k256_pubkey": "02", "gateway_contract": "0xcd", "entries": [
					{"list": "device", "id": "` + id + `", "claim": "allowed"},
					{"list": "device", "id": "0xBad", "name": "n", "claim": "unknown"},
					{"list": "os_image", "id": "", "name": "i", "version": "1", "claim": "denied"}]},
				{"contract": "0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C", "chain": "base", "chain_id": 8453, "entries": []}]}`},
		{"app ids", render.NewAppIDs([]kmsapi.AppID{{ID: "ab", Nonce: 7}}), "APP ID  NONCE\nab      7\n", `{"app_ids": [{"app_id": "ab", "nonce": 7}]}`},
		{"no app ids", render.NewAppIDs(nil), "the API reserved no app ids\n", `{"app_ids": []}`},
	} {
		if diff := cmp.Diff(tt.text, show(t, tt.answer, false)); diff != "" {
			t.Errorf("%s, as text (-want +got):\n%s", tt.sentence, diff)
		}
		var want, got any
		if err := errors.Join(json.Unmarshal([]byte(tt.json), &want), json.Unmarshal([]byte(show(t, tt.answer, true)), &got)); err != nil {
			t.Errorf("%s: %v", tt.sentence, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s, as JSON (-want +got):\n%s", tt.sentence, diff)
		}
	}
}

// Every rune of a text from outside is kept in JSON and none reaches a terminal that could do harm there.
func TestHostileAnswers(t *testing.T) {
	var all strings.Builder
	for _, r := range []rune{0, '\a', '\x1b', '"', '\\', 0x7f, 0x9b, 0x202e, 0x2028, 0xfeff, 0xe000, 0xfffd, 0x1d11e, 0xe0041, 0x10ffff, 'é'} {
		all.WriteRune(r)
	}
	hostile := kmsapi.KMS{ID: all.String(), Slug: strings.Repeat("s", 300), URL: "a\nb"}
	for _, asJSON := range []bool{false, true} {
		out := show(t, render.NewKMS(hostile), asJSON)
		if i := strings.IndexFunc(out, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("JSON %t: %q is shown", asJSON, out[i:i+4])
		}
		if !asJSON && (!strings.Contains(out, strings.Repeat("s", 200)+"…\n") || !strings.Contains(out, "a b")) {
			t.Errorf("not cut or not folded: %s", out)
		}
		var got render.KMS
		if asJSON && (json.Unmarshal([]byte(out), &got) != nil || got.ID != hostile.ID || got.Slug != hostile.Slug || got.URL != hostile.URL) {
			t.Errorf("as JSON: %+q %q %q", got.ID, got.Slug, got.URL)
		}
	}
}

func TestAnswerThatCannotBeWritten(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		if err := render.Show(full{}, render.NewAppIDs(nil), render.TextOptions{}, asJSON); !errors.Is(err, errFull) {
			t.Errorf("JSON %t: %v", asJSON, err)
		}
	}
}

// docs/kms.md is the contract of the JSON.
func TestEveryFieldOfAnAnswerIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/kms.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range []any{render.KMSList{}, render.KMS{}, render.OnChain{}, render.Contract{}, render.Claim{}, render.AppIDs{}, render.AppID{}} {
		for f := range reflect.TypeOf(of).Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !strings.Contains(string(doc), `"`+name+`"`) && !strings.Contains(string(doc), "`"+name+"`") {
				t.Errorf("%s of %T is not in docs/kms.md", name, of)
			}
		}
	}
}
