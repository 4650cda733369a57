package audit

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/kms-auditor/kms-auditor/internal/footprint"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
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
func (t *target) judgeControl(intent *Intent, prior *Prior, want Policy) {
	if t.reading.Assurance == "" {
		return // control was not asked for
	}
	var base *Baseline
	if known := prior.Contract(t.address); known != nil && intent.Baselines {
		base = known.Baseline
	}
	read := t.reading.Control
	t.Control, t.Baseline = &Control{Code: read.Code}, base
	slot, code := read.Implementation, &t.Control.Code
	code.Accounts = append([]footprint.Account{}, code.Accounts...)
	read.Implementation.Value = cmp.Or(slot.Value, code.Only(t.Contract))
	for i, is := range read.fields() {
		*t.Control.fields()[i] = is.Value
		switch f := controlFields[i]; {
		case !is.Known && (intent.Baselines || f.wanted(want) != ""):
			t.reason("%s could not be read: %s", f.what, is.Err)
		case f.kind == "" || !is.Known:
		case f.wanted(want) != "":
			t.compareControl(f, is, f.wanted(want), fmt.Sprintf("%s is %s, the policy says %s", f.what, cmp.Or(is.Value, "none"), f.wanted(want)))
		case base != nil:
			was := *base.Control.fields()[i]
			if f.kind == ImplementationChanged && !base.Control.Complete {
				is = slot // the baseline knows no other
			}
			t.compareControl(f, is, was, fmt.Sprintf("%s is %s, and was %s since %s", f.what, cmp.Or(is.Value, "none"), cmp.Or(was, "none"), base.Since.UTC().Format("2006-01-02 15:04 MST")))
		}
	}
	if read.CodeErr != "" && (intent.Baselines || want.CodeHash != nil || want.CodeHashes != nil) {
		t.compared(CodeChanged, footprint.Difference{Unseen: "the code that runs could not be read: " + read.CodeErr})
	}
	if want.Implementation != nil && code.Complete {
		t.compared(ImplementationChanged, code.Runs(want.Implementation.Hex()))
	}
	for _, d := range code.Judge(t.Contract, want.CodeHash, want.CodeHashes) {
		t.compared(CodeChanged, d)
	}
	if base != nil && want.CodeHashes == nil {
		was, but := base.Control.Implementation, footprint.Role("")
		if impl := t.Control.Implementation; want.CodeHash != nil || impl != "" && impl != was && slot.Value != was {
			but = footprint.Implementation // the policy is about it, or it is another, whose code is another: one finding
		}
		t.compared(CodeChanged, code.Since(&base.Control.Code, but))
	}
}

// compareControl compares a field with what it has to be. A provider that answers no call must not make drift: what is gone has
// to be proven.
func (t *target) compareControl(f controlField, is Field, want, changed string) {
	var d footprint.Difference
	if is.Value == "" && want != "" && t.reading.Assurance != Proven {
		d.Unseen = fmt.Sprintf("%s was %s, and that it is gone is not proven", f.what, f.beyond(want, ""))
	} else if sanitize.BareHex(is.Value) != sanitize.BareHex(want) {
		d.Changed = changed
	}
	t.compared(f.kind, d)
}

// compared notes what the comparison of what a kind is about came to.
func (t *target) compared(k Kind, d footprint.Difference) {
	if _, before := t.looked[k]; !before || d.Unseen != "" {
		t.looked[k] = d.Unseen == ""
	}
	if d.Unseen != "" {
		t.reason("%s", d.Unseen)
	} else if d.Changed != "" && !t.has(k) {
		t.find(k, "%s", d.Changed)
	}
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
	if is.Since(&b.Control.Code, "").Changed != "" {
		out = append(out, "code")
	}
	seen := is.watched()
	for i, was := range b.Control.watched() {
		if was != nil && seen[i] != nil && sanitize.BareHex(*was) != sanitize.BareHex(*seen[i]) {
			out = append(out, watched[i].name)
		}
	}
	return out
}
