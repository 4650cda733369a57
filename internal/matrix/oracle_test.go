package matrix_test

import (
	"slices"

	"github.com/ethereum/go-ethereum/common"
)

// The verdicts, as the oracle spells them.
const (
	consistent = "consistent"
	drift      = "drift"
	unknown    = "unknown"
)

// makes is what a finding makes of its target, by the documentation; those that are missing make nothing.
var makes = map[string]string{
	"claim_allowed_chain_denied": drift, "claim_denied_chain_allowed": drift, "unlisted_chain_allowed": drift, "claim_unknown": unknown,
	"malformed_id": unknown, "duplicate_conflict": drift, "contract_not_listed": drift, "contract_unexpected": drift, "no_code": drift,
	"chain_mismatch": unknown, "provider_disagreement": unknown, "proof_invalid": unknown, "getter_disagrees_with_proof": unknown,
	"storage_unaccounted": drift, "owner_changed": drift, "implementation_changed": drift, "code_changed": drift,
	"kms_pubkey_mismatch": drift, "kms_contract_mismatch": drift, "policy_denied_chain_allowed": drift, "policy_allowed_chain_denied": drift,
}

// world is all that a verdict rests on, as it really is.
type world struct {
	config
	at       [contracts]common.Address
	claim    said
	is       snapshot // at the pinned block
	events   bool     // what events name is looked for
	storage  bool     // what nothing names is, too
	baseline map[common.Address]control
	hushed   map[common.Address]bool
}

type control struct{ owner, impl string }

// truth is what must be said of a target.
type truth struct {
	entries  []judged
	findings []finding // of the contract as a whole, and those that make nothing of an entry
	held     bool      // something keeps it from being consistent, that is no finding
}

// finding is what, and of which entry.
type finding struct {
	Kind, List, ID string
}

// judged is an entry: what is wrong with it, and what is left of that.
type judged struct {
	list, id int
	kinds    []string // all that is wrong
	open     []string // what of it nobody lives with
	pending  bool
	held     bool // it cannot be judged
	compared bool // both sides are known
}

// targets lists the contracts that a report must tell of.
func (w world) targets() []common.Address {
	var out []common.Address
	add := func(a common.Address) {
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	for _, a := range w.configured() {
		add(a)
	}
	for _, r := range w.claim.rows {
		add(r.contract)
	}
	if w.Cross && w.claim.chain == chainID {
		for _, a := range w.onList() {
			add(a)
		}
	}
	return out
}

func (c config) namedOf(at [contracts]common.Address) []common.Address {
	switch c.Named {
	case "first":
		return at[:1]
	case "all":
		return at[:]
	case "more":
		return append(at[:], common.Address{0xdd})
	}
	return nil
}

func (w world) configured() []common.Address { return w.namedOf(w.at) }

// onList is which contracts the API's list of KMS names.
func (w world) onList() []common.Address {
	var out []common.Address
	for _, a := range w.at {
		if !w.hushed[a] {
			out = append(out, a)
		}
	}
	return out
}

// remembering is the world of an auditor that still knows what events named in blocks that were taken back. It sees by name
// what is there without an event, where another sees only that something is.
func (w world) remembering(blocks []sighting) world {
	for _, b := range blocks {
		for n := range w.is {
			for list := range 2 {
				for id := range ids {
					w.is[n].named[list][id] = w.is[n].named[list][id] || b.snapshot[n].named[list][id]
				}
			}
		}
	}
	return w
}

// judge tells the truth about one target.
func (w world) judge(at common.Address) truth {
	var t truth
	say := func(kind string) { t.findings = append(t.findings, finding{Kind: kind}) }
	var rows []saidRow
	elsewhere := w.claim.chain != chainID // the whole answer
	foreign := elsewhere
	for _, r := range w.claim.rows {
		if r.contract == at {
			rows = append(rows, r)
			foreign = foreign || r.chain != chainID
		}
	}
	listed, mine := len(rows) > 0, len(w.configured()) == 0 || slices.Contains(w.configured(), at)
	switch {
	case !listed && !mine || !listed && len(w.configured()) == 0: // only the list of KMS names it
		t.held = true
	case !mine && !elsewhere:
		say("contract_unexpected")
	case !mine:
		say("chain_mismatch")
	case foreign:
		say("chain_mismatch")
		t.odd(rows)
	case !listed:
		say("contract_not_listed")
	default:
		w.compare(&t, at, rows)
	}
	if w.Cross && !elsewhere && !(listed && foreign) && listed != slices.Contains(w.onList(), at) {
		say("kms_contract_mismatch")
	}
	w.accept(&t, at)
	return t
}

// compare holds the rows of a contract against the chain.
func (w world) compare(t *truth, at common.Address, rows []saidRow) {
	n := slices.Index(w.at[:], at)
	var is state
	if n >= 0 {
		is = w.is[n]
	}
	if !is.code {
		t.findings = append(t.findings, finding{Kind: "no_code"})
	}
	claims := t.odd(rows)
	wanted := w.wants(n)
	for list := range 2 {
		for id := range ids + 1 {
			asked := len(claims[list][id]) > 0 || slices.Contains(wanted[list], id) || w.events && id < ids && is.named[list][id]
			if !asked || !is.code && len(claims[list][id]) == 0 {
				continue
			}
			j := w.entry(claims[list][id], is, wanted, list, id)
			if len(claims[list][id]) > 0 || len(j.kinds) > 0 || slices.Contains(wanted[list], id) {
				t.entries = append(t.entries, j)
			}
		}
	}
	if !is.code {
		return
	}
	if w.storage && w.leftover(is, claims, wanted) {
		t.findings = append(t.findings, finding{Kind: "storage_unaccounted"})
		// Who lives with it may, but it is not proven that there is nothing else.
		t.held = t.held || w.Verify == "required"
	}
	w.controlled(t, at, n, is)
}

// odd tells of rows that have no id, or none that is one, and returns what the others say, by list and id.
func (t *truth) odd(rows []saidRow) (claims [2][ids + 1][]string) {
	for _, r := range rows {
		for _, e := range r.entries {
			id := e.number()
			switch {
			case e.id == "" && e.list == image:
				t.findings = append(t.findings, finding{"no_hash", listNames[e.list], ""})
				t.held = t.held || e.allowed != "null"
			case id < 0:
				t.findings = append(t.findings, finding{"malformed_id", listNames[e.list], "malformed"})
			default:
				claims[e.list][id] = append(claims[e.list][id], e.allowed)
			}
		}
	}
	return claims
}

// wants is what the policy wants of a contract; a list that is nil says nothing.
func (w world) wants(n int) [2][]int {
	if n != 0 {
		return [2][]int{}
	}
	return [2][]int{w.Devices, w.Images}
}

func (w world) entry(claims []string, is state, wanted [2][]int, list, id int) judged {
	j := judged{list: list, id: id}
	conflict := len(slices.Compact(slices.Sorted(slices.Values(claims)))) > 1
	if conflict {
		j.kinds = append(j.kinds, "duplicate_conflict")
	}
	if !is.code {
		j.held = !conflict
		return j
	}
	allowed := id < ids && is.allows(list, id)
	j.compared = !conflict && (len(claims) == 0 || claims[0] != "null")
	switch {
	case conflict:
	case len(claims) == 0 && allowed:
		j.kinds = append(j.kinds, "unlisted_chain_allowed")
	case len(claims) == 0:
	case claims[0] == "null":
		j.kinds = append(j.kinds, "claim_unknown")
	case claims[0] == "true" && !allowed:
		j.kinds = append(j.kinds, "claim_allowed_chain_denied")
	case claims[0] == "false" && allowed:
		j.kinds = append(j.kinds, "claim_denied_chain_allowed")
	}
	switch want := slices.Contains(wanted[list], id); {
	case wanted[list] == nil:
	case want && !allowed:
		j.kinds = append(j.kinds, "policy_allowed_chain_denied")
	case !want && allowed:
		j.kinds = append(j.kinds, "policy_denied_chain_allowed")
	}
	return j
}

// leftover tells whether the contract stores what nobody can name.
func (w world) leftover(is state, claims [2][ids + 1][]string, wanted [2][]int) bool {
	for list := range 2 {
		for id := range ids {
			known := is.named[list][id] || len(claims[list][id]) > 0 || slices.Contains(wanted[list], id)
			if is.idle()[list][id] || is.active()[list][id] && !known {
				return true
			}
		}
	}
	return false
}

// controlled holds owner and implementation against policy and baseline.
func (w world) controlled(t *truth, at common.Address, n int, is state) {
	was, known := w.baseline[at]
	for _, c := range []struct{ kind, is, want, was string }{
		{"owner_changed", is.owner, w.Owner, was.owner},
		{"implementation_changed", is.impl, w.Impl, was.impl},
	} {
		if n != 0 {
			c.want = ""
		}
		if c.want != "" && c.is != c.want || c.want == "" && known && c.is != c.was {
			t.findings = append(t.findings, finding{Kind: c.kind})
		}
	}
}
