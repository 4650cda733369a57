package matrix_test

import (
	"maps"
	"math/bits"
	"slices"

	"pgregory.net/rapid"

	"github.com/kms-auditor/kms-auditor/internal/faults"
)

// drawer draws parts of a plan. Shrinking leads to what is simple: false, the first of a choice, the shorter list.
type drawer struct{ *rapid.T }

func (d drawer) chance(what string, percent int) bool {
	return rapid.IntRange(0, 99).Draw(d.T, what) >= 100-percent
}

func (d drawer) upTo(what string, most int) int { return rapid.IntRange(0, most).Draw(d.T, what) }

// one draws evenly, where rapid's own choice prefers the first.
func (d drawer) one(what string, of ...string) string {
	i := 0
	for range bits.Len(uint(len(of))) + 2 {
		i *= 2
		if rapid.Bool().Draw(d.T, what) {
			i++
		}
	}
	return of[i%len(of)]
}

// some draws a list.
func some[T any](d drawer, what string, most int, draw func() T) []T {
	var out []T
	for range d.upTo(what, most) {
		out = append(out, draw())
	}
	return out
}

func (d drawer) op() op {
	what := d.one("op", add, add, add, remove, remove, sneakIn, sneakOut, app, mr, info, toDoor, toDoor, toMoved, toPlain, handOver)
	return op{what, d.upTo("contract", contracts-1), d.upTo("list", 1), d.upTo("id", ids-1)}
}

func (d drawer) block() []op { return some(d, "ops", 4, d.op) }

func (d drawer) edit() edit {
	what := d.one("edit", flip, flip, flip, null, drop, twice, contradict, malformed, noHash, unlist, split, elsewhere, stranger, abroad, hush)
	return edit{what, d.upTo("contract", contracts-1), d.upTo("list", 1), d.upTo("id", listed-1)}
}

func (d drawer) edits() []edit {
	if !d.chance("the API differs", 60) {
		return nil
	}
	return some(d, "edits", 3, d.edit)
}

func (d drawer) change(undo int) change {
	c := change{Undo: d.upTo("undo", undo)}
	c.Blocks = some(d, "blocks", 2, d.block)
	if c.Still = d.chance("the API stands still", 50); !c.Still {
		c.Edits = d.edits()
	}
	return c
}

func (d drawer) plan() plan {
	p := plan{config: d.config(), Past: some(d, "past", 3, d.block)}
	p.Steps = append(p.Steps, step{Before: change{Edits: d.edits()}})
	if d.chance("a second audit", 50) {
		p.Steps = append(p.Steps, step{Before: d.change(0)})
	}
	for i := range p.Steps {
		if d.chance("something happens between the passes", 40) {
			p.Steps[i].Between = d.change(2)
		} else {
			p.Steps[i].Between.Still = true
		}
	}
	if n := d.upTo("faults", 4); n > 0 {
		for range n - n/4 {
			p.Faults = append(p.Faults, d.fault(p.Providers))
		}
	}
	p.Faults = believable(p)
	return p
}

func (d drawer) config() config {
	c := config{
		Block:     d.one("block", "latest", "latest-1", "latest-2", "safe", "finalized", "latest-1 latest"),
		Verify:    d.one("verify", "auto", "required", "off"),
		Providers: 1 + min(d.upTo("providers", 5), 5)%3,
		Agreement: 1,
		Pending:   d.chance("pending", 50),
		Named:     d.one("configured", "", "all", "first", "more"),
		Baseline:  d.one("baseline", "", "none", "as is", "other owner", "other implementation"),
		Cross:     d.chance("cross checks", 25),
		Eager:     d.chance("eager", 25),
	}
	if c.Providers > 1 && d.chance("agreement", 25) {
		c.Agreement = 2
	}
	if d.chance("policy", 30) {
		number := func() int { return d.upTo("wanted", ids-1) }
		if c.Devices = append([]int{}, some(d, "devices", 3, number)...); d.chance("of images too", 50) {
			c.Images = append([]int{}, some(d, "images", 3, number)...)
		}
		c.Owner, c.Impl = d.one("owner", "", "owner", "stranger"), d.one("implementation", "", toPlain, toDoor)
	}
	if d.chance("accepted differences", 30) {
		c.Accepts = some(d, "accepts", 3, d.accept)
	}
	return c
}

func (d drawer) accept() accept {
	kind := d.one("accepted", "claim_allowed_chain_denied", "claim_denied_chain_allowed", "unlisted_chain_allowed", "claim_unknown",
		"duplicate_conflict", "policy_denied_chain_allowed", "policy_allowed_chain_denied", "owner_changed", "implementation_changed", "storage_unaccounted")
	a := accept{kind, d.upTo("contract", contracts-1), d.upTo("list", 1), d.upTo("id", ids-1), d.chance("expired", 25)}
	if slices.Contains([]string{"owner_changed", "implementation_changed", "storage_unaccounted"}, kind) {
		a.ID = -1
	}
	return a
}

// lies are the faults that have to be found out.
var lies = offered(func(d dish) bool { return d.lie })

// forNodes and forAPI are what the menu has for each side.
var forNodes, forAPI = offered(func(d dish) bool { return d.api == nil }), offered(func(d dish) bool { return d.api != nil || d.wire != nil })

func offered(fits func(dish) bool) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(menu)) {
		if fits(menu[name]) {
			out = append(out, name)
		}
	}
	return out
}

func (d drawer) fault(providers int) fault {
	f := fault{At: api, Seed: rapid.Uint64Range(0, 1<<16).Draw(d.T, "seed")}
	if d.chance("of a provider", 80) {
		f.At = d.upTo("provider", providers-1)
		if f.Name = d.one("fault", forNodes...); d.chance("a lie", 25) {
			f.Name = d.one("lie", lies...)
		}
		f.When = faults.When{From: d.upTo("from", 12), Count: rapid.SampledFrom([]int{0, 0, 1, 2, 4}).Draw(d.T, "count"), Every: d.upTo("every", 3)}
	} else {
		f.Name = d.one("fault", forAPI...)
		f.When = faults.When{From: d.upTo("from", 3), Count: rapid.SampledFrom([]int{1, 1, 2, 0}).Draw(d.T, "count"), Every: d.upTo("every", 2)}
	}
	if menu[f.Name].whole {
		f.When = faults.When{}
	}
	return f
}

// believable leaves out the lies that an auditor believes by design. A lie is found out by a proof, or by another
// provider that has to agree. So there must be one of the two, at most one liar, and where proofs are not required, the
// liar must not at the same time be unable to prove: then it is believed as any provider is that cannot. One that gives
// its block another hash is such a one: the header of a fork that is not known yet would look the same. One that leaves
// logs out is found out by the proof of the storage, and needs an honest one beside it to tell what is missing.
func believable(p plan) []fault {
	var out []fault
	liar := -2
	for _, f := range p.Faults {
		if !menu[f.Name].lie {
			out = append(out, f)
			continue
		}
		if liar != -2 && liar != f.At {
			continue
		}
		alone, others := true, true
		for _, o := range p.Faults {
			alone = alone && (o == f || o.At != f.At)
			others = others && (o.At == f.At || o.At == api)
		}
		proven := p.Verify == "required" || p.Verify == "auto" && alone
		switch {
		case f.Name == "dropped logs":
			if p.Verify == "off" || !alone || !others || p.Providers < 2 {
				continue
			}
		case f.Name == "lies in block hashes" && p.Verify != "required" && p.Agreement < 2, !proven && p.Agreement < 2:
			continue
		}
		liar = f.At
		out = append(out, f)
	}
	return out
}
