//go:build e2e

package e2e_test

import (
	"fmt"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
)

// The versions of the API between which its list of KMS changed shape.
const (
	byNode     = "2026-05-22" // a row for each node, with a gateway_app_id and no keys
	byContract = "2026-06-23" // a row for each contract, with keys and no gateway_app_id
)

// inBothVersions returns the rows with all cross-checks, for each API version that has the compared fields.
func inBothVersions(tables ...[]row) (out []row) {
	for _, table := range tables {
		for _, r := range table {
			for _, v := range []string{byNode, byContract} {
				if r.version != "" && r.version != v {
					continue
				}
				versioned := r
				versioned.sentence += ", " + v
				versioned.settings = func(s *stage, c *settings) {
					c.API.Version, c.CrossChecks = v, true
					if r.settings != nil {
						r.settings(s, c)
					}
				}
				out = append(out, versioned)
			}
		}
	}
	return out
}

const unlisted = "the API's list of KMS could not be read"

// crosses compares the API's answers with each other and with the contract.
var crosses = []row{
	{sentence: "list, on-chain detail and contract agree in any spelling", rests: wholly},
	{sentence: "the list gives another gateway app id", version: byNode, exit: 1,
		kms:   inList(func(k *fakeapi.KMS) { k.GatewayAppID = new("0x" + retired[:40]) }),
		finds: []string{"warning gateway_app_id_mismatch"}},
	{sentence: "one of a contract's nodes has another gateway app id", version: byNode, exit: 1,
		kms: func(s *stage, all *[]fakeapi.KMS) {
			other := s.listed()[1]
			other.Nodes[0].ID, other.GatewayAppID = "base-prod7", new("")
			third := s.listed()[1]
			third.Nodes[0].ID, third.GatewayAppID = "base-prod9", new("gateway")
			*all = append(*all, other, third)
		},
		finds: []string{"warning gateway_app_id_mismatch"}},
	{sentence: "a list without gateway app ids is not compared with the contract's", version: byContract,
		kms: inList(func(k *fakeapi.KMS) { k.GatewayAppID = new("0x00") })},
	{sentence: "the list gives another k256_pubkey", version: byContract, exit: 1,
		kms:   inList(func(k *fakeapi.KMS) { k.K256Pubkey = new("0x02" + retired) }),
		finds: []string{"warning kms_pubkey_mismatch"}},
	{sentence: "the on-chain detail gives another ca_pubkey", exit: 1,
		claim: func(_ *stage, c *fakeapi.Chain) { c.Contracts[0].CAPubkey = new(retired) },
		finds: []string{"warning kms_pubkey_mismatch"}},
	{sentence: "a KMS without keys in the API is not compared with the contract's",
		claim: func(_ *stage, c *fakeapi.Chain) { c.Contracts[0].K256Pubkey, c.Contracts[0].CAPubkey = nil, nil },
		kms:   inList(func(k *fakeapi.KMS) { k.K256Pubkey, k.CAPubkey, k.GatewayAppID = nil, nil, new("") })},
	{sentence: "the list lacks the contract", exit: 1,
		kms:   func(_ *stage, all *[]fakeapi.KMS) { *all = (*all)[:1] },
		finds: []string{"warning kms_contract_mismatch"}},
	{sentence: "the list has the contract on another chain", exit: 1,
		kms:   inList(func(k *fakeapi.KMS) { k.ChainID++ }),
		finds: []string{"warning kms_contract_mismatch"}},
	{sentence: "the list has a contract that the on-chain detail lacks", exit: 1,
		kms: func(s *stage, all *[]fakeapi.KMS) {
			other := s.listed()[1]
			other.ID, other.Contract, other.Nodes[0].ID = "kc_other", somewhere, "other-prod1"
			*all = append(*all, other)
		},
		finds: []string{"warning kms_contract_mismatch  " + somewhere}, says: "the contract was not audited"},
	{sentence: "a list of several pages", kms: manyListed},

	{sentence: "there is no list", api: listFault(status(404)), exit: 3, says: unlisted, fails: []string{"api api: fetching the list of KMS: …404"}},
	{sentence: "the list is a web page", api: listFault(fakeapi.Fault{Name: fakeapi.HTML}), exit: 3, says: unlisted,
		fails: []string{"decode api: fetching the list of KMS: …text/html"}},
	{sentence: "the list is cut short", api: listFault(fakeapi.Fault{Name: fakeapi.Truncated}), exit: 3, says: unlisted,
		fails: []string{"decode api: fetching the list of KMS: "}},
	{sentence: "a page of the list is missing", kms: manyListed, api: onPage(2, status(404)), exit: 3, says: unlisted,
		fails: []string{"api api: fetching the list of KMS: …page 2: gone: …404…(read twice)"}},
	{sentence: "a page of the list is a web page", kms: manyListed, api: onPage(2, fakeapi.Fault{Name: fakeapi.HTML}), exit: 3, says: unlisted,
		fails: []string{"decode api: fetching the list of KMS: …text/html"}},
	{sentence: "every page of the list is the first", kms: manyListed, api: listFault(fakeapi.Fault{Name: fakeapi.RepeatedPage}), exit: 3, says: unlisted,
		fails: []string{"api api: fetching the list of KMS: …are inconsistent: page 2: …(read twice)"}},
	{sentence: "the list grows from request to request", kms: manyListed, api: listFault(fakeapi.Fault{Name: fakeapi.Growing}), exit: 3, says: unlisted,
		fails: []string{"api api: fetching the list of KMS: …are inconsistent: page 2: …(read twice)"}},
	{sentence: "a list that fails does not hide drift", claim: says(image059, true), api: listFault(status(404)), exit: 1, says: unlisted,
		finds: []string{"warning claim_allowed_chain_denied os_image 0.5.9"},
		fails: []string{"api api: fetching the list of KMS: …404", "api api: fetching the list of KMS: …404"}}, // at both looks
	{sentence: "the list lacks the contract at the second look, and failed at the first", claim: says(image059, true), exit: 1,
		kms: func(_ *stage, all *[]fakeapi.KMS) { *all = (*all)[:1] }, api: once(status(404)),
		finds: []string{"warning claim_allowed_chain_denied os_image 0.5.9"}, fails: []string{"api api: fetching the list of KMS: …404"},
		says: "a second look could not confirm kms_contract_mismatch"},
	{sentence: "the list has the contract on another chain at the first look only",
		api:   once(fakeapi.Fault{Name: fakeapi.Replaced, Path: "items.0.chain_id", Value: []byte("5")}),
		finds: []string{"info claim_unstable"}},
}

// inList changes the contract's KMS in the list.
func inList(change func(*fakeapi.KMS)) func(*stage, *[]fakeapi.KMS) {
	return func(_ *stage, all *[]fakeapi.KMS) { change(&(*all)[1]) }
}

// manyListed adds the KMS of 150 contracts on other chains, which makes a second page.
func manyListed(s *stage, all *[]fakeapi.KMS) {
	for i := range uint64(150) {
		other := s.listed()[1]
		other.ID, other.Slug, other.ChainID, other.Contract = fmt.Sprintf("kc_%d", i), nil, s.node.chainID+1+i, fmt.Sprintf("0x%040x", i+1)
		other.Nodes[0].ID = fmt.Sprintf("node-%d", i)
		*all = append(*all, other)
	}
}

func listFault(f fakeapi.Fault) fakeapi.Fault {
	f.Endpoint = fakeapi.List
	return f
}

func once(f fakeapi.Fault) fakeapi.Fault {
	f.Times = 1
	return listFault(f)
}

func onPage(n int, f fakeapi.Fault) fakeapi.Fault {
	f.Page = n
	return listFault(f)
}
