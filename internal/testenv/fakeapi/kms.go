package fakeapi

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
)

// OffChain is the contract address of the KMS without a contract. Its chain id is 0.
const OffChain = "phala"

// KMS is one KMS with its nodes. Both versions of the API's answers are made from it. Nil pointers become null.
type KMS struct {
	ID           string  `json:"id"`
	Slug         *string `json:"slug"`
	Label        *string `json:"label"`
	Contract     string  `json:"contract_address"`
	ChainID      uint64  `json:"chain_id"`
	K256Pubkey   *string `json:"k256_pubkey"`
	CAPubkey     *string `json:"ca_pubkey"`
	GatewayAppID *string `json:"gateway_app_id"`
	Nodes        []Node  `json:"nodes"`
}

// Node is one machine of a KMS.
type Node struct {
	ID      string  `json:"id"`
	Slug    *string `json:"slug"`
	URL     string  `json:"url"`
	Version string  `json:"version"`
}

// ReadKMS reads a JSON list of KMS. Unknown fields are errors.
func ReadKMS(r io.Reader) ([]KMS, error) {
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	var all []KMS
	if err := dec.Decode(&all); err != nil {
		return nil, fmt.Errorf("reading the list of KMS: %w", err)
	}
	return all, nil
}

// SetKMS replaces the list of KMS. The default list is derived from the chains: the KMS off chain, and one KMS with one node for
// each contract, with the keys of its row.
func (s *Server) SetKMS(all ...KMS) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kms = copied(all)
}

// UpdateKMS changes the list of KMS, which no longer follows the chains then. f must not keep the pointer.
func (s *Server) UpdateKMS(f func(*[]KMS)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.list()
	f(&all)
	s.kms = copied(all)
}

// list returns a copy of the list. The caller holds the lock.
func (s *Server) list() []KMS {
	if s.kms != nil {
		return copied(s.kms)
	}
	all := []KMS{newKMS(OffChain, OffChain, 0)}
	for _, name := range slices.Sorted(maps.Keys(s.chains)) {
		for i, c := range s.chains[name].Contracts {
			slug := name
			if i > 0 {
				slug = fmt.Sprintf("%s-%d", name, i+1)
			}
			k := newKMS(slug, c.Address, c.ChainID)
			k.K256Pubkey, k.CAPubkey = c.K256Pubkey, c.CAPubkey
			all = append(all, k)
		}
	}
	return copied(all)
}

func newKMS(slug, contract string, chainID uint64) KMS {
	label, node := "KMS "+slug, slug+"-node"
	return KMS{
		ID: "kc_" + slug, Slug: &slug, Label: &label, Contract: contract, ChainID: chainID,
		Nodes: []Node{{ID: "kms_" + slug, Slug: &node, URL: "https://kms." + slug + ".example", Version: "v0.5.8"}},
	}
}

// copied returns a deep copy.
func copied(all []KMS) []KMS {
	out := []KMS{}
	must(json.Unmarshal(encode(append([]KMS{}, all...)), &out))
	return out
}

// contractsSince is the first API version with contracts. Versions are dates and compare as strings.
const contractsSince = "2026-06-23"

// row is one item as the API sends it, with the ids that find it.
type row struct {
	id   string
	slug *string
	body []byte
}

// rows returns the rows of a KMS in an API version: one for its contract, or one for each node.
func (k KMS) rows(version string) (out []row) {
	if version >= contractsSince {
		return []row{{k.ID, k.Slug, encode(map[string]any{
			"id": k.ID, "slug": k.Slug, "label": k.Label, "contract_address": k.Contract, "chain_id": k.ChainID,
			"k256_pubkey": k.K256Pubkey, "ca_pubkey": k.CAPubkey, "node_count": len(k.Nodes),
		})}}
	}
	var chainID, contract any
	if k.ChainID != 0 {
		chainID, contract = k.ChainID, k.Contract
	}
	for _, n := range k.Nodes {
		out = append(out, row{n.ID, n.Slug, encode(map[string]any{
			"id": n.ID, "slug": n.Slug, "url": n.URL, "version": n.Version,
			"chain_id": chainID, "kms_contract_address": contract, "gateway_app_id": k.GatewayAppID,
		})})
	}
	return out
}
