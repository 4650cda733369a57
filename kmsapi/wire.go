package kmsapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// OnChainDetail is the response of GET /kms/on-chain/{chain}. Texts are unchanged except that the key is masked.
type OnChainDetail struct {
	ChainName string
	ChainID   uint64
	Contracts []Contract
	Source    Source
}

// Contract is one row of contracts. Texts that the API omits are empty.
type Contract struct {
	Address                common.Address
	ChainID                uint64
	ChainName              string
	K256Pubkey             string
	CAPubkey               string
	GatewayContractAddress string
	Devices                []Device
	OSImages               []OSImage
}

// Device is one row of devices. ID may be malformed.
type Device struct {
	ID       string
	NodeName string
	Allowed  Allowed
}

// OSImage is one row of os_images. Hash may be malformed. It is empty if the API sends null, "" or nothing.
type OSImage struct {
	Name    string
	Version string
	Hash    string
	Allowed Allowed
}

// Allowed is on_chain_allowed: what the API says the contract answers.
type Allowed uint8

// The states of Allowed. AllowedUnknown is null or absent, which never means false.
const (
	AllowedUnknown Allowed = iota
	AllowedFalse
	AllowedTrue
)

// maxContracts limits the contracts of a chain: each costs round trips, metrics and space on the page.
const maxContracts = 1000

// Decode decodes the body of an on-chain detail. Every error is an *InvalidError. Unknown fields are ignored. A missing required
// field, a wrong type, a duplicate key, invalid UTF-8 and trailing data are errors. Names match exactly: encoding/json alone
// would let "On_Chain_Allowed" override the field.
func Decode(body []byte) (*OnChainDetail, error) {
	return decode(string(body), sanitize.Redactor{}, object.detail)
}

// decode returns the zero value with any error.
func decode[T any](body string, key sanitize.Redactor, read func(object) T) (out T, err error) {
	o := whole(body, key)
	if all := read(o); o.err == nil {
		out = all
	}
	return out, o.err
}

func (o object) detail() *OnChainDetail {
	detail := &OnChainDetail{ChainName: o.required("chain_name"), ChainID: o.number("chain_id"), Contracts: list(o, "contracts", object.contract)}
	if n := len(detail.Contracts); n > maxContracts {
		o.fail("contracts", fmt.Sprintf("%d rows, more than %d", n, maxContracts))
	}
	return detail
}

func (o object) contract() Contract {
	return Contract{
		Address:                o.address("contract_address"),
		ChainID:                o.number("chain_id"),
		ChainName:              o.required("chain_name"),
		K256Pubkey:             o.optional("k256_pubkey"),
		CAPubkey:               o.optional("ca_pubkey"),
		GatewayContractAddress: o.optional("gateway_contract_address"),
		Devices: list(o, "devices", func(o object) Device {
			return Device{o.required("device_id"), o.optional("node_name"), o.allowed()}
		}),
		OSImages: list(o, "os_images", func(o object) OSImage {
			return OSImage{o.required("name"), o.required("version"), o.optional("os_image_hash"), o.allowed()}
		}),
	}
}

// decoder keeps the first error.
type decoder struct {
	key sanitize.Redactor
	err error
}

func (d *decoder) fail(path, reason string) {
	if d.err == nil {
		d.err = &InvalidError{Path: path, Reason: reason}
	}
}

// whole parses a body, which must be one object.
func whole(body string, key sanitize.Redactor) object {
	d := &decoder{key: key}
	raw := bytes.TrimSpace([]byte(body))
	if len(raw) == 0 {
		d.fail("", "empty body")
	} else if err := json.Unmarshal(raw, new(json.RawMessage)); err != nil {
		d.fail("", err.Error())
	}
	if !utf8.Valid(raw) {
		d.fail("", "not UTF-8, as JSON is")
	}
	return d.object("", raw)
}

// object is a JSON object and its path. Its fields are valid JSON.
type object struct {
	*decoder
	path   string
	fields map[string]json.RawMessage
}

// object splits raw, which is valid JSON, into fields. It rejects duplicate keys.
func (d *decoder) object(path string, raw json.RawMessage) object {
	o := object{d, path, map[string]json.RawMessage{}}
	if d.err == nil && kind(raw) != "an object" {
		d.fail(path, "want an object, got "+kind(raw))
	}
	if d.err != nil {
		return o
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	_, _ = dec.Token()
	for dec.More() {
		token, _ := dec.Token()
		name, _ := token.(string)
		if _, twice := o.fields[name]; twice {
			d.fail(path, sanitize.Quote(d.key.Text(name))+" given twice")
		}
		var value json.RawMessage
		_ = dec.Decode(&value)
		o.fields[name] = value
	}
	return o
}

// list reads the objects of a required list.
func list[T any](o object, name string, read func(object) T) (all []T) {
	var values []json.RawMessage
	if raw := o.value(name); json.Unmarshal(raw, &values) != nil {
		o.fail(o.at(name), "want a list, got "+kind(raw))
	}
	if o.err != nil {
		return nil
	}
	for i, value := range values {
		all = append(all, read(o.object(o.at(name)+"["+strconv.Itoa(i)+"]", value)))
	}
	return all
}

func (o object) at(name string) string {
	if o.path == "" {
		return name
	}
	return o.path + "." + name
}

// value returns a required field. Null counts as absent.
func (o object) value(name string) json.RawMessage {
	raw := o.fields[name]
	if kind(raw) == "null" {
		o.fail(o.at(name), "missing")
	}
	return raw
}

func (o object) required(name string) string {
	o.value(name)
	return o.optional(name)
}

func (o object) optional(name string) string {
	var s string // stays empty for null
	if raw := o.fields[name]; raw != nil && json.Unmarshal(raw, &s) != nil {
		o.fail(o.at(name), "want a string, got "+kind(raw))
	}
	return o.key.Text(s)
}

func (o object) number(name string) uint64 {
	var n uint64
	if raw := o.value(name); json.Unmarshal(raw, &n) != nil {
		o.fail(o.at(name), "want a whole number, got "+kind(raw))
	}
	return n
}

func (o object) address(name string) common.Address {
	s := o.required(name)
	a, err := sanitize.ParseAddress(s)
	if err != nil {
		o.fail(o.at(name), err.Error())
	}
	return a
}

func (o object) allowed() Allowed {
	switch raw := o.fields["on_chain_allowed"]; string(raw) {
	case "true":
		return AllowedTrue
	case "false":
		return AllowedFalse
	case "null", "":
		return AllowedUnknown
	default:
		o.fail(o.at("on_chain_allowed"), "want true, false or null, got "+kind(raw))
		return AllowedUnknown
	}
}

// kind names the type of a JSON value. A missing value is null.
func kind(raw json.RawMessage) string {
	if len(raw) == 0 {
		return "null"
	}
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	default:
		return "number " + sanitize.Quote(string(raw))
	}
}
