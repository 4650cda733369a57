package testchain_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// vectors has facts about the real contract, from testdata.
type vectors struct {
	Getters         map[string]hexutil.Bytes `json:"getters"`
	Writers         map[string]hexutil.Bytes `json:"writers"`
	Topics          map[string]common.Hash   `json:"topics"`
	Policies        map[string]common.Hash   `json:"policies"`
	SequentialSlots map[string]int64         `json:"sequential_slots"`
	NamespacedSlots map[string]common.Hash   `json:"namespaced_slots"`
	MappingSlots    []struct {
		Mapping    string      `json:"mapping"`
		Key        common.Hash `json:"key"`
		StorageKey common.Hash `json:"storage_key"`
	} `json:"mapping_slots"`
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	b, err := os.ReadFile("testdata/kms-contract.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func start(t *testing.T, o testchain.Options) *testchain.Chain {
	t.Helper()
	c, err := testchain.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func deploy(t *testing.T, c *testchain.Chain, implementation string) *testchain.KMS {
	t.Helper()
	k, err := c.Deploy(t.Context(), testchain.DeployOptions{Implementation: implementation})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// dial connects over HTTP.
func dial(t *testing.T, c *testchain.Chain) *rpc.Client {
	t.Helper()
	r, err := rpc.DialContext(t.Context(), c.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func storageAt(t *testing.T, c *testchain.Chain, a common.Address, slot common.Hash) common.Hash {
	t.Helper()
	v, err := ethclient.NewClient(dial(t, c)).StorageAt(t.Context(), a, slot, nil)
	if err != nil {
		t.Fatal(err)
	}
	return common.BytesToHash(v)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func id(n byte) common.Hash { return common.Hash{0: 0xaa, 31: n} }
