// Package control knows who controls a contract, what runs there, and what the contract says of its KMS: every field, how a
// report and a baseline spell it, and what is a change of it.
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

// Reading has the fields that say who controls a contract, and what the contract says of its KMS. Each stands alone.
type Reading struct {
	Owner          Field          `json:"owner"`
	PendingOwner   Field          `json:"pending_owner"`
	Implementation Field          `json:"implementation"` // ERC-1967
	Code           footprint.Code `json:"footprint,omitzero"`
	CodeErr        string         `json:"code_error,omitempty"` // why Code lacks an account
	GatewayAppID   Field          `json:"gateway_app_id"`
	K256Pubkey     Field          `json:"k256_pubkey"` // hex without prefix
	CAPubkey       Field          `json:"ca_pubkey"`

	AppImplementation Field `json:"app_implementation"`

	CodeHash               Field `json:"code_hash,omitzero"`                // in evidence of rules 2 and 3, instead of Code
	ImplementationCodeHash Field `json:"implementation_code_hash,omitzero"` // of what runs behind the contract
}

// Field is one field of a Reading. Without Known nothing was read, and Err says why; an empty Value is one that the contract
// does not have.
type Field struct {
	Known bool   `json:"known,omitempty"`
	Value string `json:"value,omitempty"`
	Err   string `json:"error,omitempty"`
}

// Control is who controls a contract, and what runs there. Addresses are EIP-55; what the contract has no getter for is
// empty.
type Control struct {
	Owner          string `json:"owner,omitempty"`
	PendingOwner   string `json:"pending_owner,omitempty"`  // whom the contract is offered to; empty: nobody
	Implementation string `json:"implementation,omitempty"` // ERC-1967, else the only one that ran; empty: none, or several
	footprint.Code

	KMSPubkeys        []string `json:"kms_pubkeys,omitempty"`        // k256 and CA, in hex without prefix
	GatewayAppID      string   `json:"gateway_app_id,omitempty"`     // as the contract spells it
	AppImplementation string   `json:"app_implementation,omitempty"` // also where it has its older name, appAuthImplementation
	AggregatedMRs     []string `json:"aggregated_mrs,omitempty"`     // the allowed ones that are known, sorted
	Read              []string `json:"read,omitempty"`               // which of these four are known, sorted: without its name here, an empty one is not known to be none
}

// About is what is known of one field of Control.
type About struct {
	Name  string // as Control spells it
	What  string // as a sentence does
	Later bool   // earlier releases did not read it: a baseline may lack it, and Control.Read names it where it is known
}

// The fields, by their places in Fields and in what Values return.
const (
	Owner = iota
	PendingOwner
	Implementation
	Code // footprint.Code compares it, account by account: it has no value
	KMSPubkeys
	GatewayAppID
	AppImplementation
	AggregatedMRs
)

// Fields has every field.
var Fields = []About{
	{"owner", "the owner", false},
	{"pending_owner", "the pending owner", false},
	{"implementation", "the implementation", false},
	{"code", "the code that runs", false},
	{"kms_pubkeys", "the KMS's public keys", true},
	{"gateway_app_id", "the gateway's app id", true},
	{"app_implementation", "the implementation of apps", true},
	{"aggregated_mrs", "the allowed measurements", true},
}

// Separator is between the parts of a field that is a list.
const Separator = ", "

func parts(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, Separator)
}

// Values returns what the contract said. Measurements come from the list, which is read separately.
func (r *Reading) Values(contract string, measurements Field) []Field {
	implementation, keys := r.Implementation, Field{Err: cmp.Or(r.K256Pubkey.Err, r.CAPubkey.Err)}
	implementation.Value = cmp.Or(implementation.Value, r.Code.Only(contract))
	keys.Known = r.K256Pubkey.Known && r.CAPubkey.Known
	if keys.Known && r.K256Pubkey.Value+r.CAPubkey.Value != "" {
		keys.Value = r.K256Pubkey.Value + Separator + r.CAPubkey.Value
	}
	return []Field{r.Owner, r.PendingOwner, implementation, {}, keys, r.GatewayAppID, r.AppImplementation, measurements}
}

// Values returns what a report or a baseline has.
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

// Set takes over values.
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

// Change compares a value with what is wanted or, where that is empty, with what it was since a time. A provider that answers no
// call must not make a change: what is gone has to be proven.
func Change(field int, is, was, wanted string, proven bool, since time.Time) footprint.Difference {
	f, want, by := Fields[field], cmp.Or(wanted, was), "policy"
	if wanted == "" {
		by = "baseline"
	}
	var d footprint.Difference
	switch {
	case is == "" && want != "" && !proven:
		d.Unseen = fmt.Sprintf("%s was %s, and that it is gone is not proven", f.What, beyond(field, want, ""))
	case sanitize.BareHex(is) == sanitize.BareHex(want):
	case f.Later:
		d.Changed = fmt.Sprintf("%s: the contract has %s, the %s has %s", f.What, beyond(field, is, want), by, beyond(field, want, is))
	case wanted != "":
		d.Changed = fmt.Sprintf("%s is %s, the policy says %s", f.What, cmp.Or(is, "none"), want)
	default:
		d.Changed = fmt.Sprintf("%s is %s, and was %s since %s", f.What, cmp.Or(is, "none"), cmp.Or(want, "none"), since.UTC().Format("2006-01-02 15:04 MST"))
	}
	return d
}

// beyond is a value, fit to show; of measurements only those that the other one lacks.
func beyond(field int, a, b string) string {
	if field == AggregatedMRs {
		others := parts(b)
		a = strings.Join(slices.DeleteFunc(parts(a), func(id string) bool { return slices.Contains(others, id) }), Separator)
	}
	return cmp.Or(sanitize.Plain(a), "none")
}

// Or returns the control with those fields of another one that it lacks itself.
func (c Control) Or(other Control) Control {
	values := c.Values()
	for i, v := range other.Values() {
		values[i] = cmp.Or(values[i], v)
	}
	c.Set(values)
	return c
}

// Learn returns the control of a baseline with the fields that it lacks. That the contract has no value, and which measurements
// are all, has to be proven: a provider that leaves something out must not make a change of it later.
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

// Differs names the fields that are not as they were. An offer to another owner is no change yet.
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
