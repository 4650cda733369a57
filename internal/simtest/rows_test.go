package simtest_test

import (
	"strings"
	"testing"
)

// TestRows plays sequences that taught something.
func TestRows(t *testing.T) {
	b := &bench{dir: t.TempDir()}
	t.Cleanup(b.drop)
	one := config{Block: "latest", Verify: "auto", Providers: 1, Agreement: 1, Contracts: 1, Baselines: true}
	with := func(change func(*config)) config { c := one; change(&c); return c }
	two := with(func(c *config) { c.Providers = 2 })
	required := with(func(c *config) { c.Verify = "required" })
	first := func(c *config) { c.Named = "first" }
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
						s.Before = append(s.Before, act{What: what, N: n})
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
