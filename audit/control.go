package audit

import (
	"cmp"
	"strings"
)

// controlField is a field of Control, and which finding a change of it is.
type controlField struct {
	kind Kind   // of finding that a change makes; empty if a change is not a finding
	name string // as Control spells it
	what string
}

const implementationCode = "implementation_code_hash"

// controlFields are in the order of the two functions below.
var controlFields = []controlField{
	{OwnerChanged, "owner", "the owner"},
	{"", "pending_owner", "the pending owner"},
	{ImplementationChanged, "implementation", "the implementation"},
	{CodeChanged, "code_hash", "the hash of the contract's own code"},
	{CodeChanged, implementationCode, "the hash of the implementation's code"},
}

func (c *Controls) fields() []Field {
	return []Field{c.Owner, c.PendingOwner, c.Implementation, c.CodeHash, c.ImplementationCodeHash}
}

func (c *Control) fields() []*string {
	return []*string{&c.Owner, &c.PendingOwner, &c.Implementation, &c.CodeHash, &c.ImplementationCodeHash}
}

// judgeControl judges who controls the contract, field by field: against the policy where that covers the field, else
// against the baseline.
func (t *target) judgeControl(intent *Intent, want Policy, base *Baseline) {
	if t.reading.Assurance == "" {
		return // control was not asked for
	}
	if !intent.Baselines {
		base = nil
	}
	t.Control, t.Baseline = &Control{}, base
	for i, is := range t.reading.Control.fields() {
		*t.Control.fields()[i] = is.Value
		if f := controlFields[i]; !is.Known && (intent.Baselines || f.wanted(want) != "") {
			t.reason("%s could not be read: %s", f.what, is.Err)
		}
	}
	for i, is := range t.reading.Control.fields() {
		switch f := controlFields[i]; {
		case f.kind == "" || !is.Known:
		case f.wanted(want) != "":
			t.compareControl(f.kind, f.what, is, f.wanted(want), "the policy says "+f.wanted(want))
		case base == nil,
			f.name == implementationCode && (want.CodeHash != nil || t.Control.Implementation != base.Control.Implementation),
			f.kind == CodeChanged && t.has(CodeChanged):
			// The policy covers it, or another implementation has other code: that is one finding.
		default:
			was := *base.Control.fields()[i]
			t.compareControl(f.kind, f.what, is, was, "and was "+cmp.Or(was, "none")+" since "+base.Since.UTC().Format("2006-01-02 15:04 MST"))
		}
	}
	if runs := t.reading.Control.ImplementationCodeHash; want.CodeHash != nil && runs.Known {
		if runs.Value == "" { // the contract is no proxy
			runs = t.reading.Control.CodeHash
		}
		t.compareControl(CodeChanged, "the hash of the code that runs", runs, want.CodeHash.Hex(), "the policy says "+want.CodeHash.Hex())
	}
}

// compareControl compares a field with what it has to be, which the sentence says.
func (t *target) compareControl(k Kind, what string, is Field, want, sentence string) {
	if is.Known && t.comparable(k, what, is, want) && is.Value != want {
		t.find(k, "%s is %s, %s", what, cmp.Or(is.Value, "none"), sentence)
	}
}

// comparable reports whether a field can be compared. A provider that answers no call must not make drift: what is gone has
// to be proven.
func (t *target) comparable(k Kind, what string, is Field, was string) bool {
	if is.Value == "" && was != "" && t.reading.Assurance != Proven {
		t.looked[k] = false
		t.reason("%s was %s, and that there is none now is not proven", what, was)
		return false
	}
	if _, failed := t.looked[k]; !failed {
		t.looked[k] = true
	}
	return true
}

// wanted returns the value that the policy demands of the field, or "" if it demands none.
func (f controlField) wanted(p Policy) string {
	switch {
	case f.kind == OwnerChanged && p.Owner != nil:
		return p.Owner.Hex()
	case f.kind == ImplementationChanged && p.Implementation != nil:
		return p.Implementation.Hex()
	case f.kind == KMSKeysChanged:
		return strings.Join(p.KMSPubkeys, separator)
	case f.kind == GatewayChanged:
		return p.GatewayAppID
	case f.kind == AppImplChanged && p.AppImplementation != nil:
		return p.AppImplementation.Hex()
	}
	return ""
}

// Differs names the fields of the control that are not as the baseline has them. An offer to another owner is no change yet.
func (b Baseline) Differs(is Control) []string {
	out := []string{}
	for i, was := range b.Control.fields() {
		if f := controlFields[i]; f.kind != "" && *was != *is.fields()[i] {
			out = append(out, f.name)
		}
	}
	seen := is.watched()
	for i, was := range b.Control.watched() {
		if was != nil && seen[i] != nil && bareHex(*was) != bareHex(*seen[i]) {
			out = append(out, watched[i].name)
		}
	}
	return out
}
