package fakeapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// Chain is the API's answer about one chain. The JSON of these types is the API's own. Nil pointers become null; ids and addresses
// are sent exactly as given.
type Chain struct {
	ChainName string     `json:"chain_name"`
	ChainID   uint64     `json:"chain_id"`
	Contracts []Contract `json:"contracts"`
}

// Contract is one KMS contract of a chain.
type Contract struct {
	Address                string    `json:"contract_address"`
	ChainID                uint64    `json:"chain_id"`
	ChainName              string    `json:"chain_name"`
	K256Pubkey             *string   `json:"k256_pubkey"`
	CAPubkey               *string   `json:"ca_pubkey"`
	GatewayContractAddress *string   `json:"gateway_contract_address"`
	Devices                []Device  `json:"devices"`
	OSImages               []OSImage `json:"os_images"`
}

// Device is one row of a contract's devices.
type Device struct {
	ID       string  `json:"device_id"`
	NodeName *string `json:"node_name"`
	Allowed  *bool   `json:"on_chain_allowed"`
}

// OSImage is one row of a contract's images.
type OSImage struct {
	Name    string  `json:"name"`
	Version string  `json:"version"`
	Hash    *string `json:"os_image_hash"`
	Allowed *bool   `json:"on_chain_allowed"`
}

// ReadWorld reads one chain, or a list of chains, in the API's JSON. Unknown fields are errors.
func ReadWorld(r io.Reader) ([]Chain, error) {
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading the world: %w", err)
	}
	if raw = bytes.TrimSpace(raw); !bytes.HasPrefix(raw, []byte("[")) {
		raw = append(append([]byte("["), raw...), ']')
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var chains []Chain
	if err := dec.Decode(&chains); err != nil {
		return nil, fmt.Errorf("reading the world: %w", err)
	}
	return chains, nil
}

// body returns the API's answer. Empty lists are [], never null.
func (c Chain) body() []byte {
	if c.Contracts == nil {
		c.Contracts = []Contract{}
	}
	rows := make([]Contract, len(c.Contracts))
	for i, row := range c.Contracts {
		row.Devices = append([]Device{}, row.Devices...)
		row.OSImages = append([]OSImage{}, row.OSImages...)
		rows[i] = row
	}
	c.Contracts = rows
	return encode(c)
}

// clone returns a deep copy.
func (c Chain) clone() (out Chain) {
	must(json.Unmarshal(c.body(), &out))
	return out
}
