package testchain_test

import (
	"bytes"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// account is the state of an account from eth_getProof.
type account struct {
	CodeHash    common.Hash `json:"codeHash"`
	StorageHash common.Hash `json:"storageHash"`
}

func stateOf(t *testing.T, c *testchain.Chain, a common.Address) account {
	t.Helper()
	var got account
	must(t, dial(t, c).CallContext(t.Context(), &got, "eth_getProof", a, []string{}, "latest"))
	return got
}

func TestAPreloadedContractIsLikeADeployedOne(t *testing.T) {
	at := common.HexToAddress("0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C")
	devices, images := ids('d', 10), ids('i', 30)
	c := start(t, testchain.Options{Preload: []testchain.Preload{{Address: at, Devices: devices, Images: images}}})
	k := deploy(t, c, testchain.Plain)
	must(t, k.Seed(t.Context(), devices, images))

	// Both proxies must point at the same implementation to be comparable.
	impl, err := k.Upgrade(t.Context(), testchain.Plain)
	must(t, err)
	preloaded := c.KMS(at)
	codeBefore := implementationCode(t, c, at)
	_, err = preloaded.Send(t.Context(), "upgradeToAndCall", impl, []byte{})
	must(t, err)
	if d := cmp.Diff(stateOf(t, c, k.Address()), stateOf(t, c, at)); d != "" {
		t.Errorf("state (-deployed +preloaded):\n%s", d)
	}
	if codeAfter := implementationCode(t, c, at); len(codeAfter) == 0 || !bytes.Equal(codeBefore, codeAfter) {
		t.Error("the preloaded implementation is not the deployed one")
	}
	must(t, preloaded.RemoveDevice(t.Context(), devices[0]))
}

// implementationCode returns the code behind the proxy, without the implementation's own address in it.
func implementationCode(t *testing.T, c *testchain.Chain, a common.Address) []byte {
	t.Helper()
	slot := readVectors(t).NamespacedSlots["erc1967.implementation"]
	impl := common.BytesToAddress(storageAt(t, c, a, slot).Bytes())
	code, err := ethclient.NewClient(dial(t, c)).CodeAt(t.Context(), impl, nil)
	must(t, err)
	return bytes.ReplaceAll(code, impl[:], nil)
}
