package matrix_test

import (
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/faults"
)

// TestRows plays cases that taught something, by what the law drew or by thought.
func TestRows(t *testing.T) {
	b := newBench()
	t.Cleanup(b.close)
	once := func(edits ...edit) []step {
		return []step{{Before: change{Edits: edits}, Between: change{Still: true}}}
	}
	proven := config{Block: "latest", Verify: "required", Providers: 1, Agreement: 1}
	two := config{Block: "latest", Verify: "auto", Providers: 2, Agreement: 1}
	with := func(c config, change func(*config)) config { change(&c); return c }
	for _, row := range []struct {
		sentence string
		plan
		want string // the verdicts of the targets, in the order of the report
	}{
		{"all is well", plan{config: proven, Steps: once()}, "consistent consistent"},
		{"what is accepted is no drift, beside a claim that the API does not make", plan{
			config: with(proven, func(c *config) {
				c.Devices = []int{}
				c.Accepts = []accept{{Kind: "policy_denied_chain_allowed", ID: 0}}
			}),
			Past:  [][]op{{{What: add}}},
			Steps: once(edit{What: null}),
		}, "unknown consistent"},
		{"storage that nothing names is accepted, where proofs are required", plan{
			config: with(proven, func(c *config) { c.Accepts = []accept{{Kind: "storage_unaccounted", ID: -1}} }),
			Past:   [][]op{{{What: toDoor}, {What: sneakIn, ID: 3}}},
			Steps:  once(),
		}, "unknown consistent"},
		{"storage that nothing names is accepted, where proofs are not required", plan{
			config: with(two, func(c *config) { c.Accepts = []accept{{Kind: "storage_unaccounted", ID: -1}} }),
			Past:   [][]op{{{What: toDoor}, {What: sneakIn, ID: 3}}},
			Steps:  once(),
		}, "consistent consistent"},
		{"an answer about another chain still says which of its ids are malformed", plan{
			config: proven, Steps: once(edit{What: malformed}, edit{What: abroad}),
		}, "unknown unknown"},
		{"the list of KMS cannot be had, and names a contract that nothing else does", plan{
			config: with(proven, func(c *config) { c.Cross = true }),
			Steps:  once(edit{What: unlist, Contract: 1}),
			Faults: []fault{{Name: "page missing", At: api, When: faults.When{}}},
		}, "unknown"},
		{"a contract is younger than the pinned block, and the newest block agrees", plan{
			config: with(proven, func(c *config) { c.Block, c.Pending = "latest-1", true }), Steps: once(),
		}, "consistent consistent"},
		{"a provider leaves out the logs of an app, and another tells of them", plan{
			config: two, Past: [][]op{{{What: app}}}, Steps: once(), Faults: []fault{{Name: "dropped logs", At: 0}},
		}, "consistent consistent"},
		{"a provider lies in every call, and another does not", plan{
			config: two, Past: [][]op{{{What: add}}}, Steps: once(), Faults: []fault{{Name: "lies in calls", At: 0}},
		}, "consistent consistent"},
		{"the only provider lies in every call", plan{
			config: proven, Past: [][]op{{{What: add}}}, Steps: once(edit{What: flip}), Faults: []fault{{Name: "lies in calls", At: 0}},
		}, "unknown unknown"},
		{"the only provider gives every block another hash, and stands by it", plan{
			config: proven, Past: [][]op{{{What: add}}}, Steps: once(), Faults: []fault{{Name: "lies in block hashes", At: 0}},
		}, "unknown unknown"},
		{"of three providers that are believed, two must agree, and the first lies in every call", plan{
			config: with(two, func(c *config) { c.Verify, c.Providers, c.Agreement = "off", 3, 2 }),
			Past:   [][]op{{{What: add}}}, Steps: once(), Faults: []fault{{Name: "lies in calls", At: 0}},
		}, "unknown unknown"},
		{"the chain changes after an audit without drift, and the API says what it said", plan{
			config: proven,
			Steps:  []step{{Between: change{Still: true}}, {Before: change{Blocks: [][]op{{{What: add}}}, Still: true}, Between: change{Still: true}}},
		}, "drift consistent"},
		{"a change is undone between the passes", plan{
			config: proven,
			Past:   [][]op{nil, {{What: add, ID: 3}}},
			Steps:  []step{{Between: change{Undo: 1, Still: true}}},
		}, "consistent consistent"},
		{"what an event named is taken back between the passes, and is there again without one", plan{
			config: proven,
			Past:   [][]op{{{What: toDoor}}, {{What: add, List: image, ID: 3}}},
			Steps:  []step{{Between: change{Undo: 1, Blocks: [][]op{{{What: sneakIn, List: image, ID: 3}}}, Still: true}}},
		}, "drift consistent"},
		{"the second audit meets an upgrade that moves the lists", plan{
			config: with(proven, func(c *config) { c.Baseline = "none" }),
			Past:   [][]op{{{What: add}}},
			Steps:  []step{{Between: change{Still: true}}, {Before: change{Blocks: [][]op{{{What: toMoved}}}}, Between: change{Still: true}}},
		}, "drift consistent"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			r := b.try(t, row.plan, newTally())
			if got := verdictsOf(r); got != row.want {
				t.Errorf("%s, want %s\n%s", got, row.want, encodeIndent(r))
			}
		})
	}
}

func verdictsOf(r *audit.Report) string {
	var out []string
	for _, t := range r.Chains[0].Targets {
		out = append(out, t.Verdict.String())
	}
	return strings.Join(out, " ")
}
