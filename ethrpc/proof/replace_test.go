package proof_test

import (
	"bytes"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// TestAProxyAnswersAsItDidBeforeAnUpgrade runs an older implementation over the current storage.
func TestAProxyAnswersAsItDidBeforeAnUpgrade(t *testing.T) {
	p := start(t, testchain.Options{})
	k := p.deploy(t, testchain.Moved)
	before, after := ids('d', 2)[0], ids('d', 2)[1]
	must(t, k.AllowDevice(t.Context(), before))
	p.pin(t)
	w := p.world()
	p.call(t, w, k.Address(), pack(t, "owner"))
	moved := p.implementation(t, w, k.Address())
	_, err := k.Upgrade(t.Context(), testchain.Plain)
	must(t, err)
	must(t, k.AllowDevice(t.Context(), after))
	p.pin(t)

	w = p.world()
	slot := proof.Slot{Account: k.Address(), Key: kms.ImplementationSlot}
	ask := func(id common.Hash) proof.Result {
		for {
			res, err := w.CallReplacing(t.Context(), k.Address(), pack(t, "kmsAllowedDeviceIds", id), slot, common.BytesToHash(moved[:]))
			must(t, err)
			if res.Missing.Empty() {
				return res
			}
			p.supply(t, w, res.Missing)
		}
	}
	yes, no := append(make([]byte, 31), 1), make([]byte, 32)
	for _, row := range []struct {
		id         common.Hash
		then, now  []byte
		thenLeaves int
	}{{before, yes, no, 1}, {after, no, yes, 0}} {
		then := ask(row.id)
		now, _ := p.call(t, w, k.Address(), pack(t, "kmsAllowedDeviceIds", row.id))
		if !bytes.Equal(then.Output, row.then) || !bytes.Equal(now.Output, row.now) {
			t.Errorf("%s: the older code answers %x, that of today %x", row.id, then.Output, now.Output)
		}
		leaves := 0
		for _, s := range then.Touched {
			if s != slot && w.HasLeaf(s) {
				leaves++
			}
		}
		if len(then.Touched) != 2 || leaves != row.thenLeaves {
			t.Errorf("%s: the older code read %v, of which %d hold something", row.id, then.Touched, leaves)
		}
	}
	if v, known := w.Value(slot); !known || v == common.BytesToHash(moved[:]) {
		t.Error("an assumption of one call affects later ones")
	}
}
