//go:build e2e

package e2e_test

import (
	"context"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

var owner, heir = testchain.Address("owner"), testchain.Address("heir")

// controls compares who controls the contract with the policy.
var controls = []row{
	{sentence: "owner, implementation and code are as the policy says", rests: wholly, settings: wants(nil)},
	{sentence: "the same without proofs", settings: both(plain, wants(nil)), rests: "single unchecked"},
	{sentence: "the policy has another owner", exit: 1, settings: wants(map[string]any{"owner": somewhere}),
		finds: []string{"critical owner_changed"}, prints: "the owner is " + owner.Hex() + ", but the policy says " + somewhere},
	{sentence: "the policy has another implementation", exit: 1, settings: wants(map[string]any{"implementation": somewhere}),
		finds: []string{"critical implementation_changed"}},
	{sentence: "the policy has another code hash", exit: 1, settings: wants(map[string]any{"code_hash": "0x" + prod5}),
		finds: []string{"critical code_changed"}},
	{sentence: "keys, gateway and measurements are as the policy says", rests: wholly, before: send("addKmsAggregatedMr", common.Hash{1}), after: send("removeKmsAggregatedMr", common.Hash{1}),
		settings: wants(map[string]any{"aggregated_mrs": []string{common.Hash{1}.Hex()}, "kms_pubkeys": []string{k256Pubkey, strings.ToUpper(bare(caPubkey))}, "gateway_app_id": strings.ToLower(bare(gatewayAppID))}),
		prints:   "none     allowed   allowed"},
	{sentence: "the policy allows no measurement, but the contract does", exit: 1, before: send("addKmsAggregatedMr", common.Hash{1}), after: send("removeKmsAggregatedMr", common.Hash{1}),
		settings: wants(map[string]any{"aggregated_mrs": []string{}}), finds: []string{"critical policy_denied_chain_allowed aggregated_mr " + common.Hash{1}.Hex()}},
	{sentence: "the policy wants a measurement, but the contract allows none", exit: 1,
		settings: wants(map[string]any{"aggregated_mrs": []string{common.Hash{1}.Hex()}}), finds: []string{"warning policy_allowed_chain_denied aggregated_mr " + common.Hash{1}.Hex()}},
	{sentence: "a measurement is not in the policy", rests: wholly, before: send("addKmsAggregatedMr", common.Hash{1}), after: send("removeKmsAggregatedMr", common.Hash{1}),
		settings: wants(nil), prints: "unclaimed"},
	{sentence: "the policy has other public keys", exit: 1, settings: wants(map[string]any{"kms_pubkeys": []string{k256Pubkey, k256Pubkey}}),
		finds: []string{"critical kms_keys_changed"}, prints: "but the policy has " + bare(k256Pubkey) + ", " + bare(k256Pubkey)},
	{sentence: "the policy has another gateway", exit: 1, settings: wants(map[string]any{"gateway_app_id": "0xab"}), finds: []string{"warning gateway_changed"}},
	{sentence: "the policy has another implementation of apps", exit: 1, settings: wants(map[string]any{"app_implementation": somewhere}),
		finds: []string{"warning app_implementation_changed"}},
	{sentence: "the policy has nothing about control", settings: policy(map[string]any{"devices": []string{"0x" + prod5, "0x" + prod7}})},
	{sentence: "an ownership transfer that is pending is shown, but is not a finding", settings: wants(nil), before: offer(heir), after: offer(common.Address{}),
		prints: "a transfer of ownership is under way: " + heir.Hex() + " can accept it at any time"},
	{sentence: "a contract of the older generation has no pending owner", rests: wholly,
		before: func(ctx context.Context, s *stage) (err error) {
			if s.young, err = testchain.Deploy(ctx, s.node.client, testchain.DeployOptions{Implementation: testchain.Old}); err != nil {
				return err
			}
			return s.young.Seed(ctx, []common.Hash{id(prod5), id(prod7)}, []common.Hash{id(image057), id(image058)})
		},
		claim: func(s *stage, c *fakeapi.Chain) {
			c.Contracts[0].Address, c.Contracts[0].K256Pubkey, c.Contracts[0].CAPubkey = s.young.Address().Hex(), nil, nil
		},
		kms: func(s *stage, all *[]fakeapi.KMS) {
			(*all)[1].Contract, (*all)[1].K256Pubkey, (*all)[1].CAPubkey, (*all)[1].GatewayAppID = s.young.Address().Hex(), nil, nil, nil
		},
		settings: func(s *stage, c *settings) {
			c.configure(s.young.Address().Hex())
			c.Chains[0].Contracts[0].FromBlock, c.Chains[0].Contracts[0].Policy = s.born, map[string]any{"owner": owner.Hex()}
		},
		prints: "  owner " + owner.Hex() + "\n  implementation 0x"},
	{sentence: "the implementation cannot be read without proofs", exit: 3, says: "the implementation could not be read",
		settings: both(plain, wants(map[string]any{"implementation": somewhere})), rpc: rpcfault.Refuse("eth_getStorageAt", -32601, "no such method")},
	{sentence: "control is unknown while the provider is down", exit: 3,
		settings: wants(map[string]any{"owner": somewhere}), rpc: rpcfault.Status(503, ""), fails: []string{"rpc p1: …503"}},
	{sentence: "a provider is not asked for the owner, so it cannot lie", settings: wants(nil), rpc: answer("eth_call", otherOwner), rests: wholly},
	{sentence: "without verification, the lie is believed", exit: 1, settings: both(plain, wants(nil)), rpc: answer("eth_call", otherOwner),
		finds: []string{"critical owner_changed"}},
}

// policy gives the contract a policy.
func policy(p map[string]any) func(*stage, *settings) {
	return func(s *stage, c *settings) {
		scanned(s, c)
		c.Chains[0].Contracts[0].Policy = p
	}
}

// wants sets the policy to the contract's actual control, except for what other changes.
func wants(other map[string]any) func(*stage, *settings) {
	return func(s *stage, c *settings) {
		p := map[string]any{"owner": owner.Hex(), "implementation": s.runs.Hex(), "code_hash": s.code.Hex()}
		for k, v := range other {
			p[k] = v
		}
		policy(p)(s, c)
	}
}

// offer sets the pending owner; the zero address means none.
func offer(to common.Address) act {
	return func(ctx context.Context, s *stage) error {
		_, err := s.kms.Send(ctx, "transferOwnership", to)
		return err
	}
}

// otherOwner answers owner() with another owner.
func otherOwner(raw string) string {
	if raw == `"`+common.BytesToHash(owner.Bytes()).Hex()+`"` {
		return `"` + common.BytesToHash(heir.Bytes()).Hex() + `"`
	}
	return raw
}
