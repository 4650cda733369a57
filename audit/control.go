package audit

import (
	"cmp"

	"github.com/kms-auditor/kms-auditor/internal/footprint"
)

// controlField is a field of Control, and which finding a change of it is.
type controlField struct {
	kind Kind   // of finding that a change makes; empty if a change is not a finding
	name string // as Control spells it
	what string
}

// controlFields are in the order of the two functions below.
var controlFields = []controlField{
	{OwnerChanged, "owner", "the owner"},
	{"", "pending_owner", "the pending owner"},
	{ImplementationChanged, "implementation", "the implementation"},
}

func (c *Controls) fields() []Field {
	return []Field{c.Owner, c.PendingOwner, c.Implementation}
}

func (c *Control) fields() []*string {
	return []*string{&c.Owner, &c.PendingOwner, &c.Implementation}
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
	if base != nil {
		known := *base
		base = &known
		base.Control.Adopt(t.Contract, base.Control.Implementation)
	}
	t.Control, t.Baseline = &Control{Code: t.reading.code()}, base
	read := t.reading.Control
	slot := read.Implementation
	if runs := t.Control.In(footprint.Implementation); slot.Value == "" && t.Control.Complete && len(runs) == 1 && runs[0].Address != t.Contract {
		read.Implementation.Value = runs[0].Address
	}
	for i, is := range read.fields() {
		*t.Control.fields()[i] = is.Value
		if f := controlFields[i]; !is.Known && (intent.Baselines || f.wanted(want) != "") {
			t.reason("%s could not be read: %s", f.what, is.Err)
		}
	}
	if base != nil && !base.Control.Complete {
		read.Implementation = slot // the baseline knows no other
	}
	for i, is := range read.fields() {
		switch f := controlFields[i]; {
		case f.kind == "" || !is.Known:
		case f.wanted(want) != "":
			is.Value = *t.Control.fields()[i]
			t.compareControl(f.kind, f.what, is, f.wanted(want), "the policy says "+f.wanted(want))
		case base != nil:
			was := *base.Control.fields()[i]
			t.compareControl(f.kind, f.what, is, was, "and was "+cmp.Or(was, "none")+" since "+base.Since.UTC().Format("2006-01-02 15:04 MST"))
		}
	}
	if x := want.Implementation; x != nil && t.Control.Complete && !t.has(ImplementationChanged) && t.Control.At(x.Hex()) == nil {
		t.find(ImplementationChanged, "the ERC-1967 slot names %s, as the policy says, but its code does not run", x)
	}
	if err := cmp.Or(read.CodeErr, read.ImplementationCodeHash.Err); err != "" && (intent.Baselines || want.CodeHash != nil || want.CodeHashes != nil) {
		t.unseen(CodeChanged, "the code that runs could not be read: "+err)
	}
	t.judgeCode(want, base, base != nil && read.Implementation.Value != base.Control.Implementation)
}

// judgeCode judges the code that runs. Where the implementation moved, its code is another, which is one finding.
func (t *target) judgeCode(want Policy, base *Baseline, moved bool) {
	note := func(changed, unseen string) {
		t.look(CodeChanged)
		if unseen != "" {
			t.unseen(CodeChanged, unseen)
		}
		if changed != "" && !t.has(CodeChanged) {
			t.find(CodeChanged, "%s", changed)
		}
	}
	is, but := &t.Control.Code, footprint.Role("")
	if want.CodeHash != nil {
		note(is.HandsOnTo(t.Contract, want.CodeHash.Hex()))
	}
	if moved || want.CodeHash != nil {
		but = footprint.Implementation
	}
	if want.CodeHashes != nil {
		note(is.IsAllOf(want.CodeHashes))
	} else if base != nil {
		note(is.Change(&base.Control.Code, but))
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
		t.unseen(k, what+" was "+was+", and that there is none now is not proven")
		return false
	}
	t.look(k)
	return true
}

// look notes that what a kind is about was compared, unless something of it was not.
func (t *target) look(k Kind) {
	if _, done := t.looked[k]; !done {
		t.looked[k] = true
	}
}

// unseen notes that what a kind is about could not all be compared, and why.
func (t *target) unseen(k Kind, why string) {
	t.looked[k] = false
	t.reason("%s", why)
}

// wanted returns the value that the policy demands of the field, or "" if it demands none.
func (f controlField) wanted(p Policy) string {
	switch {
	case f.kind == OwnerChanged && p.Owner != nil:
		return p.Owner.Hex()
	case f.kind == ImplementationChanged && p.Implementation != nil:
		return p.Implementation.Hex()
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
	if changed, _ := is.Change(&b.Control.Code, ""); changed != "" {
		out = append(out, "code")
	}
	return out
}

// extend adds to a baseline that does not know all the code that runs what a proof shows, where all else is as it was.
func (t *target) extend() {
	b := *t.Baseline
	if changed, _ := t.Control.Change(&b.Control.Code, ""); b.Control.Complete || !t.Control.Complete || changed != "" || t.reading.Control.Implementation.Value != b.Control.Implementation {
		return
	}
	b.Control.Code, b.Control.Implementation = t.Control.Code, t.Control.Implementation
	t.Baseline = &b
}

// code is the code that runs, also as older evidence has it.
func (r *Reading) code() footprint.Code {
	c := r.Control.Code
	if c.CodeHash = r.Control.CodeHash.Value; len(c.Accounts) == 0 {
		c.ImplementationCodeHash = r.Control.ImplementationCodeHash.Value
	}
	c.Adopt(r.Contract.Hex(), r.Control.Implementation.Value)
	c.Accounts = append([]footprint.Account{}, c.Accounts...)
	return c
}
