package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// watched are the fields of Control that earlier releases did not read, in the order of the functions below. Control.Read names
// those that are known: a baseline need not have them all yet.
var watched = []controlField{
	{KMSKeysChanged, "kms_pubkeys", "the KMS's public keys"},
	{GatewayChanged, "gateway_app_id", "the gateway's app id"},
	{AppImplChanged, "app_implementation", "the implementation of apps"},
	{MeasurementsChanged, "aggregated_mrs", "the allowed measurements"},
}

const separator = ", " // of the parts of a field that is a list

// watched returns the watched fields; nil: not known.
func (c *Control) watched() []*string {
	keys, mrs := strings.Join(c.KMSPubkeys, separator), strings.Join(c.AggregatedMRs, separator)
	out := []*string{&keys, &c.GatewayAppID, &c.AppImplementation, &mrs}
	for i, f := range watched {
		if !slices.Contains(c.Read, f.name) {
			out[i] = nil
		}
	}
	return out
}

// watch sets them.
func (c *Control) watch(values []*string) {
	read, texts, lists := []string(nil), make([]string, len(watched)), make([][]string, len(watched))
	for i, v := range values {
		if v != nil {
			read, texts[i] = append(read, watched[i].name), *v
		}
		if texts[i] != "" {
			lists[i] = strings.Split(texts[i], separator)
		}
	}
	c.KMSPubkeys, c.GatewayAppID, c.AppImplementation, c.AggregatedMRs, c.Read = lists[0], texts[1], texts[2], lists[3], read
}

// watched returns what the contract said of them.
func (r *Reading) watched() []Field {
	k256, ca := r.Control.K256Pubkey, r.Control.CAPubkey
	keys := Field{Known: k256.Known && ca.Known, Err: cmp.Or(k256.Err, ca.Err)}
	if k256.Value+ca.Value != "" {
		keys.Value = k256.Value + separator + ca.Value
	}
	var allowed []string
	asked, unanswered := 0, 0 // what is not answered is said of the list
	for _, a := range r.Answers {
		switch {
		case a.List != AggregatedMR:
			continue
		case a.Err != "":
			unanswered++
		case a.Allowed:
			allowed = append(allowed, a.ID.Hex())
		}
		asked++
	}
	slices.Sort(allowed)
	return []Field{keys, r.Control.GatewayAppID, r.Control.AppImplementation, {Known: asked > 0 && unanswered == 0, Value: strings.Join(allowed, separator)}}
}

// judgeWatched compares the watched fields with the policy where that covers them, else with the baseline.
func (t *target) judgeWatched(want Policy) {
	if t.Control == nil {
		return
	}
	var base Control
	if t.Baseline != nil {
		base = t.Baseline.Control
	}
	values, recorded := make([]*string, len(watched)), base.watched()
	for i, is := range t.reading.watched() {
		f, was, by := watched[i], recorded[i], "baseline"
		if wanted := f.wanted(want); wanted != "" {
			was, by = &wanted, "policy"
		}
		if is.Known {
			values[i] = &is.Value
		}
		switch {
		case f.kind == MeasurementsChanged && want.AggregatedMRs != nil:
			t.looked[f.kind] = is.Known // what is wrong is said of each measurement: one thing makes one finding
		case was == nil:
		case is.Known:
			t.compareControl(f, is, *was, fmt.Sprintf("%s: the contract has %s, the %s has %s", f.what, f.beyond(is.Value, *was), by, f.beyond(*was, is.Value)))
		case is.Err != "":
			t.reason("%s could not be read: %s", f.what, is.Err)
		}
	}
	t.Control.watch(values)
}

// beyond is a value, fit to show; of measurements only those that the other one lacks.
func (f controlField) beyond(a, b string) string {
	if f.kind == MeasurementsChanged {
		others := strings.Split(b, separator)
		a = strings.Join(slices.DeleteFunc(strings.Split(a, separator), func(id string) bool { return slices.Contains(others, id) }), separator)
	}
	return cmp.Or(sanitize.Plain(a), "none")
}

// Or returns the control with those watched fields of another one that it lacks itself.
func (c Control) Or(other Control) Control {
	values := c.watched()
	for i, v := range other.watched() {
		values[i] = cmp.Or(values[i], v)
	}
	c.watch(values)
	return c
}

// learn returns the baseline with the watched fields that it lacks. That the contract has no value, and which measurements are
// all, has to be proven: a provider that leaves something out must not make drift of it later.
func (b *Baseline) learn(t *target) *Baseline {
	out, sure, values := *b, *t.Control, t.Control.watched()
	for i, is := range values {
		if f := watched[i]; f.kind == MeasurementsChanged && t.Completeness != Complete || is != nil && *is == "" && t.reading.Assurance != Proven {
			values[i] = nil
		}
	}
	sure.watch(values)
	out.Control = b.Control.Or(sure)
	return &out
}
