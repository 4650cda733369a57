package evidence_test

import (
	"bytes"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
)

func TestEvidenceFitsTheSchema(t *testing.T) {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	schema, err := c.Compile("../../docs/evidence.schema.json")
	must(t, err)
	real := func(change func(*world)) *evidence.File {
		w := newWorld(t)
		change(w)
		return w.evidence()
	}
	for name, f := range map[string]*evidence.File{
		"by hand": judged(t, byHand(t)), "released": sample(t, "testdata/v2.json.gz"), "proven": real(unlisted), "unaccounted": real(backdoor),
		"believed": real(func(w *world) { w.proxy.Set(noProof) }), "told": real(told), "listed": real(lists), "without claims": real(unclaimed), "upgraded": real(upgraded),
		"failed": real(func(w *world) { w.api.Fail(fakeapi.Fault{Name: fakeapi.HTML}) }),
	} {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(document(t, f)))
		must(t, err)
		if err := schema.Validate(doc); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
