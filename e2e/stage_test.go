//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// The ids of the stage: public values of Base, and an image that only some tests allow.
const (
	prod5    = "c84e73c6ce0b01f85606727593be79296c30a41510679c4492aec02dc57407d0"
	prod7    = "e5a0c70bb6503de2d31c11d85914fe3776ed5b33a078ed856327c371a60fe0fd"
	retired  = "05c73429bc3868cca111bcf158ad59167b1f0c0d2dd8e0b98839d59e5cf0222d"
	image057 = "761c05d282c81abeae2d1a8f6d5b1e039c8ce14cc95a6da020b9ed2ff1056816"
	image058 = "6427f4f5ded88b72d326bd973e581c1689c5080c6444a0cf90fec7d9e4c8b92a"
	image059 = "bd369a8c2f9edb2b52dad48ac8e0b32dde5f1337c423a506b48d07403a7d8033"
)

var names = map[string]string{
	"0x" + prod5: "prod5", "0x" + prod7: "prod7", "0x" + retired: "retired",
	"0x" + image057: "0.5.7", "0x" + image058: "0.5.8", "0x" + image059: "0.5.9",
}

// The contract's values about its KMS. The API formats them differently.
var (
	k256Pubkey   = "0x02" + strings.Repeat("a7", 32)
	caPubkey     = "0x3059" + strings.Repeat("c5", 89)
	gatewayAppID = "0x" + strings.Repeat("Ab", 20)
)

// stage is a node and an API with one contract. The contract allows prod5, prod7, 0.5.7 and 0.5.8.
type stage struct {
	node    *node
	api     *api
	kms     *testchain.KMS
	born    uint64         // the block in which the contract had code but empty lists
	gate    string         // URL of the proxy behind the gate
	young   *testchain.KMS // another contract, deployed later
	runs    common.Address // the implementation
	code    common.Hash    // of the implementation
	secrets secrets
	keyFile string
	env     []string
}

func newStage(t *testing.T, name string) *stage {
	t.Helper()
	s := &stage{node: startNode(t, name), secrets: newSecrets()}
	s.kms = s.node.deploy(t)
	must(t, s.describe(t.Context()))
	var err error
	s.born, err = s.node.client.BlockNumber(t.Context())
	must(t, err)
	must(t, s.kms.Seed(t.Context(), []common.Hash{id(prod5), id(prod7)}, []common.Hash{id(image057), id(image058)}))
	must(t, s.advance(t.Context()))
	s.gate = s.secrets.guard(testenv.Serve(t, s.secrets.gate(s.node.proxy)))
	s.api = startAPI(t, "-key", s.secrets.key)
	// Each node uses another way to configure the key.
	if name == "geth" {
		s.env = []string{"PHALA_CLOUD_API_KEY=" + s.secrets.key}
	} else {
		s.keyFile = filepath.Join(t.TempDir(), "key")
		must(t, os.WriteFile(s.keyFile, []byte(s.secrets.key+"\n"), 0o600))
	}
	return s
}

// describe sets the contract's values about its KMS, and records its implementation and code.
func (s *stage) describe(ctx context.Context) error {
	info := struct{ K256Pubkey, CaPubkey, Quote, Eventlog []byte }{common.FromHex(k256Pubkey), common.FromHex(caPubkey), []byte("quote"), nil}
	_, err := s.kms.Send(ctx, "setKmsInfo", info)
	if err == nil {
		_, err = s.kms.Send(ctx, "setGatewayAppId", gatewayAppID)
	}
	if err != nil {
		return err
	}
	s.runs, s.code, err = s.node.running(ctx, s.kms.Address())
	return err
}

func id(hex string) common.Hash { return common.HexToHash(hex) }

// advance adds enough blocks for earlier changes to be visible at latest-5.
func (s *stage) advance(ctx context.Context) error {
	for range 6 {
		if err := s.kms.AllowDevice(ctx, id(prod5)); err != nil {
			return err
		}
	}
	return nil
}

// truth returns the true claim, with ids in every format that the API uses.
func (s *stage) truth() fakeapi.Chain {
	truth := s.node.claim(s.kms.Address(), []fakeapi.Device{
		{ID: prod5, NodeName: new("prod5"), Allowed: new(true)},
		{ID: "0x" + strings.ToUpper(prod7), NodeName: new("prod7"), Allowed: new(true)},
		{ID: retired, Allowed: new(false)},
	}, []fakeapi.OSImage{
		{Name: "dstack-0.5.7", Version: "0.5.7", Hash: new("0x" + image057), Allowed: new(true)},
		{Name: "dstack-0.5.8", Version: "0.5.8", Hash: new(image058), Allowed: new(true)},
		{Name: "dstack-0.5.9", Version: "0.5.9", Hash: new(image059), Allowed: new(false)},
	})
	truth.Contracts[0].K256Pubkey, truth.Contracts[0].CAPubkey = new(bare(k256Pubkey)), new(strings.ToUpper(bare(caPubkey)))
	return truth
}

// listed returns the true list of KMS: one off chain, and the contract's.
func (s *stage) listed() []fakeapi.KMS {
	node := func(name string) []fakeapi.Node {
		return []fakeapi.Node{{ID: name, URL: "https://" + name + ".example", Version: "v0.5.8"}}
	}
	return []fakeapi.KMS{
		{ID: "kc_phala", Contract: fakeapi.OffChain, Nodes: node("phala-prod")},
		{
			ID: "kc_base", Slug: new("base"), Contract: strings.ToLower(s.kms.Address().Hex()), ChainID: s.node.chainID,
			K256Pubkey: new(bare(k256Pubkey)), CAPubkey: &caPubkey, GatewayAppID: new(strings.ToLower(bare(gatewayAppID))), Nodes: node("base-prod5"),
		},
	}
}

// bare returns hex without its prefix.
func bare(s string) string { return strings.TrimPrefix(s, "0x") }

// config writes the row's configuration.
func (s *stage) config(t *testing.T, r row) string {
	t.Helper()
	c := s.node.settings(s.api)
	c.API.APIKeyFile = s.keyFile
	c.Chains[0].Providers[0] = s.secrets.provider("p1", s.gate)
	if r.settings != nil {
		r.settings(s, &c)
	}
	text, err := json.MarshalIndent(c, "", "  ")
	must(t, err)
	if r.text != nil {
		return writeConfig(t, r.text(string(text)))
	}
	return writeConfig(t, string(text))
}

// name returns the rows' name of an id, or of the contract if a finding has no id.
func (s *stage) name(id, contract string) string {
	switch {
	case names[id] != "":
		return names[id]
	case id != "" || contract == s.kms.Address().Hex():
		return id
	default:
		return contract
	}
}

// somewhere is an address without a contract.
const somewhere = "0xd343a3f5593b93D8056aB5D60c433622d7D65a80"
