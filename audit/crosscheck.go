package audit

import (
	"cmp"
	"slices"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// crossCheck compares the API's list of KMS with its on-chain detail and with the contracts.
func (j *judgement) crossCheck(o *Observation, all []*target) []*target {
	if !j.intent.CrossChecks || !o.rightChain(j.intent.ChainID) {
		return all
	}
	if o.ListingFailed {
		for _, t := range all {
			t.reason("the API's list of KMS could not be read, so it was not compared")
		}
		return all
	}
	j.crossed = true
	for _, k := range o.Listing {
		if targetAt(all, k.Contract) == nil {
			t := newTarget(k.Contract)
			t.onlyInList, t.claimRead = true, true
			t.reason("the contract was not audited")
			all = append(all, t)
		}
	}
	for _, t := range all {
		t.looked[KMSContractMismatch] = true
		listed := slices.DeleteFunc(slices.Clone(o.Listing), func(k ListedKMS) bool { return k.Contract != t.address })
		if t.listed && t.foreign == 0 && len(listed) == 0 {
			t.find(KMSContractMismatch, "the API's on-chain detail lists the contract, but its list of KMS does not")
		}
		if t.audited() && t.runs() {
			t.crossCheckFields(listed, o.Claim)
		}
		if !t.listed && len(listed) > 0 {
			t.find(KMSContractMismatch, "the API's list of KMS has contract %s (%s), but its on-chain detail does not", t.address, sanitize.Quote(listed[0].ID))
		}
	}
	return all
}

// crossCheckFields compares what the API and the contract say about the contract's KMS.
func (t *target) crossCheckFields(listed []ListedKMS, claim *APIClaim) {
	said := map[string]bool{} // rows that say the same make one finding
	differ := func(k Kind, what, claimed string, is Field) {
		if !is.Known && is.Err != "" && claimed != "" {
			t.reason("%s could not be read: %s", what, is.Err)
		}
		if !is.Known || claimed == "" {
			return
		}
		t.looked[k] = true
		if sanitize.BareHex(claimed) == sanitize.BareHex(is.Value) || said[what+sanitize.BareHex(claimed)] {
			return
		}
		said[what+sanitize.BareHex(claimed)] = true
		t.find(k, "%s is %s in the API, but %s in the contract", what, sanitize.Quote(claimed), sanitize.Quote(cmp.Or(is.Value, "none")))
	}
	c := &t.reading.Control
	for _, row := range claim.Contracts {
		if row.Address == t.address {
			differ(KMSPubkeyMismatch, "k256_pubkey", row.K256Pubkey, c.K256Pubkey)
			differ(KMSPubkeyMismatch, "ca_pubkey", row.CAPubkey, c.CAPubkey)
		}
	}
	for _, k := range listed {
		differ(KMSPubkeyMismatch, "k256_pubkey", k.K256Pubkey, c.K256Pubkey)
		differ(KMSPubkeyMismatch, "ca_pubkey", k.CAPubkey, c.CAPubkey)
		differ(GatewayAppIDMismatch, "gateway_app_id", k.GatewayAppID, c.GatewayAppID)
	}
}
