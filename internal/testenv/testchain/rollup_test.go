package testchain_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// TestRollupContractsHaveThePublishedGetters compares with testdata, from the ABIs of Base's L1 contracts (base/contracts, August 2026).
func TestRollupContractsHaveThePublishedGetters(t *testing.T) {
	b, err := os.ReadFile("testdata/rollup-contracts.json")
	must(t, err)
	var published map[string]map[string]string // contract -> signature -> types of what it returns
	must(t, json.Unmarshal(b, &published))
	for _, name := range []string{testchain.RollupConfig, testchain.RollupPortal, testchain.RollupRegistry, testchain.RollupFactory, testchain.RollupGame} {
		a, err := testchain.Contract(name)
		must(t, err)
		got := map[string]string{}
		for _, m := range a.ABI.Methods {
			var types []string
			for _, o := range m.Outputs {
				types = append(types, o.Type.String())
			}
			got[m.Sig] = strings.Join(types, ",")
		}
		for signature, want := range published[name] {
			if returns, has := got[signature]; !has || returns != want {
				t.Errorf("%s has %s: %t, and it returns (%s), want (%s)", name, signature, has, returns, want)
			}
		}
		if len(published[name]) == 0 {
			t.Errorf("testdata has no getters of %s", name)
		}
	}
}
