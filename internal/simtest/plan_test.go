package simtest_test

import (
	"math/bits"
	"slices"

	"pgregory.net/rapid"

	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// The size of a world. The API lists the first ids of each list; the others are known on chain only.
const (
	ids    = 3
	listed = 2
)

// The lists.
const (
	device = iota
	image
)

// plan is a sequence of audits of one world. It is deterministic and can be replayed.
type plan struct {
	Config config
	Steps  []step
}

// step is one audit: the acts before it, and those between its two looks.
type step struct {
	Before  []act `json:",omitempty"`
	Between []act `json:",omitempty"`
}

// act is one thing that happens. N is a contract, a provider or a number of blocks. At a provider, ID selects the requests.
type act struct {
	What     string
	N        int `json:",omitempty"`
	List, ID int `json:",omitempty"`
}

// config is the operator's configuration and the world to audit.
type config struct {
	Block                           string // tags, separated by a space
	Verify                          string
	Providers, Agreement, Contracts int
	Enemy                           string   `json:",omitempty"` // behaviour of an additional hostile contract
	Named                           string   `json:",omitempty"` // the contracts that are configured: "", "all", "first"
	Young, Pending, Baselines       bool     `json:",omitempty"`
	Unclaimed                       bool     `json:",omitempty"` // no API covers the chain
	Forms                           []string `json:",omitempty"` // of the contracts; by default an ERC-1967 proxy
	Limit                           string   `json:",omitempty"` // of logs, at every provider
	Devices, Images                 []int    // policy of the first contract; nil if not in the policy
	Owner, Runs                     string   `json:",omitempty"` // policy of the first contract
	Accepts                         []accept `json:",omitempty"`
	Anchor                          string   `json:",omitempty"` // "", "optional", "required", "l1"
}

// accept is a difference that the operator accepts. ID is negative for the contract as a whole.
type accept struct {
	Kind        string
	N, List, ID int
	Expired     bool
}

// What happens on chain, besides upgrades to testchain's implementations.
var onChain = []string{
	"add", "add", "add", "remove", "remove", "sneak in", "sneak in", "sneak out", "register app", "add measurement", "set info", "set app code", "hand over",
	testchain.Plain, testchain.Moved, "block", "finalize", "reorganise", "acknowledge",
}

// What happens at the API. The first two end faults.
var atAPI = []string{
	"follow", "follow", "flip", "flip", "flip", "null", "drop", "list twice", "contradict", "malformed", "no hash", "drop contract", "split rows", "row elsewhere",
	"stranger", "elsewhere", "list nothing", "alternate", "500", "403", "null body", "wrong types", "500 once", "half an answer", "reset",
}

// What happens at a provider. The first ends a fault.
var atProvider = []string{
	"well", "down", "no proofs", "no logs", "proves one contract", "pruned", "lags", "goes back", "ignores hashes", "refuses hashes", "wrong ids", "short batch", "null results",
	"other chain", "lies in calls", "lies in storage", "lies in proofs", "lies in code", "lies in hashes", "drops logs", "invents logs", "lies without proof",
	"late", "resets", "breaks off", "truncated", "corrupt", "web page", "invents",
}

// drawer draws parts of a plan. Values shrink to false, the first of a choice and a shorter list.
type drawer struct{ *rapid.T }

// upTo draws uniformly; rapid's own ranges prefer small numbers.
func (d drawer) upTo(what string, most int) int {
	n := 0
	for range bits.Len(uint(most)) + 3 {
		n *= 2
		if rapid.Bool().Draw(d.T, what) {
			n++
		}
	}
	return n % (most + 1)
}

func (d drawer) chance(what string, percent int) bool { return d.upTo(what, 99) >= 100-percent }

func (d drawer) one(what string, of ...string) string { return of[d.upTo(what, len(of)-1)] }

// some draws a list.
func some[T any](d drawer, what string, most int, draw func() T) []T {
	var out []T
	for range d.upTo(what, most) {
		out = append(out, draw())
	}
	return out
}

func (d drawer) plan() plan {
	p := plan{Config: d.config()}
	faults := d.chance("faults", 60)
	act := func() act { return d.act(&p.Config, faults) }
	audits := 4 + d.upTo("audits", 8)
	if p.Config.Enemy == "never ends" { // which takes seconds of each audit
		audits = 2
	}
	for range audits {
		s := step{Before: some(d, "before", 3, act)}
		if d.chance("follow", 40) { // the API follows the chain, and nothing is wrong with it
			s.Before = append(s.Before, heal...)
		}
		if p.Config.Enemy == "" && d.chance("between", 25) {
			s.Between = some(d, "between", 2, act)
		}
		p.Steps = append(p.Steps, s)
	}
	return p
}

var heal = []act{{What: "well"}, {What: "well", N: 1}, {What: "follow"}, {What: "beacon well"}, {What: "beacon well", N: 1}, {What: "L1 well"}, {What: "propose"}}

func (d drawer) act(c *config, faults bool) act {
	a := act{N: d.upTo("contract", c.Contracts-1), List: d.upTo("list", 1)}
	if c.Anchor == "l1" && d.chance("on L1", 50) {
		a.What, a.ID = d.one("L1", onL1...), d.upTo("game", 3)
	} else if c.Anchor != "" && faults && d.chance("lie", 40) {
		a = act{What: d.one("liar", "invents", "beacon down", "beacon lies", "invents", "beacon stale", "beacon well"), N: d.upTo("provider", c.Providers-1)}
	}
	switch where := d.upTo("where", 9); {
	case a.What != "":
	case where >= 7 && faults:
		a.What, a.N, a.List = d.one("provider", atProvider...), d.upTo("provider", c.Providers-1), 0
		if d.chance("not always", 30) && !slices.Contains([]string{"ignores hashes", "lies without proof"}, a.What) {
			a.ID = 1 + d.upTo("when", 1)
		}
		if a.What == "proves one contract" {
			a.List = d.upTo("contract", c.Contracts-1)
		}
	case where >= 5:
		if a.What = d.one("API", atAPI...); !faults && slices.Contains(failing, a.What) {
			a.What = "flip"
		}
		a.ID = d.upTo("id", listed-1)
	case where == 4 && d.chance("restart", 50):
		a = act{What: "restart"}
		if d.chance("forget", 20) {
			a.What = "forget"
		}
	default:
		a.What = d.one("chain", onChain...)
		form := c.form(a.N)
		if upgrades := a.What == testchain.Plain || a.What == testchain.Moved; form != "" && (upgrades && (form == library || form == registry) || d.chance("of its form", 50)) {
			a.What = d.one("of its form is", own(form)...)
		} else if c.Limit != "" && d.chance("flood", 25) {
			a.What = "flood"
		}
		if a.What == "reorganise" {
			a.N = 1 + d.upTo("blocks", 2)
		}
		if a.ID = d.upTo("id", ids-1); a.What == "list elsewhere" && d.chance("unlisted", 50) {
			a.ID = listed
		}
	}
	if a.What == "invents" || a.What == "beacon lies" {
		a.List, a.ID = d.upTo("how", 5), d.upTo("how long", 2)
	}
	return a
}

func (d drawer) config() config {
	c := config{
		Block:     d.one("block", "latest", "latest-2", "finalized", "latest", "latest-1", "safe", "latest-2 latest", "finalized latest"),
		Verify:    d.one("verify", "auto", "required", "auto", "off"),
		Providers: 1 + d.upTo("providers", 1), Agreement: 1, Contracts: 1 + d.upTo("contracts", 1),
		Named: d.one("configured", "", "all", "", "first"),
		Young: d.chance("young", 10), Pending: d.chance("pending", 50), Baselines: d.chance("baselines", 75),
	}
	if c.Providers > 1 && d.chance("agreement", 33) {
		c.Agreement = 2
	}
	if d.chance("enemy", 20) {
		c.Enemy = d.one("enemy is", "asks the block", "returns rubbish", "writes", "logs")
	}
	if d.upTo("the enemy never ends", 199) == 199 { // which takes a minute with the race detector
		c.Enemy = "never ends"
	}
	if c.Named != "" && d.chance("policy", 50) {
		number := func() int { return d.upTo("wanted", ids-1) }
		if c.Devices = append([]int{}, some(d, "devices", 3, number)...); d.chance("of images too", 50) {
			c.Images = append([]int{}, some(d, "images", 3, number)...)
		}
		c.Owner, c.Runs = d.one("owner", "", "owner", "stranger"), d.one("runs", "", testchain.Plain, testchain.Backdoor)
	}
	if d.chance("accepted differences", 25) {
		c.Accepts = some(d, "accepts", 3, func() accept { return d.accept(c.Contracts) })
	}
	c.Unclaimed = c.Named != "" && d.chance("no claims", 25)
	if d.chance("forms", 50) {
		for range c.Contracts {
			c.Forms = append(c.Forms, d.form())
		}
	}
	if d.chance("few logs", 20) {
		c.Limit = d.one("of a block with more", wholeReceipts, eachReceipt, noReceipts)
	}
	if d.chance("anchor", 25) {
		c.Anchor, c.Enemy = d.one("anchor is", "optional", "required", "l1"), ""
		if d.chance("of what is final", 50) {
			c.Block = "finalized"
		} else if c.Block == "latest" { // which nobody signs, so that no configuration has it
			c.Block = "latest-2"
		}
	}
	return c
}

func (d drawer) accept(contracts int) accept {
	kind := d.one("accepted", "claim_allowed_chain_denied", "claim_denied_chain_allowed", "unlisted_chain_allowed", "claim_unknown", "duplicate_conflict",
		"policy_denied_chain_allowed", "policy_allowed_chain_denied", "owner_changed", "implementation_changed", "storage_unaccounted", "code_changed")
	a := accept{kind, d.upTo("contract", contracts-1), d.upTo("list", 1), d.upTo("id", ids-1), d.chance("expired", 25)}
	if slices.Contains([]string{"owner_changed", "implementation_changed", "storage_unaccounted", "code_changed"}, kind) {
		a.List, a.ID = 0, -1
	}
	return a
}
