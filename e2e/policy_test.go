//go:build e2e

package e2e_test

import (
	"strings"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// policies compares the operator's lists with the contract.
var policies = []row{
	{sentence: "claim, chain and policy agree", settings: lists([]string{prod5, prod7}, []string{image057, image058}), rests: wholly},
	{sentence: "the contract allows an image that the policy does not list", exit: 1, settings: lists(nil, []string{image057}),
		finds: []string{"critical policy_denied_chain_allowed os_image 0.5.8"}, entries: []string{"mismatch  os_image 0.5.8"}},
	{sentence: "the contract refuses a device that the policy wants", exit: 1, settings: lists([]string{prod5, prod7, retired}, nil),
		finds: []string{"warning policy_allowed_chain_denied device retired"}},
	{sentence: "the contract refuses an image that the policy wants and the API does not list", exit: 1,
		settings: lists(nil, []string{image057, image058, unheard}),
		finds:    []string{"warning policy_allowed_chain_denied os_image 0x" + unheard}},
	{sentence: "a policy of empty lists allows nothing", exit: 1, settings: lists([]string{}, []string{}),
		finds: []string{
			"critical policy_denied_chain_allowed device prod5", "critical policy_denied_chain_allowed device prod7",
			"critical policy_denied_chain_allowed os_image 0.5.7", "critical policy_denied_chain_allowed os_image 0.5.8",
		}},
	{sentence: "API and policy refuse an image that the contract allows", exit: 1, claim: says(image058, false), settings: lists(nil, []string{image057}),
		finds: []string{"critical claim_denied_chain_allowed os_image 0.5.8", "critical policy_denied_chain_allowed os_image 0.5.8"}},
	{sentence: "an image that the policy wants is allowed without the API's knowledge", exit: 1, claim: leaveOut(image058),
		settings: lists(nil, []string{image057, image058}), finds: []string{"critical unlisted_chain_allowed os_image 0.5.8"}},
	{sentence: "the policy is compared with the chain even if the API gives no answer", exit: 1, settings: lists(nil, []string{image057}),
		claim: func(_ *stage, c *fakeapi.Chain) { c.Contracts[0].OSImages[1].Allowed = nil },
		finds: []string{"critical policy_denied_chain_allowed os_image 0.5.8", "info claim_unknown os_image 0.5.8"}},
	{sentence: "an image that the contract allows since the pinned block, as the policy wants, is pending",
		before: allow059, claim: says(image059, true), after: refuse059,
		settings: both(lists(nil, []string{image057, image058, image059}), behind),
		entries:  []string{"pending head_agrees os_image 0.5.9"}},
	{sentence: "a policy is unknown while the provider is down", exit: 3, settings: lists([]string{}, nil),
		rpc: rpcfault.Status(503, ""), fails: []string{"rpc p1: …503"}},
	{sentence: "a policy is compared with the chain while the API is down", exit: 1, settings: lists([]string{}, nil),
		finds: []string{"critical policy_denied_chain_allowed device prod5", "critical policy_denied_chain_allowed device prod7"},
		api:   status(404), fails: []string{"api api: …404", "api api: …404"}},
}

// unheard is an id that no source names.
var unheard = strings.Repeat("5e", 32)

// lists sets the lists of the policy; nil leaves a list out.
func lists(devices, images []string) func(*stage, *settings) {
	p := map[string]any{}
	for key, ids := range map[string][]string{"devices": devices, "os_images": images} {
		if ids == nil {
			continue
		}
		quoted := []string{}
		for _, id := range ids {
			quoted = append(quoted, "0x"+id)
		}
		p[key] = quoted
	}
	return policy(p)
}
