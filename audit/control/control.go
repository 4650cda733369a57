// Package control describes who controls a contract, which code runs there, and what the contract says about its KMS. It defines
// the fields, how reports and baselines spell them, and what counts as a change.
package control

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kms-auditor/kms-auditor/internal/footprint"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// Reading is what was read of a Control. Each field may fail on its own.
type Reading struct {
	Owner          Field          `json:"owner"`
	PendingOwner   Field          `json:"pending_owner"`
	Implementation Field          `json:"implementation"` // ERC-1967
	Code           footprint.Code `json:"footprint,omitzero"`
	CodeErr        string         `json:"code_error,omitempty"` // why Code is missing an account
	GatewayAppID   Field          `json:"gateway_app_id"`
	K256Pubkey     Field          `json:"k256_pubkey"` // hex without prefix
	CAPubkey       Field          `json:"ca_pubkey"`

	AppImplementation Field `json:"app_implementation"`

	CodeHash               Field `json:"code_hash,omitzero"`                // instead of Code in evidence of rules 2 and 3
	ImplementationCodeHash Field `json:"implementation_code_hash,omitzero"` // of the code behind the proxy
}

// Field is one field of a Reading. If it is not Known, Err says why it was not read. The Value is empty if the contract has none.
type Field struct {
	Known bool   `json:"known,omitempty"`
	Value string `json:"value,omitempty"`
	Err   string `json:"error,omitempty"`
}

// Control is who controls a contract and which code runs there. Addresses are EIP-55. A field without a getter in the contract is
// empty.
type Control struct {
	Owner          string `json:"owner,omitempty"`
	PendingOwner   string `json:"pending_owner,omitempty"`  // the account that ownership is offered to; may be empty
	Implementation string `json:"implementation,omitempty"` // ERC-1967, else the only one that ran; empty if none or several did
	footprint.Code

	KMSPubkeys        []string `json:"kms_pubkeys,omitempty"`        // k256 and CA, in hex without prefix
	GatewayAppID      string   `json:"gateway_app_id,omitempty"`     // as the contract spells it
	AppImplementation string   `json:"app_implementation,omitempty"` // also under its older name, appAuthImplementation
	AggregatedMRs     []string `json:"aggregated_mrs,omitempty"`     // the allowed ones, sorted
	Read              []string `json:"read,omitempty"`               // which of these four fields are known, sorted; an unnamed field is unknown, not empty
}

// About describes one field of Control.
type About struct {
	Name  string // in JSON
	What  string // in a sentence
	Later bool   // earlier releases did not read it, so a baseline may lack it; listed in Control.Read if known
}

// Indexes of the fields in Fields and in the results of Values.
const (
	Owner = iota
	PendingOwner
	Implementation
	Code // has no value: footprint.Code compares it account by account
	KMSPubkeys
	GatewayAppID
	AppImplementation
	AggregatedMRs
)

// Fields lists every field.
var Fields = []About{
	{"owner", "the owner", false},
	{"pending_owner", "the pending owner", false},
	{"implementation", "the implementation", false},
	{"code", "the code that runs", false},
	{"kms_pubkeys", "the KMS's public keys", true},
	{"gateway_app_id", "the gateway's app id", true},
	{"app_implementation", "the app implementation", true},
	{"aggregated_mrs", "the allowed measurements", true},
}

// Separator joins the parts of a field that is a list.
const Separator = ", "

func parts(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, Separator)
}

// Values returns the fields in the order of Fields. The measurements are read separately.
func (r *Reading) Values(contract string, measurements Field) []Field {
	implementation, keys := r.Implementation, Field{Err: cmp.Or(r.K256Pubkey.Err, r.CAPubkey.Err)}
	implementation.Value = cmp.Or(implementation.Value, r.Code.Only(contract))
	keys.Known = r.K256Pubkey.Known && r.CAPubkey.Known
	if keys.Known && r.K256Pubkey.Value+r.CAPubkey.Value != "" {
		keys.Value = r.K256Pubkey.Value + Separator + r.CAPubkey.Value
	}
	return []Field{r.Owner, r.PendingOwner, implementation, {}, keys, r.GatewayAppID, r.AppImplementation, measurements}
}

// Values returns the fields of a report or a baseline in the order of Fields.
func (c *Control) Values() []Field {
	keys, measurements := strings.Join(c.KMSPubkeys, Separator), strings.Join(c.AggregatedMRs, Separator)
	out := make([]Field, len(Fields))
	for i, text := range []string{c.Owner, c.PendingOwner, c.Implementation, "", keys, c.GatewayAppID, c.AppImplementation, measurements} {
		if f := Fields[i]; !f.Later || slices.Contains(c.Read, f.Name) {
			out[i] = Field{Known: true, Value: text}
		}
	}
	return out
}

// Set is the inverse of Values.
func (c *Control) Set(values []Field) {
	c.Read = nil
	for i, f := range Fields {
		if f.Later && values[i].Known {
			c.Read = append(c.Read, f.Name)
		}
	}
	c.Owner, c.PendingOwner, c.Implementation = values[Owner].Value, values[PendingOwner].Value, values[Implementation].Value
	c.KMSPubkeys, c.GatewayAppID = parts(values[KMSPubkeys].Value), values[GatewayAppID].Value
	c.AppImplementation, c.AggregatedMRs = values[AppImplementation].Value, parts(values[AggregatedMRs].Value)
}

// Change compares a value with the wanted one or, if that is empty, with the value since a time. A value is gone only if that is
// proven: a provider that answers no call makes no change.
func Change(field int, is, was, wanted string, proven bool, since time.Time) footprint.Difference {
	f, want, by := Fields[field], cmp.Or(wanted, was), "policy"
	if wanted == "" {
		by = "baseline"
	}
	var d footprint.Difference
	switch {
	case is == "" && want != "" && !proven:
		d.Unseen = fmt.Sprintf("%s was %s, and no proof shows that it is gone", f.What, beyond(field, want, ""))
	case sanitize.BareHex(is) == sanitize.BareHex(want):
	case f.Later:
		d.Changed = fmt.Sprintf("%s: the contract has %s, but the %s has %s", f.What, beyond(field, is, want), by, beyond(field, want, is))
	case wanted != "":
		d.Changed = fmt.Sprintf("%s is %s, but the policy says %s", f.What, cmp.Or(is, "none"), want)
	default:
		d.Changed = fmt.Sprintf("%s is %s, but was %s since %s", f.What, cmp.Or(is, "none"), cmp.Or(want, "none"), since.UTC().Format("2006-01-02 15:04 MST"))
	}
	return d
}

// beyond makes a value printable. For measurements it keeps only those that b lacks.
func beyond(field int, a, b string) string {
	if field == AggregatedMRs {
		others := parts(b)
		a = strings.Join(slices.DeleteFunc(parts(a), func(id string) bool { return slices.Contains(others, id) }), Separator)
	}
	return cmp.Or(sanitize.Plain(a), "none")
}

// Or returns the control with the fields that it lacks taken from other.
func (c Control) Or(other Control) Control {
	values := c.Values()
	for i, v := range other.Values() {
		values[i] = cmp.Or(values[i], v)
	}
	c.Set(values)
	return c
}

// Learn returns a baseline's control with the fields that it lacks. An empty value is taken only if it is proven, and
// measurements only if they are complete. Otherwise, a provider that omits something now would cause a change later.
func (c Control) Learn(is Control, proven, complete bool) Control {
	values := c.Values()
	for i, now := range is.Values() {
		unsure := i == AggregatedMRs && !complete || now.Value == "" && !proven
		if !unsure {
			values[i] = cmp.Or(values[i], now)
		}
	}
	c.Set(values)
	return c
}

// Differs lists the fields that changed. An offer to another owner is not yet a change.
func (c Control) Differs(is Control) []string {
	out, now := []string{}, is.Values()
	for i, was := range c.Values() {
		changed := was.Known && now[i].Known && sanitize.BareHex(was.Value) != sanitize.BareHex(now[i].Value)
		if i == Code {
			changed = is.Since(&c.Code, "").Changed != ""
		}
		if changed && i != PendingOwner {
			out = append(out, Fields[i].Name)
		}
	}
	return out
}
