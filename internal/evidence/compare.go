package evidence

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// key names what is compared: a report, a chain, a contract, an entry or a finding of it.
type key struct {
	chain, contract string
	what            string // entry, finding, or empty
	kind            audit.Kind
	list            audit.List
	id              string
}

func (k key) String() string {
	var words []string
	for _, w := range []string{k.chain, k.contract, k.what, string(k.kind), string(k.list), k.id} {
		if w != "" {
			words = append(words, sanitize.Plain(w))
		}
	}
	return cmp.Or(strings.Join(words, " "), "the report")
}

// facts are the states of what a report names, by key. Keys that name several things, such as images without a hash,
// have all their states, sorted.
type facts struct {
	keys   []key // entries and findings before their contract, that before its chain
	states map[key][]string
}

func (f *facts) add(k key, words ...any) {
	if f.states[k] == nil {
		f.keys = append(f.keys, k)
	}
	f.states[k] = append(f.states[k], strings.TrimSpace(fmt.Sprintln(words...)))
}

// factsOf lists what of a report must be what its evidence gives. Sentences, times, names and counts of what was read are
// not in it: they may be told otherwise by another release.
func factsOf(r *audit.Report) *facts {
	f := &facts{states: map[key][]string{}}
	for _, c := range r.Chains {
		for j := range c.Targets {
			f.target(c.Chain, &c.Targets[j])
		}
		state := []any{c.Verdict, "chain id", c.ChainID, "policy", c.Policy}
		if c.Block != nil {
			state = append(state, "block", c.Block.Number, c.Block.Hash, c.Block.Time)
		}
		if c.Claim != nil {
			state = append(state, "claim", c.Claim.SHA256)
		}
		f.add(key{chain: c.Chain}, state...)
	}
	f.add(key{}, r.Verdict)
	for _, states := range f.states {
		slices.Sort(states)
	}
	return f
}

func (f *facts) target(chain string, t *audit.Target) {
	for _, e := range t.Entries {
		f.add(key{chain, t.Contract, "entry", "", e.List, e.ID}, "claim", e.Claim, "on chain", e.OnChain, "policy", or(e.Policy), e.Verdict, or(e.Kind))
	}
	for _, n := range t.Findings {
		f.add(key{chain, t.Contract, "finding", n.Kind, n.List, n.ID}, n.State)
	}
	for _, v := range audit.EntryVerdicts {
		if n := t.Counts.Of(v); n > 0 {
			f.add(key{chain: chain, contract: t.Contract, what: "count", id: string(v)}, n)
		}
	}
	// Each field that says who controls the contract.
	var fields map[string]any
	if b, err := json.Marshal(t.Control); err == nil {
		_ = json.Unmarshal(b, &fields) // it was just written
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if v := fields[name]; v != nil && v != "" {
			f.add(key{chain: chain, contract: t.Contract, what: "control", id: name}, v)
		}
	}
	f.add(key{chain: chain, contract: t.Contract}, t.Verdict, "assurance", or(t.Assurance), "completeness", t.Completeness)
}

func or[T ~string](s T) T { return cmp.Or(s, "none") }

// compare returns how many keys are the same, and a sentence on each that differs.
func compare(reported, derived *audit.Report) (same int, differences []string) {
	said, gives := factsOf(reported), factsOf(derived)
	for _, k := range said.keys {
		if slices.Equal(said.states[k], gives.states[k]) {
			same++
		} else {
			differences = append(differences, fmt.Sprintf("%s: the report says %s, the evidence gives %s", k, plain(said.states[k]), plain(gives.states[k])))
		}
	}
	for _, k := range gives.keys {
		if said.states[k] == nil && k.what != "control" { // a later release may read more
			differences = append(differences, fmt.Sprintf("%s: the report has none, the evidence gives %s", k, plain(gives.states[k])))
		}
	}
	return same, differences
}

func plain(states []string) string {
	if states == nil {
		return "none"
	}
	return sanitize.Plain(strings.Join(states, "; "))
}
