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
	Remark string `json:"remark,omitempty"` // the API's name of an id, or the pending owner
}

// policyKey is one key of a contract's policy, with its values in the policy and on chain.
type policyKey struct {
	key  string
	list bool
	want []string      // nil: the policy does not have the key
	is   []PolicyValue // empty if the value is unset or was not read

	ids     bool // a list of allowed ids
	unread  int  // how many ids could not be read
	partial bool // the list on chain may be incomplete
}

// policyKeys returns the keys of a contract's policy p, in the order of a snapshot.
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

// remark is the API's name of an id, or says that the API does not name it.
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

// texts formats values; nil stays nil.
func texts[T fmt.Stringer](all []T) (out []string) {
	if all == nil {
		return nil
	}
	return each(all, T.String)
}

// textOf formats a value; nil is "".
func textOf[T fmt.Stringer](v *T) string {
	if v == nil {
		return ""
	}
	return (*v).String()
}

// lines returns the lines of a policy for the values of a key, at the key's indentation.
func lines(key string, list bool, all []PolicyValue) []string {
	before := key + ": "
	if list {
		before = "  - "
	}
	return each(all, func(v PolicyValue) string { return before + scalar(v.Value) + after(" # ", Plain(v.Remark)) })
}

// Snapshot writes, for each chain of r, contracts with policies that match the chain, as YAML to paste under the chain in a
// configuration. Comments that begin with WARNING say what is in doubt.
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

// Doubts lists the parts of a snapshot of r that are missing or not proven.
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
			if len(out) > before { // otherwise the failure did not matter
				out = append(out, Plain(c.Chain)+": "+Plain(e.Source)+": "+Plain(e.Message))
			}
		}
	}
	if len(r.Chains) == 0 {
		out = append(out, "nothing was audited")
	}
	return out
}

// asked returns the contracts of a chain without those that the operator did not configure (contract_unexpected).
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
			continue // an empty list would refuse all
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

// PolicyDiff is the difference between the configured policies and the chain. policy diff -o json writes it.
type PolicyDiff struct {
	Differs   bool           `json:"differs"`
	Contracts []ContractDiff `json:"contracts"` // those without a difference too

	Unread []string `json:"-"` // what could not be compared, in sentences
}

// ContractDiff is the difference of one contract.
type ContractDiff struct {
	Chain    string       `json:"chain"`
	Contract string       `json:"contract"`
	Block    *audit.Block `json:"block"`       // that was read
	Fields   []FieldDiff  `json:"fields"`      // those that differ
	Missing  []string     `json:"not_covered"` // keys that are not in the policy, so not compared
	New      bool         `json:"new"`         // it has no policy, so everything on chain is added
}

// FieldDiff is the difference in one key.
type FieldDiff struct {
	Key     string        `json:"key"`
	Removed []PolicyValue `json:"removed"` // in the policy, not on chain
	Added   []PolicyValue `json:"added"`   // on chain, not in the policy

	list bool
}

// NewPolicyDiff compares the configured policies with r.
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

// compare fills in the differences, and returns the parts that could not be compared.
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
			// The audit reports a field that is gone as drift; here it cannot be told from one that was not read.
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

// same reports whether two values are equal, however they are spelled.
func same(a, b string) bool { return sanitize.BareHex(a) == sanitize.BareHex(b) }

// nameOf returns the API's name of an id, or "".
func nameOf(t *audit.Target, id string) string {
	if i := slices.IndexFunc(t.Entries, func(e audit.Entry) bool { return e.ID == id }); i >= 0 {
		return named(t.Entries[i].Name, t.Entries[i].Version)
	}
	return ""
}

// WriteText writes policy lines like diff -u. To match the chain, remove the lines that begin with - and add those that begin
// with +. Equal values are not shown. Lines stay whole on a narrow terminal, so that they can be copied.
func (d PolicyDiff) WriteText(b *bytes.Buffer, opt TextOptions) {
	for _, c := range d.Contracts {
		if len(c.Missing) > 0 {
			fmt.Fprintf(b, "# %s %s: not in the policy, so not compared: %s\n", Plain(c.Chain), Plain(c.Contract), strings.Join(c.Missing, ", "))
		}
		if len(c.Fields) > 0 {
			c.write(b)
		}
	}
}

// deep is the indentation of a policy in a configuration.
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
