package exactjson_test

import (
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/internal/exactjson"
)

type answer struct {
	Slot string   `json:"slot"`
	List []string `json:"list"`
	Deep *struct {
		Root string `json:"root"`
	} `json:"deep"`
}

// TestForeignDocuments may have unknown fields.
func TestForeignDocuments(t *testing.T) {
	const rest = `"list":["a"],"deep":{"root":"r"}`
	for _, row := range []struct{ sentence, body, says string }{
		{"the fields alone are taken", `{"slot":"1",` + rest + `}`, ""},
		{"an unknown field is passed over, whatever it holds", `{"slot":"1","more":{"slot":[{"slot":"2"}]},` + rest + `}`, ""},
		{"a field is not taken twice", `{"slot":"1","slot":"1",` + rest + `}`, `key "slot" twice`},
		{"a field deep inside is not taken twice", `{"slot":"1","list":[],"deep":{"root":"r","root":"s"}}`, `key "root" twice`},
		{"a field in another case is refused", `{"slot":"1","Slot":"2",` + rest + `}`, `"Slot", which differs from slot only by case`},
		{"so is a letter that folds to the same", "{\"\u017flot\":\"1\",\"slot\":\"2\"," + rest + `}`, "differs from slot"},
		{"a field that is missing is refused", `{` + rest + `}`, "it has no slot"},
		{"a field deep inside that is missing is refused", `{"slot":"1","list":[],"deep":{}}`, "it has no root"},
		{"null is no value", `{"slot":null,` + rest + `}`, "it has null"},
		{"nor is it an object", `{"slot":"1","list":[],"deep":null}`, "it has null"},
		{"a number is no text", `{"slot":1,` + rest + `}`, "cannot unmarshal number"},
		{"what is not UTF-8 is refused", "{\"slot\":\"\xff\"," + rest + `}`, "UTF-8"},
		{"text after the document is refused", `{"slot":"1",` + rest + `}{}`, "after top-level value"},
		{"an unknown field has to be JSON", `{"more":[}`, "invalid character"},
		{"an unknown field has to end", `{"more":` + strings.Repeat("[", 1<<15), "depth"},
		{"a list is as long as memory allows", `{"slot":"1","list":[""` + strings.Repeat(`,""`, 1<<15) + `],"deep":{"root":"r"}}`, "too much memory"},
		{"nothing is refused", ``, "EOF"},
	} {
		err := exactjson.Foreign([]byte(row.body), &answer{})
		if row.says == "" && err != nil || row.says != "" && (err == nil || !strings.Contains(err.Error(), row.says)) {
			t.Errorf("%s: %v, want %q", row.sentence, err, row.says)
		}
	}
}

// TestOwnDocuments may lack fields, as those of an older release do, but not have unknown ones.
func TestOwnDocuments(t *testing.T) {
	for body, says := range map[string]string{
		`{"slot":"1"}`: "", `{"deep":null}`: "", `{"more":1}`: `unknown key "more"`, `{"Slot":"1"}`: `unknown key "Slot"`,
	} {
		err := exactjson.Own([]byte(body), &answer{})
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v, want %q", body, err, says)
		}
	}
}
