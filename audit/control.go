package audit

import "slices"

// controlField is one field of Control: where it is read, and which finding a change of it is.
type controlField struct {
	kind Kind // empty: a change is none
	what string
	read func(*Controls) *Field
	kept func(*Control) *string
}

var controlFields = []controlField{
	{OwnerChanged, "the owner", func(c *Controls) *Field { return &c.Owner }, func(c *Control) *string { return &c.Owner }},
	{"", "the pending owner", func(c *Controls) *Field { return &c.PendingOwner }, func(c *Control) *string { return &c.PendingOwner }},
	{ImplementationChanged, "the implementation", func(c *Controls) *Field { return &c.Implementation }, func(c *Control) *string { return &c.Implementation }},
	{CodeChanged, "the hash of the contract's own code", func(c *Controls) *Field { return &c.CodeHash }, func(c *Control) *string { return &c.CodeHash }},
	{CodeChanged, "the hash of the implementation's code", func(c *Controls) *Field { return &c.ImplementationCodeHash }, func(c *Control) *string { return &c.ImplementationCodeHash }},
}

// judgeControl judges who controls the contract, field by field: against the policy where that covers the field, else
// against the baseline.
func (t *target) judgeControl(intent *Intent, want Policy, base *Baseline) {
	if t.reading.Assurance == "" {
		return // control was not asked for
	}
	is := Control{}
	t.wholeControl = true
	for _, f := range controlFields {
		read := f.read(&t.reading.Control)
		*f.kept(&is) = read.Value
		if t.wholeControl = t.wholeControl && read.Known; !read.Known && (intent.Baselines || f.wanted(want) != nil) {
			t.reason("%s could not be read: %s", f.what, read.Err)
		}
	}
	t.control = &is
	if intent.Baselines && base != nil {
		t.baseline = base
	}
	for _, f := range controlFields {
		t.judgeField(f, want, base, intent.Baselines)
	}
	t.judgeCodeHash(want)
}

func (t *target) judgeField(f controlField, want Policy, base *Baseline, watched bool) {
	is := f.read(&t.reading.Control)
	if f.kind == "" || !is.Known {
		return
	}
	if w := f.wanted(want); w != nil {
		if t.compareField(f.kind, f.what, *is, *w) && is.Value != *w {
			t.find(f.kind, "%s is %s, the policy says %s", f.what, orNone(is.Value), *w)
		}
		return
	}
	if f.kind == CodeChanged && f.what != controlFields[3].what && want.CodeHash != nil {
		return // judgeCodeHash compares it
	}
	if !watched || base == nil {
		return
	}
	was := *f.kept(&base.Control)
	if f.kind == CodeChanged && (t.has(CodeChanged) || f.what != controlFields[3].what && t.control.Implementation != base.Control.Implementation) {
		return // another implementation has other code: that is one finding
	}
	if t.compareField(f.kind, f.what, *is, was) && is.Value != was {
		t.find(f.kind, "%s is %s, and was %s since %s", f.what, orNone(is.Value), orNone(was), base.Since.UTC().Format("2006-01-02 15:04 MST"))
	}
}

// judgeCodeHash compares the hash of the code that runs with the policy: the implementation's, where the contract is a proxy.
func (t *target) judgeCodeHash(want Policy) {
	if want.CodeHash == nil {
		return
	}
	runs := t.reading.Control.ImplementationCodeHash
	if runs.Known && runs.Value == "" {
		runs = t.reading.Control.CodeHash
	}
	if runs.Known && t.compareField(CodeChanged, "the hash of the code that runs", runs, want.CodeHash.Hex()) && runs.Value != want.CodeHash.Hex() {
		t.find(CodeChanged, "the hash of the code that runs is %s, the policy says %s", runs.Value, want.CodeHash.Hex())
	}
}

// compareField reports whether a field can be compared. A provider that answers no call must not make drift: what is gone
// has to be proven.
func (t *target) compareField(k Kind, what string, is Field, was string) bool {
	if is.Value == "" && was != "" && t.reading.Assurance != Proven {
		t.judged[k] = false
		t.reason("%s was %s, and that there is none now is not proven", what, was)
		return false
	}
	if _, failed := t.judged[k]; !failed {
		t.judged[k] = true
	}
	return true
}

// wanted is what the policy says of the field; nil: nothing.
func (f controlField) wanted(p Policy) *string {
	switch {
	case f.kind == OwnerChanged && p.Owner != nil:
		s := p.Owner.Hex()
		return &s
	case f.kind == ImplementationChanged && p.Implementation != nil:
		s := p.Implementation.Hex()
		return &s
	}
	return nil
}

// Differs names the fields of the control that are not as the baseline has them. An offer to another owner is no change yet.
func (b Baseline) Differs(is Control) []string {
	out := []string{}
	for i, name := range []string{"owner", "", "implementation", "code_hash", "implementation_code_hash"} {
		if f := controlFields[i]; name != "" && *f.kept(&b.Control) != *f.kept(&is) {
			out = append(out, name)
		}
	}
	return slices.Clip(out)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
