package render

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// policyKeys are the keys of a policy, in the order in which a snapshot writes them.
var policyKeys = []policyKey{
	listKey(audit.Device),
	listKey(audit.OSImage),
	listKey(audit.AggregatedMR),
	fieldKey("owner", func(p audit.Policy) *common.Address { return p.Owner }, ownerOf),
	fieldKey("implementation", func(p audit.Policy) *common.Address { return p.Implementation }, func(c *audit.Control) PolicyValue { return PolicyValue{Value: c.Implementation} }),
	fieldKey("code_hash", func(p audit.Policy) *common.Hash { return p.CodeHash }, func(c *audit.Control) PolicyValue {
		if runs := c.In(footprint.Implementation); len(runs) == 1 {
			return PolicyValue{Value: runs[0].CodeHash}
		}
		return PolicyValue{}
	}),
	fieldsKey("code_hashes", func(p audit.Policy) []common.Hash { return p.CodeHashes }, func(c *audit.Control) (out []PolicyValue) {
		for _, a := range c.Accounts {
			if c.Complete { // else there may be more
				out = append(out, PolicyValue{a.CodeHash, string(a.Role) + " " + Plain(a.Address)})
			}
		}
		return out
	}),
	fieldsKey("kms_pubkeys", func(p audit.Policy) []literal { return literals(p.KMSPubkeys) }, func(c *audit.Control) (out []PolicyValue) {
		for _, k := range c.KMSPubkeys {
			out = append(out, PolicyValue{Value: k})
		}
		if len(out) != 2 || slices.ContainsFunc(c.KMSPubkeys, notHex) {
			return nil // a configuration cannot have it
		}
		return out
	}),
	fieldKey("gateway_app_id", func(p audit.Policy) *literal {
		if p.GatewayAppID == "" {
			return nil
		}
		return new(literal(p.GatewayAppID))
	}, func(c *audit.Control) PolicyValue {
		if c.GatewayAppID != sanitize.Plain(c.GatewayAppID) {
			return PolicyValue{} // likewise
		}
		return PolicyValue{Value: c.GatewayAppID}
	}),
	fieldKey("app_implementation", func(p audit.Policy) *common.Address { return p.AppImplementation }, func(c *audit.Control) PolicyValue { return PolicyValue{Value: c.AppImplementation} }),
}

// literal is a value that is its own text.
type literal string

func (s literal) String() string { return string(s) }

func literals(all []string) (out []literal) {
	for _, s := range all {
		out = append(out, literal(s))
	}
	return out
}

func notHex(s string) bool {
	_, err := hex.DecodeString(s)
	return err != nil || s == ""
}

// same reports whether two spellings are of one value: hex is compared without prefix and case.
func same(a, b string) bool {
	bare := func(s string) string { return strings.TrimPrefix(strings.ToLower(s), "0x") }
	return bare(a) == bare(b)
}

// policyKey is one key of a contract's policy.
type policyKey struct {
	key    string
	list   bool
	wanted func(audit.Policy) []string       // nil: the policy does not have the key
	is     func(*audit.Target) []PolicyValue // on chain; empty: nothing, or it was not read
	unread func(*audit.Target) int           // how many ids could not be read; nil: it is no list of ids
	whole  func(*audit.Target) bool          // whether the ids are all that the contract allows; nil: likewise
}

// PolicyValue is one value of a key of a policy.
type PolicyValue struct {
	Value  string `json:"value"`
	Remark string `json:"remark,omitempty"` // what the API calls an id, or who is to own the contract next
}

func listKey(l audit.List) policyKey {
	return policyKey{
		key: string(l) + "s", list: true,
		wanted: func(p audit.Policy) []string { return texts(p.List(l)) },
		is: func(t *audit.Target) (out []PolicyValue) {
			for _, e := range t.Entries {
				if e.List == l && e.OnChain == audit.ChainAllowed {
					out = append(out, PolicyValue{e.ID, remark(&e)})
				}
			}
			return out
		},
		whole: func(t *audit.Target) bool {
			return l != audit.AggregatedMR || t.Control != nil && slices.Contains(t.Control.Read, string(l)+"s")
		},
		unread: func(t *audit.Target) (n int) {
			for _, e := range t.Entries {
				if _, err := sanitize.ParseID(e.ID); err == nil && e.List == l && e.OnChain == audit.ChainUnknown {
					n++
				}
			}
			return n
		},
	}
}

// remark is what the API calls an id, or that it does not name it, where it speaks of such ids.
func remark(e *audit.Entry) string {
	if e.Claim == audit.ClaimNone {
		return named(e.Name, e.Version)
	}
	return cmp.Or(named(e.Name, e.Version), "the API does not name it")
}

func ownerOf(c *audit.Control) PolicyValue {
	if c.PendingOwner == "" {
		return PolicyValue{Value: c.Owner}
	}
	return PolicyValue{c.Owner, "a transfer to " + Plain(c.PendingOwner) + " is under way"}
}

// fieldKey is a key of one value, about a field of control.
func fieldKey[T fmt.Stringer](key string, wanted func(audit.Policy) *T, is func(*audit.Control) PolicyValue) policyKey {
	k := fieldsKey(key, func(p audit.Policy) []T {
		if v := wanted(p); v != nil {
			return []T{*v}
		}
		return nil
	}, func(c *audit.Control) []PolicyValue {
		return slices.DeleteFunc([]PolicyValue{is(c)}, func(v PolicyValue) bool { return v.Value == "" })
	})
	k.list = false
	return k
}

// fieldsKey is a key of several values, about a field of control.
func fieldsKey[T fmt.Stringer](key string, wanted func(audit.Policy) []T, is func(*audit.Control) []PolicyValue) policyKey {
	return policyKey{
		key: key, list: true,
		wanted: func(p audit.Policy) []string { return texts(wanted(p)) },
		is: func(t *audit.Target) []PolicyValue {
			if t.Control == nil {
				return nil
			}
			return is(t.Control)
		},
	}
}

// texts spells values; nil stays nil.
func texts[T fmt.Stringer](all []T) (out []string) {
	if all != nil {
		out = []string{}
	}
	for _, v := range all {
		out = append(out, v.String())
	}
	return out
}

// lines are the lines of a policy that give the values of a key, at its indentation.
func (k *policyKey) lines(all []PolicyValue) (out []string) {
	before := k.key + ": "
	if k.list {
		before = "  - "
	}
	for _, v := range all {
		out = append(out, before+scalar(v.Value)+after(" # ", Plain(v.Remark)))
	}
	return out
}

// PolicyDiff is how the configured policies differ from what is on chain. It is what policy diff -o json writes.
type PolicyDiff struct {
	Differs   bool           `json:"differs"`
	Contracts []ContractDiff `json:"contracts"` // all that were asked for, also those that do not differ

	Unread []string `json:"-"` // what could not be compared, in sentences
}

// ContractDiff is how the policy of one contract differs.
type ContractDiff struct {
	Chain    string       `json:"chain"`
	Contract string       `json:"contract"`
	Block    *audit.Block `json:"block"`       // that was read
	Fields   []FieldDiff  `json:"fields"`      // those that differ
	Missing  []string     `json:"not_covered"` // the keys that the policy does not have: they are not compared
	New      bool         `json:"new"`         // it has no policy: all there is on chain is added
}

// FieldDiff is what a policy has that the chain does not, and the other way round.
type FieldDiff struct {
	Key     string        `json:"key"`
	Removed []PolicyValue `json:"removed"` // of the policy, and not on chain
	Added   []PolicyValue `json:"added"`   // on chain, and not of the policy

	of *policyKey
}

// NewPolicyDiff compares the policies of the configuration with what the audit of r read.
func NewPolicyDiff(r *audit.Report, policy func(chain, contract string) audit.Policy) PolicyDiff {
	out := PolicyDiff{Contracts: []ContractDiff{}}
	for i := range r.Chains {
		c := &r.Chains[i]
		targets := asked(c)
		if len(targets) == 0 {
			out.Unread = append(out.Unread, Plain(c.Chain)+": no contract was audited")
		}
		for j := range targets {
			t := &targets[j]
			d := ContractDiff{Chain: c.Chain, Contract: t.Contract, Block: c.Block, Fields: []FieldDiff{}, Missing: []string{}}
			for _, why := range d.compare(t, policy(c.Chain, t.Contract)) {
				out.Unread = append(out.Unread, Plain(c.Chain)+" "+Plain(t.Contract)+": "+why)
			}
			out.Differs = out.Differs || len(d.Fields) > 0
			out.Contracts = append(out.Contracts, d)
		}
	}
	return out
}

// compare fills in what differs, and returns what could not be compared.
func (d *ContractDiff) compare(t *audit.Target, p audit.Policy) (unread []string) {
	d.New = !slices.ContainsFunc(policyKeys, func(k policyKey) bool { return k.wanted(p) != nil })
	if t.Assurance == "" || t.Control == nil {
		return []string{"it could not be read, or is not deployed"}
	}
	for i := range policyKeys {
		k := &policyKeys[i]
		want, is := k.wanted(p), k.is(t)
		if want == nil && !d.New {
			if len(is) > 0 || k.unread != nil {
				d.Missing = append(d.Missing, k.key)
			}
			continue
		}
		if k.unread != nil && (k.unread(t) > 0 || !k.whole(t)) || k.unread == nil && !d.New && len(is) == 0 {
			// A field that is gone is drift, which the audit tells from one that could not be read.
			unread = append(unread, k.key+" could not be read")
			continue
		}
		f := FieldDiff{Key: k.key, Removed: []PolicyValue{}, Added: []PolicyValue{}, of: k}
		for _, v := range want {
			if !slices.ContainsFunc(is, func(on PolicyValue) bool { return same(on.Value, v) }) {
				f.Removed = append(f.Removed, PolicyValue{v, nameOf(t, v)})
			}
		}
		for _, v := range is {
			if !slices.ContainsFunc(want, func(w string) bool { return same(w, v.Value) }) {
				f.Added = append(f.Added, v)
			}
		}
		if len(f.Removed)+len(f.Added) > 0 {
			d.Fields = append(d.Fields, f)
		}
	}
	return unread
}

// nameOf is what the API calls an id; empty: nothing.
func nameOf(t *audit.Target, id string) string {
	if i := slices.IndexFunc(t.Entries, func(e audit.Entry) bool { return e.ID == id }); i >= 0 {
		return named(t.Entries[i].Name, t.Entries[i].Version)
	}
	return ""
}

// WriteText writes the difference as diff -u does, in the lines of a policy: what is - is to go, for the policy to be what is
// on chain. What does not differ has no lines.
func (d PolicyDiff) WriteText(b *bytes.Buffer) {
	for _, c := range d.Contracts {
		if len(c.Missing) > 0 {
			fmt.Fprintf(b, "# %s %s: its policy does not have %s, so nothing was compared with that\n", Plain(c.Chain), Plain(c.Contract), strings.Join(c.Missing, ", "))
		}
		if len(c.Fields) == 0 {
			continue
		}
		c.write(b)
	}
}

// A policy stands as deep as this in the configuration.
const deep = "        "

func (c *ContractDiff) write(b *bytes.Buffer) {
	key, was := " ", "policy"
	if c.New {
		key, was = "+", "no policy"
	}
	fmt.Fprintf(b, "--- %s %s, %s\n+++ %s %s, on chain", Plain(c.Chain), Plain(c.Contract), was, Plain(c.Chain), Plain(c.Contract))
	if c.Block != nil {
		fmt.Fprintf(b, " at block %d", c.Block.Number)
	}
	fmt.Fprintf(b, "\n%s%spolicy:\n", key, deep)
	for _, f := range c.Fields {
		if f.of.list {
			fmt.Fprintf(b, "%s%s  %s:\n", key, deep, f.Key)
		}
		for _, line := range f.of.lines(f.Removed) {
			fmt.Fprintf(b, "-%s  %s\n", deep, line)
		}
		for _, line := range f.of.lines(f.Added) {
			fmt.Fprintf(b, "+%s  %s\n", deep, line)
		}
	}
}
