package render_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

const schemaFile = "../../docs/report.schema.json"

func asJSON(t *testing.T, r *audit.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := render.JSON(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestJSON(t *testing.T) {
	golden(t, "drift.json", asJSON(t, drift()))
	golden(t, "unknown.json", asJSON(t, unknown()))
	golden(t, "backdoor.json", asJSON(t, backdoor()))
}

// TestJSONIsWhatTheStandardLibraryWrites holds the entries that are written one by one against the whole.
func TestJSONIsWhatTheStandardLibraryWrites(t *testing.T) {
	tricky := drift()
	first := &tricky.Chains[0].Targets[0]
	first.Reasons = []string{`"entries": []`, `{"entries": []}`, "<&>\u2028"}
	first.Entries[0].Name = `"entries": []`
	tricky.Chains[0].Targets = append([]audit.Target{{Contract: `"entries": []`}, {Entries: []audit.Entry{}}}, tricky.Chains[0].Targets...)
	for name, r := range map[string]*audit.Report{"drift": drift(), "unknown": unknown(), "zero": {}, "tricky": tricky} {
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetIndent("", "  ")
		if err := enc.Encode(r); err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := json.Indent(&got, []byte(asJSON(t, r)), "", "  "); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.String(), got.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestReportsFitTheSchema(t *testing.T) {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	schema, err := c.Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	valid := func(t *testing.T, text string) error {
		t.Helper()
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(doc)
	}
	for name, r := range map[string]*audit.Report{
		"drift with every entry verdict": drift(), "consistent and proven": consistent(), "an id that is not listed": backdoor(), "open while the API is down": outage(), "unknown without block and claim": unknown(),
		"policy, control, baseline and accepted differences": governed(),
		"hostile": hostile(), "empty": report(audit.Unknown),
	} {
		t.Run(name, func(t *testing.T) {
			if err := valid(t, asJSON(t, r)); err != nil {
				t.Error(err)
			}
		})
	}
	for name, swap := range map[string][2]string{
		"a verdict of its own making":       {`"verdict": "drift"`, `"verdict": "fine"`},
		"an unknown kind":                   {`"kind": "no_hash"`, `"kind": "bad_luck"`},
		"a field that is not in the schema": {`"audit_id"`, `"url": "", "audit_id"`},
		"a missing list":                    {`"errors": []`, `"errors": null`},
		"a time that is not UTC":            {`T12:00:00Z`, `T13:00:00+01:00`},
		"an upper-case block hash":          {`0xabab`, `0xABAB`},
	} {
		t.Run(name+" does not fit", func(t *testing.T) {
			text := strings.Replace(asJSON(t, drift()), swap[0], swap[1], 1)
			if !strings.Contains(text, swap[1]) {
				t.Fatalf("no %s in the report", swap[0])
			}
			if err := valid(t, text); err == nil {
				t.Error("it fits")
			}
		})
	}
}

// definition is what the tests read of a schema's object or enum.
type definition struct {
	Required   []string
	Enum       []string
	Properties map[string]any
	Defs       map[string]definition `json:"$defs"`
}

func readSchema(t *testing.T) definition {
	t.Helper()
	b, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var d definition
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestTheSchemaHasEveryEnumValue(t *testing.T) {
	schema, values := readSchema(t), constants(t)
	for _, v := range audit.Verdicts {
		values["Verdict"] = append(values["Verdict"], v.String())
	}
	for typ, def := range map[string]string{
		"Verdict": "verdict", "EntryVerdict": "entry_verdict", "List": "list", "ClaimState": "claim_state", "ChainState": "chain_state", "PolicyState": "policy_state",
		"Assurance": "assurance", "Completeness": "completeness", "Severity": "severity", "Stage": "stage", "Kind": "kind", "FindingState": "finding_state",
	} {
		if len(values[typ]) == 0 {
			t.Errorf("package audit has no %s", typ)
		}
		for _, v := range values[typ] {
			if !slices.Contains(schema.Defs[def].Enum, v) {
				t.Errorf("%s %q is not in the schema's %s", typ, v, def)
			}
		}
		// Kinds of later versions are in the schema before they are in the code.
		if def != "kind" && len(values[typ]) != len(schema.Defs[def].Enum) {
			t.Errorf("the schema's %s is %q, package audit's %q", def, schema.Defs[def].Enum, values[typ])
		}
	}
	for _, r := range footprint.Roles {
		if !slices.Contains(schema.Defs["code_role"].Enum, string(r)) {
			t.Errorf("role %s is not in the schema", r)
		}
	}
	for _, k := range audit.Kinds {
		if !slices.Contains(schema.Defs["kind"].Enum, string(k)) {
			t.Errorf("kind %s is not in the schema", k)
		}
	}
}

func TestTheSchemaHasEveryField(t *testing.T) {
	schema := readSchema(t)
	for _, tt := range []struct {
		of  any
		def definition
	}{
		{audit.Report{}, schema},
		{audit.Chain{}, schema.Defs["chain"]},
		{audit.Block{}, schema.Defs["block"]},
		{audit.Claim{}, schema.Defs["claim"]},
		{audit.SourceError{}, schema.Defs["error"]},
		{audit.Target{}, schema.Defs["target"]},
		{audit.Counts{}, schema.Defs["counts"]},
		{audit.Storage{}, schema.Defs["storage"]},
		{audit.Control{}, schema.Defs["control"]},
		{footprint.Account{}, schema.Defs["code"]},
		{audit.Baseline{}, schema.Defs["baseline"]},
		{audit.Acceptance{}, schema.Defs["acceptance"]},
		{audit.Accepting{}, schema.Defs["accepting"]},
		{audit.ExplainedSlot{}, schema.Defs["explained_slot"]},
		{audit.Entry{}, schema.Defs["entry"]},
		{audit.Changed{}, schema.Defs["changed"]},
		{audit.Finding{}, schema.Defs["finding"]},
	} {
		typ := reflect.TypeOf(tt.of)
		var fields, required []string
		for _, f := range reflect.VisibleFields(typ) {
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "-" || f.Anonymous {
				continue
			}
			fields = append(fields, name)
			if options != "omitempty" {
				required = append(required, name)
			}
		}
		if diff := cmp.Diff(sorted(fields), slices.Sorted(maps.Keys(tt.def.Properties))); diff != "" {
			t.Errorf("fields of %s (-code +schema):\n%s", typ, diff)
		}
		if diff := cmp.Diff(sorted(required), sorted(tt.def.Required)); diff != "" {
			t.Errorf("required fields of %s (-code +schema):\n%s", typ, diff)
		}
	}
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }
