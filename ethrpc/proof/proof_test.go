package proof_test

import (
	"errors"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// TestBrokenProofsAreRefused breaks real proofs in many ways.
func TestBrokenProofsAreRefused(t *testing.T) {
	p := start(t, testchain.Options{})
	k := p.deploy(t, testchain.Plain)
	images := ids('i', 40)
	must(t, k.Seed(t.Context(), nil, images[:39]))
	p.pin(t)
	before := p.header
	must(t, k.AllowImage(t.Context(), images[39]))
	p.pin(t)

	w := p.world()
	var keys []common.Hash
	first, _ := p.call(t, w, k.Address(), pack(t, "allowedOsImages", images[0]))
	second, _ := p.call(t, w, k.Address(), pack(t, "allowedOsImages", images[1]))
	for i := range first.Touched { // both have the implementation slot at the same place
		if first.Touched[i] != second.Touched[i] {
			keys = []common.Hash{first.Touched[i].Key, second.Touched[i].Key}
		}
	}
	here := p.proofs(t, k.Address(), keys...)
	owner := p.proofs(t, testchain.Address("owner"))
	now := p.header
	p.header = before
	old := p.proofs(t, k.Address(), keys...)
	p.header = now

	for _, kind := range []struct {
		name              string
		good, other, past [][]byte
		add               func(*proof.VerifiedState, [][]byte) error
	}{
		{"account", here.account(), owner.account(), old.account(), func(w *proof.VerifiedState, b [][]byte) error {
			return w.AddAccount(k.Address(), b)
		}},
		{"slot", here.slot(0), here.slot(1), old.slot(0), func(w *proof.VerifiedState, b [][]byte) error {
			return w.AddSlot(k.Address(), keys[0], b)
		}},
	} {
		last := len(kind.good) - 1
		broken := map[string][][]byte{
			"nothing":                         nil,
			"no leaf":                         kind.good[:last],
			"no root":                         kind.good[1:],
			"another's proof":                 kind.other,
			"another's leaf":                  append(kind.good[:last:last], kind.other[len(kind.other)-1]),
			"the proof of an older block":     kind.past,
			"a node cut short":                append(kind.good[:last:last], kind.good[last][:len(kind.good[last])-1]),
			"a node with a tail":              append(kind.good[:last:last], append(kind.good[last][:len(kind.good[last]):len(kind.good[last])], 0)),
			"more nodes than a path can have": append(kind.good[:last+1:last+1], make([][]byte, 65)...),
			"a node larger than any":          append(kind.good[:last+1:last+1], make([]byte, 1<<20)),
		}
		fresh := func() *proof.VerifiedState {
			w := p.world()
			if kind.name == "slot" {
				must(t, w.AddAccount(k.Address(), here.account()))
			}
			return w
		}
		for name, b := range broken {
			w := fresh()
			if err := kind.add(w, b); !errors.Is(err, proof.ErrInvalid) {
				t.Errorf("%s: %s: %v", kind.name, name, err)
			}
			if _, known := w.Value(proof.Slot{Account: k.Address(), Key: keys[0]}); known {
				t.Errorf("%s: %s left a value behind", kind.name, name)
			}
		}
		w := fresh()
		for node := range kind.good {
			for at := range kind.good[node] {
				bad := append([][]byte{}, kind.good...)
				bad[node] = flip(bad[node], at)
				if err := kind.add(w, bad); !errors.Is(err, proof.ErrInvalid) {
					t.Fatalf("%s: byte %d of node %d was flipped: %v", kind.name, at, node, err)
				}
			}
		}
		must(t, kind.add(fresh(), append([][]byte{{0xff}}, kind.good...))) // superfluous nodes are ignored
	}
}

func TestSlotsAndCodeNeedTheirAccountFirst(t *testing.T) {
	p := start(t, testchain.Options{})
	k := p.deploy(t, testchain.Plain)
	p.pin(t)
	code := p.code(t, k.Address())
	w := p.world()
	var key common.Hash
	slot := p.proofs(t, k.Address(), key).slot(0)
	if err := w.AddSlot(k.Address(), key, slot); err == nil || errors.Is(err, proof.ErrInvalid) {
		t.Errorf("a slot of an account that is not known: %v", err)
	}
	if err := w.AddCode(code); err == nil {
		t.Error("code of an account that is not known")
	}
	must(t, w.AddAccount(k.Address(), p.proofs(t, k.Address()).account()))
	must(t, w.AddSlot(k.Address(), key, slot))
	for name, bad := range map[string][]byte{
		"flipped": flip(code, 9), "cut": code[1:], "none": nil, "too large": make([]byte, 1<<20),
	} {
		if err := w.AddCode(bad); !errors.Is(err, proof.ErrInvalid) {
			t.Errorf("%s code: %v", name, err)
		}
	}
	must(t, w.AddCode(code))

	nobody := testchain.Address("nobody")
	must(t, w.AddAccount(nobody, p.proofs(t, nobody).account()))
	if err := w.AddSlot(nobody, key, nil); err == nil {
		t.Error("a slot of an account that is not there")
	}
	if v, known := w.Value(proof.Slot{Account: nobody, Key: key}); v != (common.Hash{}) || !known {
		t.Errorf("an account that is not there stores nothing, not %s, %t", v, known)
	}
	if w.Complete(nobody) {
		t.Error("the storage of an account that is not there is complete")
	}
}
