package proof_test

import (
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// large is a contract with 10,000 entries whose storage is complete, and calls that read them.
func large(b *testing.B) (w *proof.VerifiedState, p *provider, at common.Address, calls [][]byte) {
	b.Helper()
	at = common.HexToAddress("0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C")
	devices, images := ids('d', 2000), ids('i', 8000)
	p = start(b, testchain.Options{Preload: []testchain.Preload{{Address: at, Devices: devices, Images: images}}})
	p.Commit()
	p.pin(b)
	w = p.world()
	p.call(b, w, at, pack(b, "owner"))
	m := proof.Missing{Slots: []proof.Slot{{Account: at, Key: initialized()}}}
	for getter, list := range map[string][]common.Hash{"kmsAllowedDeviceIds": devices, "allowedOsImages": images} {
		for _, id := range list {
			data := pack(b, getter, id)
			res, err := w.Call(b.Context(), at, data)
			must(b, err)
			m.Slots = append(m.Slots, res.Missing.Slots...)
			calls = append(calls, data)
		}
	}
	p.supply(b, w, m)
	if !w.Complete(at) {
		b.Fatal("the storage is not known in full")
	}
	return w, p, at, calls
}

func BenchmarkCall(b *testing.B) {
	w, _, at, calls := large(b)
	for i := 0; b.Loop(); i++ {
		if res, err := w.Call(b.Context(), at, calls[i%len(calls)]); err != nil || res.Output[31] != 1 {
			b.Fatal(res, err)
		}
	}
}

func BenchmarkRebuild(b *testing.B) {
	w, _, at, _ := large(b)
	for b.Loop() {
		if _, n := w.Rebuild(at); n != 10_003 {
			b.Fatal(n)
		}
	}
}

// BenchmarkUnchanged reads 10,000 entries if nothing has changed: two proofs, and the older state.
func BenchmarkUnchanged(b *testing.B) {
	old, p, at, calls := large(b)
	impl := p.implementation(b, old, at)
	proxy, code := p.proofs(b, at).account(), p.proofs(b, impl).account()
	for b.Loop() {
		w := p.world()
		must(b, w.AddAccount(at, proxy))
		must(b, w.AddAccount(impl, code))
		w.ReuseFrom(old)
		if res, err := w.Call(b.Context(), at, calls[0]); err != nil || res.Output[31] != 1 || !w.Complete(at) {
			b.Fatal(res, err)
		}
		old = w
	}
}
