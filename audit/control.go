package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/footprint"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// controlField is a field of Control, and which finding a change of it is.
type controlField struct {
	kind  Kind   // of finding that a change makes; empty if a change is not a finding
	name  string // as Control spells it
	what  string
	later bool // earlier releases did not read it: a baseline may lack it, and Control.Read names it where it is known
}

// controlFields are in the order of the functions below.
var controlFields = []controlField{
	{OwnerChanged, "owner", "the owner", false},
	{"", "pending_owner", "the pending owner", false},
	{ImplementationChanged, "implementation", "the implementation", false},
	{CodeChanged, "code", "the code that runs", false}, // judgeCode compares it, account by account
	{KMSKeysChanged, "kms_pubkeys", "the KMS's public keys", true},
	{GatewayChanged, "gateway_app_id", "the gateway's app id", true},
	{AppImplChanged, "app_implementation", "the implementation of apps", true},
	{MeasurementsChanged, "aggregated_mrs", "the allowed measurements", true},
}

const separator = ", " // of the parts of a field that is a list

func parts(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, separator)
}

// fields returns what the contract said.
func (r *Reading) fields() []Field {
	c := &r.Control
	implementation, keys := c.Implementation, Field{Err: cmp.Or(c.K256Pubkey.Err, c.CAPubkey.Err)}
	implementation.Value = cmp.Or(implementation.Value, c.Code.Only(r.Contract.Hex()))
	keys.Known = c.K256Pubkey.Known && c.CAPubkey.Known
	if keys.Known && c.K256Pubkey.Value+c.CAPubkey.Value != "" {
		keys.Value = c.K256Pubkey.Value + separator + c.CAPubkey.Value
	}
	var measurements Field
	if answered, unread := r.sample(AggregatedMR); answered != nil && unread == nil { // else that is said of the list
		var allowed []string
		for _, a := range r.Answers {
			if a.List == AggregatedMR && a.Allowed {
				allowed = append(allowed, a.ID.Hex())
			}
		}
		slices.Sort(allowed)
		measurements = Field{Known: true, Value: strings.Join(allowed, separator)}
	}
	return []Field{c.Owner, c.PendingOwner, implementation, {}, keys, c.GatewayAppID, c.AppImplementation, measurements}
}

// fields returns what a report or a baseline has.
func (c *Control) fields() []Field {
	keys, measurements := strings.Join(c.KMSPubkeys, separator), strings.Join(c.AggregatedMRs, separator)
	out := make([]Field, len(controlFields))
	for i, text := range []string{c.Owner, c.PendingOwner, c.Implementation, "", keys, c.GatewayAppID, c.AppImplementation, measurements} {
		if f := controlFields[i]; !f.later || slices.Contains(c.Read, f.name) {
			out[i] = Field{Known: true, Value: text}
		}
	}
	return out
}

func (c *Control) set(fields []Field) {
	c.Read = nil
	for i, f := range controlFields {
		if f.later && fields[i].Known {
			c.Read = append(c.Read, f.name)
		}
	}
	c.Owner, c.PendingOwner, c.Implementation = fields[0].Value, fields[1].Value, fields[2].Value
	c.KMSPubkeys, c.GatewayAppID = parts(fields[4].Value), fields[5].Value
	c.AppImplementation, c.AggregatedMRs = fields[6].Value, parts(fields[7].Value)
}

// fields returns what the policy demands; an empty text demands nothing.
func (p *Policy) fields() []string {
	hex := func(a *common.Address) string {
		if a == nil {
			return ""
		}
		return a.Hex()
	}
	keys := strings.Join(p.KMSPubkeys, separator)
	return []string{hex(p.Owner), "", hex(p.Implementation), "", keys, p.GatewayAppID, hex(p.AppImplementation), ""}
}

// judgeControl judges who controls the contract and what it says of its KMS, field by field: against the policy where that
// covers the field, else against the baseline.
func (t *target) judgeControl(intent *Intent, prior *Prior, want *Policy) {
	if t.reading.Assurance == "" {
		return // control was not asked for
	}
	is, was, wanted := t.reading.fields(), make([]Field, len(controlFields)), want.fields()
	if known := prior.Contract(t.address); known != nil && known.Baseline != nil && intent.Baselines {
		t.Baseline = known.Baseline
		was = t.Baseline.Control.fields()
	}
	t.Control = &Control{Code: t.reading.Control.Code}
	t.Control.Code.Accounts = append([]footprint.Account{}, t.Control.Code.Accounts...)
	t.Control.set(is)
	for i, f := range controlFields {
		covered := wanted[i] != "" || was[i].Known
		switch {
		case f.kind == CodeChanged:
			t.judgeCode(intent, want)
		case f.kind == MeasurementsChanged && want.AggregatedMRs != nil:
			t.looked[f.kind] = is[i].Known // what is wrong is said of each measurement: one thing makes one finding
		case !is[i].Known && (f.later && covered && is[i].Err != "" || !f.later && (covered || intent.Baselines)):
			t.reason("%s could not be read: %s", f.what, is[i].Err)
		case is[i].Known && covered && f.kind != "":
			t.compareControl(f, is[i].Value, was[i].Value, wanted[i])
		}
	}
}

// compareControl compares a field with what the policy wants or, where that is empty, with what it was. A provider that answers
// no call must not make drift: what is gone has to be proven.
func (t *target) compareControl(f controlField, is, was, wanted string) {
	want, by := cmp.Or(wanted, was), "policy"
	if wanted == "" {
		by = "baseline"
	}
	if wanted == "" && f.kind == ImplementationChanged && !t.Baseline.Control.Complete {
		is = t.reading.Control.Implementation.Value // the baseline knows no other
	}
	var d footprint.Difference
	switch {
	case is == "" && want != "" && t.reading.Assurance != Proven:
		d.Unseen = fmt.Sprintf("%s was %s, and that it is gone is not proven", f.what, f.beyond(want, ""))
	case sanitize.BareHex(is) == sanitize.BareHex(want):
	case f.later:
		d.Changed = fmt.Sprintf("%s: the contract has %s, the %s has %s", f.what, f.beyond(is, want), by, f.beyond(want, is))
	case wanted != "":
		d.Changed = fmt.Sprintf("%s is %s, the policy says %s", f.what, cmp.Or(is, "none"), want)
	default:
		since := t.Baseline.Since.UTC().Format("2006-01-02 15:04 MST")
		d.Changed = fmt.Sprintf("%s is %s, and was %s since %s", f.what, cmp.Or(is, "none"), cmp.Or(want, "none"), since)
	}
	t.compared(f.kind, d)
}

// beyond is a value, fit to show; of measurements only those that the other one lacks.
func (f controlField) beyond(a, b string) string {
	if f.kind == MeasurementsChanged {
		others := parts(b)
		a = strings.Join(slices.DeleteFunc(parts(a), func(id string) bool { return slices.Contains(others, id) }), separator)
	}
	return cmp.Or(sanitize.Plain(a), "none")
}

// judgeCode compares the code that runs with the policy and, where that does not pin all of it, with the baseline.
func (t *target) judgeCode(intent *Intent, want *Policy) {
	read, code := &t.reading.Control, &t.Control.Code
	if read.CodeErr != "" && (intent.Baselines || want.CodeHash != nil || want.CodeHashes != nil) {
		t.compared(CodeChanged, footprint.Difference{Unseen: "the code that runs could not be read: " + read.CodeErr})
	}
	if want.Implementation != nil && code.Complete {
		t.compared(ImplementationChanged, code.Runs(want.Implementation.Hex()))
	}
	for _, d := range code.Judge(t.Contract, want.CodeHash, want.CodeHashes) {
		t.compared(CodeChanged, d)
	}
	if t.Baseline != nil && want.CodeHashes == nil {
		was, but := t.Baseline.Control.Implementation, footprint.Role("")
		if impl := t.Control.Implementation; want.CodeHash != nil || impl != "" && impl != was && read.Implementation.Value != was {
			but = footprint.Implementation // the policy is about it, or it is another, whose code is another: one finding
		}
		t.compared(CodeChanged, code.Since(&t.Baseline.Control.Code, but))
	}
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

// Or returns the control with those fields of another one that it lacks itself.
func (c Control) Or(other Control) Control {
	values := c.fields()
	for i, v := range other.fields() {
		values[i] = cmp.Or(values[i], v)
	}
	c.set(values)
	return c
}

// learn returns the control of a baseline with the fields that it lacks. That the contract has no value, and which measurements
// are all, has to be proven: a provider that leaves something out must not make drift of it later.
func (t *target) learn(c Control) Control {
	values := c.fields()
	for i, is := range t.Control.fields() {
		f := controlFields[i]
		unsure := f.kind == MeasurementsChanged && t.Completeness != Complete || is.Value == "" && t.reading.Assurance != Proven
		if !unsure {
			values[i] = cmp.Or(values[i], is)
		}
	}
	c.set(values)
	return c
}

// Differs names the fields of the control that are not as the baseline has them. An offer to another owner is no change yet.
func (b Baseline) Differs(is Control) []string {
	out, now := []string{}, is.fields()
	for i, was := range b.Control.fields() {
		f := controlFields[i]
		changed := was.Known && now[i].Known && sanitize.BareHex(was.Value) != sanitize.BareHex(now[i].Value)
		if f.kind == CodeChanged {
			changed = is.Since(&b.Control.Code, "").Changed != ""
		}
		if changed && f.kind != "" {
			out = append(out, f.name)
		}
	}
	return out
}
