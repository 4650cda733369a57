package testchain_test

import (
	"maps"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

func TestEveryContractHasTheDocumentedInterface(t *testing.T) {
	v := readVectors(t)
	for _, name := range []string{testchain.Plain, testchain.Backdoor, testchain.Moved} {
		t.Run(name, func(t *testing.T) {
			a, err := testchain.Contract(name)
			must(t, err)
			selectors := maps.Clone(v.Getters)
			maps.Copy(selectors, v.Writers)
			for signature, selector := range selectors {
				if m, err := a.ABI.MethodById(selector); err != nil || m.Sig != signature {
					t.Errorf("selector %s: got %v, %v, want %s", selector, m, err, signature)
				}
			}
			for signature, topic := range v.Topics {
				if e, err := a.ABI.EventByID(topic); err != nil || e.Sig != signature {
					t.Errorf("topic %s: got %v, %v, want %s", topic, e, err, signature)
				}
			}
		})
	}
	if _, err := testchain.Contract("Nobody"); err == nil {
		t.Error("a contract that does not exist was found")
	}
}

// info is the argument of setKmsInfo.
type info struct{ K256Pubkey, CaPubkey, Quote, Eventlog []byte }

func TestEverythingLiesInItsDocumentedSlot(t *testing.T) {
	v := readVectors(t)
	c := start(t, testchain.Options{})
	k := deploy(t, c, testchain.Plain)
	ctx := t.Context()
	app := common.Address{0: 0xab, 19: 0xcd}

	for _, w := range []struct {
		method string
		arg    any
	}{
		{"setKmsInfo", info{[]byte{1}, []byte{2}, []byte{3}, []byte{4}}},
		{"setKmsQuote", []byte{33}},
		{"setKmsEventlog", []byte{44}},
		{"setGatewayAppId", "gate"},
		{"registerApp", app},
		{"addKmsAggregatedMr", id(6)},
		{"addKmsDevice", id(7)},
		{"addOsImageHash", id(8)},
		{"setAppImplementation", app},
		{"transferOwnership", testchain.Address("stranger")},
	} {
		if _, err := k.Send(ctx, w.method, w.arg); err != nil {
			t.Fatal(err)
		}
	}

	slot := func(name string) common.Hash { return common.BigToHash(big.NewInt(v.SequentialSlots[name])) }
	in := func(name string, key []byte) common.Hash {
		s := slot(name)
		return crypto.Keccak256Hash(common.LeftPadBytes(key, 32), s[:])
	}
	yes := common.BigToHash(common.Big1)
	rows := []struct {
		name string
		slot common.Hash
		want common.Hash
	}{
		{"kmsInfo.k256Pubkey", slot("kmsInfo.k256Pubkey"), short("\x01")},
		{"kmsInfo.caPubkey", slot("kmsInfo.caPubkey"), short("\x02")},
		{"kmsInfo.quote", slot("kmsInfo.quote"), short("\x21")},
		{"kmsInfo.eventlog", slot("kmsInfo.eventlog"), short("\x2c")},
		{"gatewayAppId", slot("gatewayAppId"), short("gate")},
		{"registeredApps", in("registeredApps", app[:]), yes},
		{"kmsAllowedAggregatedMrs", in("kmsAllowedAggregatedMrs", id(6).Bytes()), yes},
		{"kmsAllowedDeviceIds", in("kmsAllowedDeviceIds", id(7).Bytes()), yes},
		{"allowedOsImages", in("allowedOsImages", id(8).Bytes()), yes},
		{"appImplementation", slot("appImplementation"), common.BytesToHash(app[:])},
		{"owner", v.NamespacedSlots["openzeppelin.Ownable"], common.BytesToHash(testchain.Address("owner").Bytes())},
		{"pending owner", v.NamespacedSlots["openzeppelin.Ownable2Step"], common.BytesToHash(testchain.Address("stranger").Bytes())},
		{"initialized version", v.NamespacedSlots["openzeppelin.Initializable"], yes},
	}
	for _, r := range rows {
		if got := storageAt(t, c, k.Address(), r.slot); got != r.want {
			t.Errorf("%s at slot %s: got %s, want %s", r.name, r.slot, got, r.want)
		}
	}

	next, err := k.Upgrade(ctx, testchain.Backdoor)
	must(t, err)
	if got := storageAt(t, c, k.Address(), v.NamespacedSlots["erc1967.implementation"]); got != common.BytesToHash(next[:]) {
		t.Errorf("implementation after the upgrade: got %s, want %s", got, next)
	}
}

// short returns the storage word of a string of less than 32 bytes: its bytes, then twice its length in the last byte.
func short(s string) common.Hash {
	h := common.BytesToHash(common.RightPadBytes([]byte(s), 32))
	h[31] = byte(2 * len(s))
	return h
}

func TestAListEntryLiesAtItsPublishedStorageKey(t *testing.T) {
	c := start(t, testchain.Options{})
	k := deploy(t, c, testchain.Plain)
	ctx := t.Context()
	for _, m := range readVectors(t).MappingSlots {
		allow, remove := k.AllowDevice, k.RemoveDevice
		if m.Mapping == "allowedOsImages" {
			allow, remove = k.AllowImage, k.RemoveImage
		}
		var got []common.Hash
		for _, write := range []func() error{
			func() error { return nil },
			func() error { return allow(ctx, m.Key) },
			func() error { return remove(ctx, m.Key) },
		} {
			must(t, write())
			got = append(got, storageAt(t, c, k.Address(), m.StorageKey))
		}
		if d := cmp.Diff([]common.Hash{{}, common.BigToHash(common.Big1), {}}, got); d != "" {
			t.Errorf("%s of %s before, allowed, removed (-want +got):\n%s", m.Mapping, m.Key, d)
		}
	}
}

func TestAMovedListLeavesTheDocumentedSlotsEmpty(t *testing.T) {
	c := start(t, testchain.Options{})
	k := deploy(t, c, testchain.Moved)
	for _, m := range readVectors(t).MappingSlots {
		allow := k.AllowDevice
		if m.Mapping == "allowedOsImages" {
			allow = k.AllowImage
		}
		must(t, allow(t.Context(), m.Key))
		if got := storageAt(t, c, k.Address(), m.StorageKey); got != (common.Hash{}) {
			t.Errorf("%s of %s: got %s at the documented slot", m.Mapping, m.Key, got)
		}
		out, err := k.Call(t.Context(), m.Mapping, m.Key)
		must(t, err)
		if out[0] != true {
			t.Errorf("%s of %s: the getter says %v", m.Mapping, m.Key, out[0])
		}
	}
}
