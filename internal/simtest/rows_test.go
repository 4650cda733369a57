package simtest_test

import (
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// TestRows plays sequences that once showed a bug.
func TestRows(t *testing.T) {
	b := &bench{dir: t.TempDir()}
	t.Cleanup(b.drop)
	one := config{Block: "latest", Verify: "auto", Providers: 1, Agreement: 1, Contracts: 1, Baselines: true}
	with := func(change func(*config)) config { c := one; change(&c); return c }
	two := with(func(c *config) { c.Providers = 2 })
	required := with(func(c *config) { c.Verify = "required" })
	first := func(c *config) { c.Named = "first" }
	form := func(f string) config { return with(func(c *config) { c.Forms = []string{f} }) }
	limit := func(l string) config { return with(func(c *config) { c.Limit = l }) }
	for _, row := range []struct {
		sentence string
		config   config
		audits   []string // what happens before each, separated by semicolons
		want     string   // the verdicts on the first contract
	}{
		{"all is well", one, []string{"", ""}, "consistent consistent"},
		{"an outage of the API resolves nothing", one, []string{"flip", "500", "follow"}, "drift unknown consistent"},
		{"an API that lists nothing resolves nothing", one, []string{"flip", "list nothing", "follow"}, "drift drift consistent"},
		{"an id comes without an event, while the API says what it said", one, []string{"", "sneak in", "restart", "follow"}, "consistent drift drift drift"},
		{"a provider leaves out the logs of an app, and another tells of them", two, []string{"register app;drops logs"}, "consistent"},
		{"a provider lies in every call, and another does not", two, []string{"add;follow;lies in calls"}, "consistent"},
		{"the first provider proves nothing any more, and an app was registered", two, []string{"register app;follow", "", "no proofs;add;follow", "well;restart"}, "consistent consistent consistent consistent"},
		{"the only provider lies in every call", required, []string{"add;follow;lies in calls"}, "unknown"},
		{"the only provider gives every block another hash, and stands by it", required, []string{"lies in hashes"}, "unknown"},
		{"what a proof confirmed is not resolved by a lie without one", one, []string{"add;follow;flip", "no proofs", "lies without proof", "well;restart", "follow"},
			"drift drift drift drift consistent"},
		{"memory is gone, the API is down, and an id is allowed that no event named", with(func(c *config) { first(c); c.Verify = "required" }), []string{"sneak in;follow", "forget;500", "follow"}, "consistent unknown consistent"},
		{"providers disagree while the API lists a stranger", with(func(c *config) { first(c); c.Providers, c.Agreement = 2, 2 }),
			[]string{"", "stranger;lies in hashes", "well;follow"}, "consistent unknown consistent"},
		{"a block is taken back that resolved a finding", one, []string{"flip", "add", "reorganise", "follow"}, "drift consistent drift consistent"},
		{"one more contract writes whenever it is asked", with(func(c *config) { c.Enemy = "writes" }), []string{"", "flip", "follow"}, "consistent drift consistent"},
		{"no API covers the chain, and the policy wants an id that comes and goes", with(func(c *config) { first(c); c.Unclaimed, c.Devices = true, []int{0} }),
			[]string{"", "add", "500;flip", "finalize;down", "well", "remove", "add"}, "drift consistent consistent unknown consistent drift consistent"},
		{"no API covers the chain, and there is no policy", with(func(c *config) { first(c); c.Unclaimed = true }), []string{"", "hand over", "add"}, "unknown drift drift"},
		{"a beacon names other code", form(beacon), []string{"", "swap", "restart", "no proofs", "well;acknowledge"}, "consistent drift drift drift consistent"},
		{"a beacon names other code before anything was proven", form(beacon), []string{"no proofs", "swap", "well;restart"}, "consistent unknown drift"},
		{"a proxy with slots of its own hands calls on to other code", form(slots), []string{"", "swap", "acknowledge"}, "consistent drift consistent"},
		{"one function's code is another", form(dispatch), []string{"", "swap", "acknowledge"}, "consistent drift consistent"},
		{"a library is another", form(library), []string{"add;follow", "swap", "swap 1;acknowledge", "acknowledge"}, "consistent drift drift consistent"},
		{"another contract's list holds an id that nobody names", form(registry), []string{"list elsewhere;follow", "list elsewhere 2", "unlist elsewhere 2", "swap"}, "consistent unknown consistent drift"},
		{"the contract is upgraded from generation to generation", form(testchain.Generations[0]),
			[]string{"add;add measurement;register app;follow", "newer", "newer;acknowledge", "acknowledge", "newer", "newer;acknowledge", "acknowledge", "newer", "acknowledge", "sneak in 2", "acknowledge"},
			"consistent drift drift consistent drift drift consistent drift consistent drift drift"},
		{"what an older generation stored at other places is explained", form(testchain.Generations[1]),
			[]string{"set app code;register app;follow", "newer", "acknowledge", "set app code 1"}, "consistent drift consistent drift"},
		{"an older generation is upgraded that has no apps", form(testchain.Shifted), []string{"", "newer", "acknowledge"}, "consistent drift consistent"},
		{"an upgrade moves the lists", form(testchain.Shifted), []string{"add;follow", "newer", "acknowledge;remove"}, "consistent drift drift"},
		{"an app is registered over and over in one block", limit(wholeReceipts), []string{"flood", "flood;add", "follow", "sneak in 2"}, "consistent drift consistent drift"},
		{"so it is, and receipts come one by one", limit(eachReceipt), []string{"flood", "flood;add", "follow", "sneak in 2"}, "consistent drift consistent drift"},
		{"so it is, and no receipts come at all", limit(noReceipts), []string{"", "flood;add", "follow", "add measurement"}, "consistent drift consistent drift"},
		{"the contract changes hands while the provider proves nothing", one, []string{"", "hand over;no proofs", "500"}, "consistent drift drift"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			p := plan{Config: row.config}
			for _, audit := range row.audits {
				var s step
				for what := range strings.SplitSeq(audit, ";") {
					if what != "" {
						n := 0
						if what == "reorganise" {
							n = 1
						}
						id := 0
						if fields := strings.Fields(what); len(fields) > 1 && len(fields[len(fields)-1]) == 1 {
							id, what = int(what[len(what)-1]-'0'), what[:len(what)-2]
						}
						s.Before = append(s.Before, act{What: what, N: n, ID: id})
					}
				}
				p.Steps = append(p.Steps, s)
			}
			var got []string
			for _, said := range b.try(t, p, newTally()) {
				got = append(got, strings.Fields(said[0])[1])
			}
			if s := strings.Join(got, " "); s != row.want {
				t.Errorf("%s, want %s", s, row.want)
			}
		})
	}
}
