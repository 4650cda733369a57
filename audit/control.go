package audit

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit/control"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
)

// controlKinds are the kinds of changes, in the order of control.Fields.
var controlKinds = []Kind{OwnerChanged, "", ImplementationChanged, CodeChanged, KMSKeysChanged, GatewayChanged, AppImplChanged, MeasurementsChanged}

// measurements returns the allowed measurements as a field. The field is unknown if one was not read.
func (r *Reading) measurements() Field {
	answered, unread := r.sample(AggregatedMR)
	if answered == nil || unread != nil {
		return Field{}
	}
	var allowed []string
	for _, a := range r.Answers {
		if a.List == AggregatedMR && a.Allowed {
			allowed = append(allowed, a.ID.Hex())
		}
	}
	slices.Sort(allowed)
	return Field{Known: true, Value: strings.Join(allowed, control.Separator)}
}

// fields returns what the policy demands of each control.Fields. An empty text demands nothing.
func (p *Policy) fields() []string {
	hex := func(a *common.Address) string {
		if a == nil {
			return ""
		}
		return a.Hex()
	}
	keys := strings.Join(p.KMSPubkeys, control.Separator)
	return []string{hex(p.Owner), "", hex(p.Implementation), "", keys, p.GatewayAppID, hex(p.AppImplementation), ""}
}

// judgeControl compares each field with the policy or, if that does not cover the field, with the baseline.
func (t *target) judgeControl(intent *Intent, prior *Prior, want *Policy) {
	if t.reading.Assurance == "" {
		return // control was not asked for
	}
	is, was, wanted := t.reading.Control.Values(t.Contract, t.reading.measurements()), make([]Field, len(control.Fields)), want.fields()
	if known := prior.Contract(t.address); known != nil && known.Baseline != nil && intent.Baselines {
		t.Baseline = known.Baseline
		was = t.Baseline.Control.Values()
	}
	t.Control = &Control{Code: t.reading.Control.Code}
	t.Control.Code.Accounts = append([]footprint.Account{}, t.Control.Code.Accounts...)
	t.Control.Set(is)
	for i, f := range control.Fields {
		k := controlKinds[i]
		covered := wanted[i] != "" || was[i].Known
		switch {
		case k == CodeChanged:
			t.judgeCode(intent, want)
		case k == MeasurementsChanged && want.AggregatedMRs != nil:
			t.looked[k] = is[i].Known // each wrong measurement is an entry with its own finding
		case !is[i].Known && (f.Later && covered && is[i].Err != "" || !f.Later && (covered || intent.Baselines)):
			t.reason("%s could not be read: %s", f.What, is[i].Err)
		case is[i].Known && covered && k != "":
			value := is[i].Value
			if wanted[i] == "" && k == ImplementationChanged && !t.Baseline.Control.Complete {
				value = t.reading.Control.Implementation.Value // the baseline does not record which code ran
			}
			since := cmp.Or(t.Baseline, &Baseline{}).Since
			t.compared(k, control.Change(i, value, was[i].Value, wanted[i], t.reading.Assurance == Proven, since))
		}
	}
}

// judgeCode compares the code that runs with the policy and, unless that pins all of it, with the baseline.
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
			but = footprint.Implementation // already judged by the policy or as implementation_changed
		}
		t.compared(CodeChanged, code.Since(&t.Baseline.Control.Code, but))
	}
}

// compared notes the result of a comparison as a finding of a kind, or as a reason.
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
