//go:build e2e

package e2e_test

import (
	"context"
	"errors"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// passes has differences, which are looked at twice and then compared with the newest block.
var passes = []row{
	{sentence: "the contract allows the image before the second look",
		claim:     says(image059, true),
		meanwhile: event{"eth_chainId", 2, allow059}, after: refuse059,
		finds: []string{"info claim_unstable os_image 0.5.9"}},
	{sentence: "the API takes its claim back before the second look",
		claim: says(image059, true), later: func(*stage, *fakeapi.Chain) {},
		finds: []string{"info claim_unstable os_image 0.5.9"}},
	{sentence: "another difference is there at the second look",
		claim: says(image059, true), later: says(prod5, false), exit: 3,
		finds:   []string{"info claim_unstable device prod5", "info claim_unstable os_image 0.5.9"},
		entries: []string{"unverifiable unconfirmed device prod5"}, says: "could not be confirmed"},
	{sentence: "the API fails at the second look",
		claim: says(image059, true), exit: 3,
		api:     fakeapi.Fault{Name: fakeapi.Status, After: 1},
		entries: []string{"unverifiable unconfirmed os_image 0.5.9"}, says: "could not be confirmed",
		fails: []string{"api api: …500"}},
	{sentence: "the provider fails at the second look",
		claim: says(image059, true), settings: plain, exit: 3,
		meanwhile: event{"eth_chainId", 2, breakProvider},
		entries:   []string{"unverifiable unconfirmed os_image 0.5.9"}, says: "could not be confirmed",
		fails: []string{"rpc p1: …500"}},
	{sentence: "the API lists a contract at the second look only",
		claim: says(image059, true), exit: 1,
		settings: func(s *stage, c *settings) { c.configure(s.kms.Address().Hex()) },
		later: func(s *stage, c *fakeapi.Chain) {
			says(image059, true)(s, c)
			anotherContract(s, c)
		},
		finds: []string{"warning claim_allowed_chain_denied os_image 0.5.9"}, says: "a second look could not confirm contract_unexpected"},
	{sentence: "an image that the contract allows since the pinned block is pending",
		before: allow059, claim: says(image059, true), settings: behind, after: refuse059,
		entries: []string{"pending head_agrees os_image 0.5.9"}},
	{sentence: "a device that the contract refuses since the pinned block is pending",
		before: func(ctx context.Context, s *stage) error { return s.kms.RemoveDevice(ctx, id(prod7)) },
		claim:  says(prod7, false), settings: behind,
		after: func(ctx context.Context, s *stage) error {
			return errors.Join(s.kms.AllowDevice(ctx, id(prod7)), s.advance(ctx))
		},
		entries: []string{"pending head_agrees device prod7"}},
	{sentence: "a contract that was deployed after the pinned block is pending",
		before: func(ctx context.Context, s *stage) (err error) {
			s.young, err = testchain.Deploy(ctx, s.node.client, testchain.DeployOptions{})
			return err
		},
		claim: func(s *stage, c *fakeapi.Chain) {
			anotherContract(s, c)
			c.Contracts[1].Address, c.Contracts[1].Devices[0].Allowed = s.young.Address().Hex(), new(false)
		},
		settings: behind, exit: 3, says: "every entry is pending",
		entries: []string{"pending head_agrees device prod5"}},
	{sentence: "nothing is pending if pending_max is zero", exit: 1,
		before: allow059, claim: says(image059, true), after: refuse059,
		settings: func(s *stage, c *settings) {
			behind(s, c)
			c.PendingMax = "0s"
		},
		finds: []string{"warning claim_allowed_chain_denied os_image 0.5.9"}},
	{sentence: "a difference at the newest block too is drift", exit: 1,
		claim: says(image059, true), settings: behind,
		finds: []string{"warning claim_allowed_chain_denied os_image 0.5.9"}},
	{sentence: "the provider fails when it is asked for the newest block",
		claim: says(image059, true), exit: 3,
		settings: func(s *stage, c *settings) {
			behind(s, c)
			plain(s, c)
		},
		meanwhile: event{"eth_chainId", 3, breakProvider},
		entries:   []string{"unverifiable unconfirmed os_image 0.5.9"}, says: "could not be confirmed",
		fails: []string{"rpc p1: …500"}},
}

// behind audits at a block that is not the newest.
func behind(_ *stage, c *settings) { c.Chains[0].Block = "latest-5" }

func allow059(ctx context.Context, s *stage) error { return s.kms.AllowImage(ctx, id(image059)) }

func refuse059(ctx context.Context, s *stage) error {
	return errors.Join(s.kms.RemoveImage(ctx, id(image059)), s.advance(ctx))
}

// breakProvider fails every request after the current one.
func breakProvider(_ context.Context, s *stage) error {
	s.node.proxy.Set(rpcfault.Status(500, ""))
	return nil
}

// reorganise replaces the newest block.
func reorganise(ctx context.Context, s *stage) error {
	return wrap("reorganising", s.node.client.Client().CallContext(ctx, nil, "anvil_reorg", 1, []any{}))
}
