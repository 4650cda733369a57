package kmsapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// KMS is one KMS as the API describes it. Up to version 2026-05-22 the API describes nodes, and several of them may
// have one contract; from 2026-06-23 on it describes contracts. What the version has no word for, or the API leaves
// out, is empty. Texts are as sent, however long or odd, but for the key, which is masked.
type KMS struct {
	ID          string
	Slug        string
	Label       string          // from 2026-06-23
	URL         string          // of the node; up to 2026-05-22
	Version     string          // of the node; up to 2026-05-22
	ChainID     uint64          // 0: off chain
	Contract    *common.Address // nil: off chain, or on a chain and without a contract that the API knows
	K256Pubkey  string
	CAPubkey    string
	PerContract bool   // described as a contract (from 2026-06-23), not as a node
	NodeCount   uint64 // of the contract; from 2026-06-23

	// GatewayAppID is a free text, with or without 0x. Where it is empty and HasGatewayAppID set, the API has the field
	// and nothing in it: null or "".
	GatewayAppID    string
	HasGatewayAppID bool
}

// Info fetches what the API says of one KMS, by id or slug. Errors are as those of OnChainDetail.
func (c *Client) Info(ctx context.Context, idOrSlug string) (KMS, error) {
	k, _, err := fetch(ctx, c, call{endpoint: kmsInfo, path: "/kms/", name: idOrSlug}, object.kms)
	if status, ok := errors.AsType[*StatusError](err); ok && status.Status == http.StatusNotFound {
		err = fmt.Errorf("the API knows no such KMS: %w", err)
	}
	if err != nil {
		return KMS{}, c.all.Error(fmt.Errorf("fetching the KMS %s: %w", sanitize.Plain(idOrSlug), err))
	}
	return k, nil
}

// kms is the body of GET /kms/{kms_id}, of any version, and a row of the list. It tells the two shapes apart by the name of
// the contract's field, since the API may serve another version than the one that was asked for.
func (o object) kms() KMS {
	k := KMS{
		ID:         o.required("id"),
		Slug:       o.optional("slug"),
		K256Pubkey: o.optional("k256_pubkey"),
		CAPubkey:   o.optional("ca_pubkey"),
	}
	_, k.HasGatewayAppID = o.fields["gateway_app_id"]
	k.GatewayAppID = o.optional("gateway_app_id")
	if _, node := o.fields["kms_contract_address"]; node {
		k.URL, k.Version = o.required("url"), o.required("version")
		if kind(o.fields["chain_id"]) != "null" {
			k.ChainID = o.number("chain_id")
		}
		k.Contract = o.contractOf("kms_contract_address", k.ChainID)
		return k
	}
	k.PerContract = true
	k.Label = o.optional("label")
	o.value("contract_address")
	k.ChainID, k.NodeCount = o.number("chain_id"), o.number("node_count")
	k.Contract = o.contractOf("contract_address", k.ChainID)
	return k
}

// contractOf reads the address of a contract, which must be bound to a chain.
func (o object) contractOf(name string, chainID uint64) *common.Address {
	switch s := o.optional(name); {
	case s == "", s == "phala" && chainID == 0:
		return nil
	case chainID == 0:
		o.fail(o.at("chain_id"), "missing, where "+name+" is "+sanitize.Quote(s))
		return nil
	default:
		a := o.address(name)
		return &a
	}
}
