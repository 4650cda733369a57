//go:build e2e

package e2e_test

import (
	"time"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
)

// accepts has differences that the operator accepts until a date.
var accepts = []row{
	{sentence: "an accepted difference is not drift", claim: says(image059, true), settings: lives("claim_allowed_chain_denied", image059),
		entries: []string{"accepted  os_image 0.5.9"}, prints: "the rollout waits"},
	{sentence: "another difference is drift besides an accepted one", exit: 1, settings: lives("claim_allowed_chain_denied", image059),
		claim: func(s *stage, c *fakeapi.Chain) {
			says(image059, true)(s, c)
			says(retired, true)(s, c)
		},
		finds: []string{"warning claim_allowed_chain_denied device retired"}},
	{sentence: "an expired accept", exit: 1, claim: says(image059, true), settings: expired(lives("claim_allowed_chain_denied", image059)),
		finds: []string{"warning claim_allowed_chain_denied os_image 0.5.9", "warning accept_expired os_image 0.5.9"}},
	{sentence: "an accept of a difference that does not exist", settings: lives("claim_allowed_chain_denied", image059),
		finds: []string{"info accept_unused os_image 0.5.9"}},
	{sentence: "an expired accept of a difference that does not exist", settings: expired(lives("claim_allowed_chain_denied", image059)),
		finds: []string{"info accept_unused os_image 0.5.9"}},
	{sentence: "an accept about a contract that is not audited", settings: func(s *stage, c *settings) {
		lives("claim_allowed_chain_denied", image059)(s, c)
		c.Accept[0].Contract = somewhere
	}, finds: []string{"info accept_unused os_image 0.5.9"}, prints: somewhere + ", which is not audited on this chain"},
	{sentence: "one of two differences of an image is accepted", exit: 1, claim: says(image058, false),
		settings: both(lists(nil, []string{image057}), lives("claim_denied_chain_allowed", image058)),
		finds:    []string{"critical policy_denied_chain_allowed os_image 0.5.8"}, entries: []string{"mismatch  os_image 0.5.8"}},
	{sentence: "both differences of an image are accepted", claim: says(image058, false),
		settings: both(lists(nil, []string{image057}), lives("claim_denied_chain_allowed", image058), lives("policy_denied_chain_allowed", image058)),
		entries:  []string{"accepted  os_image 0.5.8"}},
	{sentence: "another owner is accepted", settings: both(wants(map[string]any{"owner": somewhere}), lives("owner_changed", "")), rests: wholly},
	{sentence: "an accept is not reported while the API is down", exit: 3, settings: lives("claim_allowed_chain_denied", image059),
		api: status(404), fails: []string{"api api: …404"}},
	{sentence: "the lie of a provider cannot be accepted", exit: 2, settings: lives("proof_invalid", ""), says: "proof_invalid cannot be accepted"},
}

// lives accepts a kind of finding for a month: about an image, or about the contract as a whole.
func lives(kind, image string) func(*stage, *settings) {
	return func(s *stage, c *settings) {
		a := acceptSettings{
			Chain: c.Chains[0].Name, Contract: s.kms.Address().Hex(), Kind: kind,
			Reason: "the rollout waits", Expires: time.Now().AddDate(0, 1, 0).Format(time.DateOnly),
		}
		if image != "" {
			a.List, a.ID = "os_image", "0x"+image
		}
		c.Accept = append(c.Accept, a)
	}
}

// expired makes what change accepts expire yesterday.
func expired(change func(*stage, *settings)) func(*stage, *settings) {
	return func(s *stage, c *settings) {
		change(s, c)
		c.Accept[0].Expires = time.Now().AddDate(0, 0, -2).Format(time.DateOnly)
	}
}
