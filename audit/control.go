package audit

// controlField is one field of Control: where it is read, and which finding a change of it is.
type controlField struct {
	kind Kind   // empty: a change is none
	name string // as Control spells it
	what string
	read func(*Controls) *Field
	kept func(*Control) *string
}

const implementationCode = "implementation_code_hash"

var controlFields = []controlField{
	{
		OwnerChanged, "owner", "the owner",
		func(c *Controls) *Field { return &c.Owner }, func(c *Control) *string { return &c.Owner },
	}, {
		"", "pending_owner", "the pending owner",
		func(c *Controls) *Field { return &c.PendingOwner }, func(c *Control) *string { return &c.PendingOwner },
	}, {
		ImplementationChanged, "implementation", "the implementation",
		func(c *Controls) *Field { return &c.Implementation }, func(c *Control) *string { return &c.Implementation },
	}, {
		CodeChanged, "code_hash", "the hash of the contract's own code",
		func(c *Controls) *Field { return &c.CodeHash }, func(c *Control) *string { return &c.CodeHash },
	}, {
		CodeChanged, implementationCode, "the hash of the implementation's code",
		func(c *Controls) *Field { return &c.ImplementationCodeHash }, func(c *Control) *string { return &c.ImplementationCodeHash },
	},
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
	t.Control, t.Baseline, t.wholeControl = &Control{}, base, true
	for _, f := range controlFields {
		is := f.read(&t.reading.Control)
		*f.kept(t.Control) = is.Value
		t.wholeControl = t.wholeControl && is.Known
		if !is.Known && (intent.Baselines || f.wanted(want) != "") {
			t.reason("%s could not be read: %s", f.what, is.Err)
		}
	}
	for _, f := range controlFields {
		if is := f.read(&t.reading.Control); f.kind != "" && is.Known {
			t.judgeField(f, *is, want, base)
		}
	}
	if runs := t.reading.Control.ImplementationCodeHash; want.CodeHash != nil && runs.Known {
		if runs.Value == "" { // the contract is no proxy
			runs = t.reading.Control.CodeHash
		}
		t.compareWithPolicy(CodeChanged, "the hash of the code that runs", runs, want.CodeHash.Hex())
	}
}

func (t *target) judgeField(f controlField, is Field, want Policy, base *Baseline) {
	if w := f.wanted(want); w != "" {
		t.compareWithPolicy(f.kind, f.what, is, w)
		return
	}
	switch {
	case base == nil:
		return
	case f.name == implementationCode && (want.CodeHash != nil || t.Control.Implementation != base.Control.Implementation),
		f.kind == CodeChanged && t.has(CodeChanged):
		return // the policy covers it, or another implementation has other code: that is one finding
	}
	was := *f.kept(&base.Control)
	if t.comparable(f.kind, f.what, is, was) && is.Value != was {
		t.find(f.kind, "%s is %s, and was %s since %s", f.what, orNone(is.Value), orNone(was), base.Since.UTC().Format("2006-01-02 15:04 MST"))
	}
}

func (t *target) compareWithPolicy(k Kind, what string, is Field, want string) {
	if is.Known && t.comparable(k, what, is, want) && is.Value != want {
		t.find(k, "%s is %s, the policy says %s", what, orNone(is.Value), want)
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

// wanted is what the policy says of the field; empty: nothing.
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
	for _, f := range controlFields {
		if f.kind != "" && *f.kept(&b.Control) != *f.kept(&is) {
			out = append(out, f.name)
		}
	}
	return out
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
