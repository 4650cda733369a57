package evidence_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
)

// TestTheCodeOfOlderRules: a file of rules 3 has two hashes in place of a list of code, and verifies.
func TestTheCodeOfOlderRules(t *testing.T) {
	record := byHand(t)
	is := *judged(t, record).Report.Chains[0].Targets[0].Control
	record.Prior.Contracts[0].Baseline = &audit.Baseline{Control: is, Since: noon}
	f := judged(t, record)
	var document map[string]any
	b, err := json.Marshal(f)
	must(t, err)
	must(t, json.Unmarshal(b, &document))
	document["rules"] = 3
	older, changed := document, 0
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			for _, e := range v {
				walk(e)
			}
			if code, ok := v["code"].([]any); ok { // of a report or a baseline
				v["code_hash"], v["implementation_code_hash"] = hashOf(code[0]), hashOf(code[1])
				delete(v, "code")
				changed++
			}
			if read, ok := v["footprint"].(map[string]any); ok { // of a look
				v["code_hash"] = map[string]any{"known": true, "value": read["code_hash"]}
				v["implementation_code_hash"] = map[string]any{"known": true, "value": read["implementation_code_hash"]}
				delete(v, "footprint")
			}
		}
	}
	walk(older)
	if changed < 5 {
		t.Fatalf("%d lists of code were replaced", changed)
	}
	b, err = json.Marshal(older)
	must(t, err)
	read, err := evidence.Decode(bytes.NewReader(sealed(b)))
	must(t, err)
	r, err := evidence.VerifyBy(t.Context(), read, nil, audit.Rules+1)
	if err != nil || r.Differences != nil {
		t.Fatalf("%q, %v", r.Differences, err)
	}
	if c := r.Report.Chains[0].Targets[0].Control; len(c.Accounts) != 2 || c.Accounts[1].Address != (common.Address{2}).Hex() || c.Complete {
		t.Errorf("the code is %+v", c.Code)
	}
}

func hashOf(account any) any { return account.(map[string]any)["code_hash"] }
