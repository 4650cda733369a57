package testchain_test

import (
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

func TestAnOldContractHasTheSameListsAndNoPendingOwner(t *testing.T) {
	c := start(t, testchain.Options{})
	k := deploy(t, c, testchain.Old)
	ctx := t.Context()
	for _, m := range readVectors(t).MappingSlots {
		allow := k.AllowDevice
		if m.Mapping == "allowedOsImages" {
			allow = k.AllowImage
		}
		must(t, allow(ctx, m.Key))
		if got := storageAt(t, c, k.Address(), m.StorageKey); got != common.BigToHash(common.Big1) {
			t.Errorf("%s of %s: got %s at the documented slot", m.Mapping, m.Key, got)
		}
	}
	if out, err := k.Call(ctx, "pendingOwner"); err == nil {
		t.Errorf("it has a pending owner: %v", out)
	}
	if _, err := k.Send(ctx, "transferOwnership", testchain.Address("stranger")); err != nil {
		t.Fatal(err)
	}
	out, err := k.Call(ctx, "owner")
	must(t, err)
	if out[0] != testchain.Address("stranger") {
		t.Errorf("after one step the owner is %v", out[0])
	}
}
