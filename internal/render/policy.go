package render

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// PolicyValue is one value of a key of a policy.
type PolicyValue struct {
	Value  string `json:"value"`
	Remark string `json:"remark,omitempty"` // what the API calls an id, or who is to own the contract next
}

// policyKey is one key of a contract's policy: what the policy has of it, and what is on chain.
type policyKey struct {
	key  string
	list bool
	want []string      // nil: the policy does not have the key
	is   []PolicyValue // empty: nothing, or it was not read

	ids     bool // it is a list of ids that the contract allows
	unread  int  // how many ids could not be read
	partial bool // the contract may allow others
}

// policyKeys are the keys of a contract's policy p, in the order in which a snapshot writes them.
func policyKeys(t *audit.Target, p audit.Policy) (keys []policyKey) {
	for _, l := range audit.Lists {
		keys = append(keys, listKey(t, l, p.List(l)))
	}
	field := func(key, want, is, remark string) {
		k := policyKey{key: key}
		if want != "" {
			k.want = []string{want}
		}
		if is != "" {
			k.is = []PolicyValue{{is, remark}}
		}
		keys = append(keys, k)
	}
	c := cmp.Or(t.Control, &audit.Control{})
	transfer, runs, gateway := "", "", ""
	if c.PendingOwner != "" {
		transfer = "a transfer to " + Plain(c.PendingOwner) + " is under way"
	}
	if all := c.In(footprint.Implementation); len(all) == 1 {
		runs = all[0].CodeHash
	}
	if c.GatewayAppID == sanitize.Plain(c.GatewayAppID) { // else a configuration cannot have it
		gateway = c.GatewayAppID
	}
	codes := policyKey{key: "code_hashes", list: true, want: texts(p.CodeHashes)}
	if c.Complete { // else there may be more
		for _, a := range c.Accounts {
			codes.is = append(codes.is, PolicyValue{a.CodeHash, string(a.Role) + " " + Plain(a.Address)})
		}
	}
	pubkeys := policyKey{key: "kms_pubkeys", list: true, want: append([]string(nil), p.KMSPubkeys...)}
	if len(c.KMSPubkeys) == 2 && !slices.ContainsFunc(c.KMSPubkeys, notHex) { // else a configuration cannot have them
		pubkeys.is = []PolicyValue{{Value: c.KMSPubkeys[0]}, {Value: c.KMSPubkeys[1]}}
	}
	field("owner", textOf(p.Owner), c.Owner, transfer)
	field("implementation", textOf(p.Implementation), c.Implementation, "")
	field("code_hash", textOf(p.CodeHash), runs, "")
	keys = append(keys, codes, pubkeys)
	field("gateway_app_id", p.GatewayAppID, gateway, "")
	field("app_implementation", textOf(p.AppImplementation), c.AppImplementation, "")
	return keys
}

func listKey(t *audit.Target, l audit.List, want []common.Hash) policyKey {
	k := policyKey{key: string(l) + "s", list: true, want: texts(want), ids: true}
	k.partial = l == audit.AggregatedMR && (t.Control == nil || !slices.Contains(t.Control.Read, k.key))
	for _, e := range t.Entries {
		_, malformed := sanitize.ParseID(e.ID)
		switch {
		case e.List != l:
		case e.OnChain == audit.ChainAllowed:
			k.is = append(k.is, PolicyValue{e.ID, remark(&e)})
		case e.OnChain == audit.ChainUnknown && malformed == nil:
			k.unread++
		}
	}
	return k
}

// remark is the API's name of an id. If the API claims something of the list and does not name the id, remark says so.
func remark(e *audit.Entry) string {
	if e.Claim == audit.ClaimNone {
		return named(e.Name, e.Version)
	}
	return cmp.Or(named(e.Name, e.Version), "the API does not name it")
}

func notHex(s string) bool {
	_, err := hex.DecodeString(s)
	return err != nil || s == ""
}

// texts spells values; nil stays nil.
func texts[T fmt.Stringer](all []T) (out []string) {
	if all == nil {
		return nil
	}
	return each(all, T.String)
}

// textOf spells a value; nil is empty.
func textOf[T fmt.Stringer](v *T) string {
	if v == nil {
		return ""
	}
	return (*v).String()
}

// lines are the lines of a policy that give values of a key, at its indentation.
func lines(key string, list bool, all []PolicyValue) []string {
	before := key + ": "
	if list {
		before = "  - "
	}
	return each(all, func(v PolicyValue) string { return before + scalar(v.Value) + after(" # ", Plain(v.Remark)) })
}

// Snapshot writes, for each chain of r, the contracts of a configuration whose policies want what is on chain now:
// to be put under the chain as it is, at its indentation. What is in doubt is a comment that begins with WARNING.
func Snapshot(w io.Writer, r *audit.Report) error {
	var b bytes.Buffer
	for _, c := range r.Chains {
		at := "no block pinned"
		if c.Block != nil {
			at = fmt.Sprintf("%s block %d %s of %s", Plain(c.Policy), c.Block.Number, Plain(c.Block.Hash), when(&c.Block.Time))
		}
		fmt.Fprintf(&b, "# chain %s (%d): %s\n", Plain(c.Chain), c.ChainID, at)
		for j, t := range asked(&c) {
			if j == 0 {
				b.WriteString("    contracts:\n")
			}
			snapshot(&b, &t)
		}
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("writing the policy of report %s: %w", r.AuditID, err)
	}
	return nil
}

// Doubts lists what a snapshot of r lacks, and what in it is not proven.
func Doubts(r *audit.Report) []string {
	var out []string
	for _, c := range r.Chains {
		before, targets := len(out), asked(&c)
		for _, t := range targets {
			for _, d := range doubts(&t) {
				out = append(out, Plain(c.Chain)+" "+Plain(t.Contract)+": "+d)
			}
		}
		if len(targets) == 0 {
			out = append(out, Plain(c.Chain)+": no contract was audited")
		}
		for _, e := range c.Errors {
			if len(out) > before { // else it did not matter
				out = append(out, Plain(c.Chain)+": "+Plain(e.Source)+": "+Plain(e.Message))
			}
		}
	}
	if len(r.Chains) == 0 {
		out = append(out, "nothing was audited")
	}
	return out
}

// asked returns the contracts of a chain, but for those that only the API lists and the operator did not ask for.
func asked(c *audit.Chain) []audit.Target {
	return slices.DeleteFunc(slices.Clone(c.Targets), func(t audit.Target) bool {
		return slices.ContainsFunc(t.Findings, func(f audit.Finding) bool { return f.Kind == audit.ContractUnexpected })
	})
}

func doubts(t *audit.Target) []string {
	var out []string
	if t.Completeness != audit.Complete {
		out = append(out, fmt.Sprintf("completeness is %s, not proven: %s", t.Completeness, remarks[t.Completeness]))
	}
	unread := 0
	for _, k := range policyKeys(t, audit.Policy{}) {
		unread += k.unread
	}
	if unread > 0 {
		out = append(out, plural(unread, "id")+" could not be read")
	}
	if t.Assurance != audit.Proven && (t.Assurance != "" || t.Completeness != audit.Complete) {
		out = append(out, "assurance is "+cmp.Or(string(t.Assurance), "none")+", not proven")
	}
	if t.Control == nil {
		out = append(out, "who controls it was not read")
	} else if !slices.Contains(t.Control.Read, "aggregated_mrs") {
		out = append(out, "its aggregated measurements were not read")
	}
	return out
}

func snapshot(b *bytes.Buffer, t *audit.Target) {
	line := func(format string, args ...any) { fmt.Fprintf(b, "      "+format+"\n", args...) }
	line("# %s, completeness %s", assurance(t), t.Completeness)
	for _, d := range doubts(t) {
		line("# WARNING: %s", d)
	}
	line("- address: %s", scalar(t.Contract))
	line("  policy:")
	for _, k := range policyKeys(t, audit.Policy{}) {
		switch {
		case k.partial, !k.ids && len(k.is) == 0:
			continue // an empty list would want none
		case k.list && len(k.is) == 0:
			line("    %s: []", k.key)
		case k.list:
			line("    %s:", k.key)
		}
		for _, l := range lines(k.key, k.list, k.is) {
			line("    %s", l)
		}
	}
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

	list bool
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
	keys := policyKeys(t, p)
	d.New = !slices.ContainsFunc(keys, func(k policyKey) bool { return k.want != nil })
	if t.Assurance == "" || t.Control == nil {
		return []string{"it could not be read, or is not deployed"}
	}
	for _, k := range keys {
		if k.want == nil && !d.New {
			if len(k.is) > 0 || k.ids {
				d.Missing = append(d.Missing, k.key)
			}
			continue
		}
		if k.unread > 0 || k.partial || !k.ids && !d.New && len(k.is) == 0 {
			// A field that is gone is drift, which the audit tells from one that could not be read.
			unread = append(unread, k.key+" could not be read")
			continue
		}
		f := FieldDiff{Key: k.key, Removed: []PolicyValue{}, Added: []PolicyValue{}, list: k.list}
		for _, v := range k.want {
			if !slices.ContainsFunc(k.is, func(on PolicyValue) bool { return same(on.Value, v) }) {
				f.Removed = append(f.Removed, PolicyValue{v, nameOf(t, v)})
			}
		}
		for _, v := range k.is {
			if !slices.ContainsFunc(k.want, func(w string) bool { return same(w, v.Value) }) {
				f.Added = append(f.Added, v)
			}
		}
		if len(f.Removed)+len(f.Added) > 0 {
			d.Fields = append(d.Fields, f)
		}
	}
	return unread
}

// same reports whether two spellings are of one value.
func same(a, b string) bool { return sanitize.BareHex(a) == sanitize.BareHex(b) }

// nameOf is what the API calls an id; empty: nothing.
func nameOf(t *audit.Target, id string) string {
	if i := slices.IndexFunc(t.Entries, func(e audit.Entry) bool { return e.ID == id }); i >= 0 {
		return named(t.Entries[i].Name, t.Entries[i].Version)
	}
	return ""
}

// WriteText writes the difference as diff -u does, in the lines of a policy: what is - is to go, for the policy to be what is
// on chain. What does not differ has no lines.
func (d PolicyDiff) WriteText(b *bytes.Buffer, opt TextOptions) {
	for _, c := range d.Contracts {
		if len(c.Missing) > 0 {
			fmt.Fprintf(b, "# %s %s: its policy does not have %s, so nothing was compared with that\n", Plain(c.Chain), Plain(c.Contract), strings.Join(c.Missing, ", "))
		}
		if len(c.Fields) > 0 {
			c.write(b)
		}
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
		if f.list {
			fmt.Fprintf(b, "%s%s  %s:\n", key, deep, f.Key)
		}
		for _, line := range lines(f.Key, f.list, f.Removed) {
			fmt.Fprintf(b, "-%s  %s\n", deep, line)
		}
		for _, line := range lines(f.Key, f.list, f.Added) {
			fmt.Fprintf(b, "+%s  %s\n", deep, line)
		}
	}
}
