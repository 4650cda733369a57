//go:build e2e

package e2e_test

import (
	"strconv"
	"strings"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
)

var truths = []row{
	{sentence: "an API that tells the truth is consistent"},
	{sentence: "two rows of one device that agree are one entry",
		claim: func(_ *stage, c *fakeapi.Chain) {
			c.Contracts[0].Devices = append(c.Contracts[0].Devices, fakeapi.Device{ID: "0x" + prod5, NodeName: new("prod5-b"), Allowed: new(true)})
		}},
	{sentence: "an image without a hash and a claim is not compared",
		claim: imageRow(fakeapi.OSImage{Name: "dstack-dev-0.5.0", Version: "0.5.0"}),
		finds: []string{"info no_hash os_image"}, entries: []string{"unverifiable no_hash os_image"}},
	{sentence: "a configured contract is found whatever the case of its letters",
		settings: func(s *stage, c *settings) { c.configure(strings.ToLower(s.kms.Address().Hex())) }},
}

var drifts = []row{
	{sentence: "the API claims OS image 0.5.9, which the contract refuses",
		claim: says(image059, true), exit: 1,
		finds: []string{"warning claim_allowed_chain_denied os_image 0.5.9"}, entries: []string{"mismatch  os_image 0.5.9"}},
	{sentence: "the API claims a device that the contract refuses",
		claim: says(retired, true), exit: 1,
		finds: []string{"warning claim_allowed_chain_denied device retired"}},
	{sentence: "the contract trusts a device that the API calls refused",
		claim: says(prod7, false), exit: 1,
		finds: []string{"critical claim_denied_chain_allowed device prod7"}},
	{sentence: "the contract trusts an image that the API calls refused",
		claim: says(image058, false), exit: 1,
		finds: []string{"critical claim_denied_chain_allowed os_image 0.5.8"}},
	{sentence: "all differences of one contract are reported, the critical ones first",
		claim: func(s *stage, c *fakeapi.Chain) {
			says(image059, true)(s, c)
			says(prod5, false)(s, c)
			says(retired, true)(s, c)
		}, exit: 1,
		finds: []string{
			"critical claim_denied_chain_allowed device prod5",
			"warning claim_allowed_chain_denied device retired",
			"warning claim_allowed_chain_denied os_image 0.5.9",
		}},
	{sentence: "two rows of one device contradict each other",
		claim: func(_ *stage, c *fakeapi.Chain) {
			c.Contracts[0].Devices = append(c.Contracts[0].Devices, fakeapi.Device{ID: strings.ToUpper(prod5), Allowed: new(false)})
		}, exit: 1,
		finds: []string{"warning duplicate_conflict device prod5"}},
	{sentence: "the API does not list a contract that is configured",
		settings: func(s *stage, c *settings) { c.configure(s.kms.Address().Hex(), somewhere) }, exit: 1,
		finds: []string{"critical no_code  " + somewhere, "warning contract_not_listed  " + somewhere}},
	{sentence: "the API lists a contract that is not configured",
		claim:    anotherContract,
		settings: func(s *stage, c *settings) { c.configure(s.kms.Address().Hex()) }, exit: 1,
		finds: []string{"warning contract_unexpected  " + somewhere}},
	{sentence: "nothing is deployed where the API lists a contract",
		claim: anotherContract, exit: 1,
		finds:   []string{"critical no_code  " + somewhere},
		entries: []string{"unverifiable not_read device prod5"}},
	{sentence: "drift is drift even where another id could not be checked",
		claim: func(s *stage, c *fakeapi.Chain) {
			says(image059, true)(s, c)
			c.Contracts[0].Devices[0].Allowed = nil
		}, exit: 1,
		finds: []string{"warning claim_allowed_chain_denied os_image 0.5.9", "info claim_unknown device prod5"}},
	{sentence: "at its deployment block the contract allowed nothing",
		settings: func(s *stage, c *settings) { c.Chains[0].Block = strconv.FormatUint(s.born, 10) }, exit: 1,
		finds: []string{
			"warning claim_allowed_chain_denied device prod5",
			"warning claim_allowed_chain_denied device prod7",
			"warning claim_allowed_chain_denied os_image 0.5.7",
			"warning claim_allowed_chain_denied os_image 0.5.8",
		}},
}

var doubts = []row{
	{sentence: "the API gives no answer for a device and for an image",
		claim: func(_ *stage, c *fakeapi.Chain) {
			c.Contracts[0].Devices[0].Allowed, c.Contracts[0].OSImages[2].Allowed = nil, nil
		}, exit: 3,
		finds:   []string{"info claim_unknown device prod5", "info claim_unknown os_image 0.5.9"},
		entries: []string{"unverifiable claim_absent device prod5", "unverifiable claim_absent os_image 0.5.9"},
		says:    "2 of 6 entries: the API gives no answer"},
	{sentence: "an id is too short",
		claim: imageRow(fakeapi.OSImage{Name: "dstack-0.6.0", Version: "0.6.0", Hash: new("6427f4"), Allowed: new(true)}), exit: 3,
		finds: []string{`warning malformed_id os_image "6427f4"`}, says: "the id is not 32 bytes of hex"},
	{sentence: "a device has an id of 64 bytes",
		claim: func(_ *stage, c *fakeapi.Chain) { c.Contracts[0].Devices[2].ID = prod5 + prod7 }, exit: 3,
		finds: []string{`warning malformed_id device "` + prod5 + prod7 + `"`}, entries: []string{`unverifiable malformed_id device "` + prod5 + prod7 + `"`}},
	{sentence: "an image without a hash has a claim",
		claim: imageRow(fakeapi.OSImage{Name: "dstack-dev-0.5.0", Version: "0.5.0", Allowed: new(true)}), exit: 3,
		finds: []string{"info no_hash os_image"}, says: "the API makes a claim about an image without a hash"},
	{sentence: "without verification, a contract without lists is not compared",
		claim: listNothing, settings: plain, exit: 3,
		says: "nothing was compared"},
	{sentence: "a chain without contracts is not compared",
		claim: func(_ *stage, c *fakeapi.Chain) { c.Contracts = nil }, exit: 3,
		fails: []string{"api api: the API lists no contract on this chain"}},
	{sentence: "the configured chain id is neither the API's nor the provider's",
		settings: func(_ *stage, c *settings) { c.Chains[0].ChainID = 1 }, exit: 3,
		finds: []string{"critical chain_mismatch", "critical chain_mismatch", "critical chain_mismatch"},
		fails: []string{"rpc p1: eth_chainId answers … but chain_id is configured as 1"}},
	{sentence: "the API's whole answer is about another chain",
		api: fakeapi.Fault{Name: fakeapi.WrongChainID}, exit: 3,
		finds: []string{"critical chain_mismatch", "critical chain_mismatch"}, says: "because the chain ids disagree"},
	{sentence: "the API lists the contract on another chain",
		api: fakeapi.Fault{Name: fakeapi.ForeignRow}, exit: 3,
		finds: []string{"critical chain_mismatch"}, says: "because the chain ids disagree"},
	{sentence: "one chain's failure leaves the other's result complete, and the report unknown",
		settings: twoChains, exit: 3,
		fails: []string{"api api: …400 Bad Request…Unsupported chain: nowhere"}},
	{sentence: "one chain's failure does not hide the other's drift",
		claim: says(image059, true), settings: twoChains, exit: 1,
		finds: []string{"warning claim_allowed_chain_denied os_image 0.5.9"},
		fails: []string{"api api: …400 Bad Request…Unsupported chain: nowhere"}},
}

// says changes the API's claim about one id.
func says(id string, allowed bool) func(*stage, *fakeapi.Chain) {
	is := func(raw string) bool { return strings.EqualFold(strings.TrimPrefix(raw, "0x"), id) }
	return func(_ *stage, chain *fakeapi.Chain) {
		c := &chain.Contracts[0]
		for i := range c.Devices {
			if is(c.Devices[i].ID) {
				c.Devices[i].Allowed = &allowed
			}
		}
		for i := range c.OSImages {
			if is(*c.OSImages[i].Hash) {
				c.OSImages[i].Allowed = &allowed
			}
		}
	}
}

// twoChains adds a chain that the API does not know.
func twoChains(_ *stage, c *settings) {
	other := c.Chains[0]
	other.Name = "nowhere"
	c.Chains = append(c.Chains, other)
}

func imageRow(i fakeapi.OSImage) func(*stage, *fakeapi.Chain) {
	return func(_ *stage, c *fakeapi.Chain) { c.Contracts[0].OSImages = append(c.Contracts[0].OSImages, i) }
}

// anotherContract lists one more contract, at somewhere.
func anotherContract(s *stage, c *fakeapi.Chain) {
	more := s.truth().Contracts[0]
	more.Address, more.Devices, more.OSImages = somewhere, more.Devices[:1], more.OSImages[:0]
	c.Contracts = append(c.Contracts, more)
}

// configure sets the configured contracts.
func (c *settings) configure(addresses ...string) {
	for _, a := range addresses {
		c.Chains[0].Contracts = append(c.Chains[0].Contracts, contractSettings{Address: a})
	}
}
