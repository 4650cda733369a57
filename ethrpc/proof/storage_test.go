package proof_test

import (
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/internal/testchain"
)

// initialized is where OpenZeppelin counts initializations: no getter reads it.
func initialized() common.Hash {
	inner := crypto.Keccak256Hash([]byte("openzeppelin.storage.Initializable")).Big()
	h := crypto.Keccak256Hash(common.BigToHash(inner.Sub(inner, common.Big1)).Bytes())
	h[31] = 0
	return h
}

// explain asks the contract everything that it can be asked, and reports whether its whole storage is known then.
func (p *provider) explain(t *testing.T, w *proof.World, at common.Address, devices, images []common.Hash) bool {
	t.Helper()
	for _, getter := range []string{"owner", "pendingOwner", "gatewayAppId", "appImplementation", "kmsInfo"} {
		p.call(t, w, at, pack(t, getter))
	}
	for getter, ids := range map[string][]common.Hash{"kmsAllowedDeviceIds": devices, "allowedOsImages": images} {
		for _, id := range ids {
			p.call(t, w, at, pack(t, getter, id))
		}
	}
	must(t, w.AddSlot(at, initialized(), p.proofs(t, at, initialized()).slot(0)))
	account, _ := w.Account(at)
	root, _ := w.Rebuild(at)
	if complete := w.Complete(at); complete != (root == account.Root) {
		t.Errorf("complete is %t, with root %s of %s", complete, root, account.Root)
	}
	return w.Complete(at)
}

func TestTheWholeStorageIsExplainedOrNot(t *testing.T) {
	devices, images := ids('d', 7), ids('i', 20)
	for name, row := range map[string]struct {
		deployed, upgraded string
		change             func(*testing.T, *testchain.KMS)
		known              int // of the 20 images
		want               bool
	}{
		"every id is known":               {testchain.Plain, "", nil, 20, true},
		"one id is left out":              {testchain.Plain, "", nil, 19, false},
		"lists at other slots":            {testchain.Moved, "", nil, 20, true},
		"leftovers of the old places":     {testchain.Plain, testchain.Moved, nil, 20, false},
		"an upgrade that moves nothing":   {testchain.Plain, testchain.Backdoor, nil, 20, true},
		"an entry that a back door wrote": {testchain.Backdoor, "", func(t *testing.T, k *testchain.KMS) { must(t, k.SneakDevice(t.Context(), common.Hash{9}, true)) }, 20, false},
		"a back door that took one away":  {testchain.Backdoor, "", func(t *testing.T, k *testchain.KMS) { must(t, k.SneakDevice(t.Context(), devices[0], false)) }, 20, true},
		"texts and kilobytes": {testchain.Plain, "", func(t *testing.T, k *testchain.KMS) {
			_, err := k.Send(t.Context(), "setGatewayAppId", "a text of more than the thirty-two bytes that fit into its slot")
			must(t, err)
			_, err = k.Send(t.Context(), "setKmsQuote", make([]byte, 4000))
			must(t, err)
			_, err = k.Send(t.Context(), "setKmsEventlog", crypto.Keccak256([]byte("log"), make([]byte, 100)))
			must(t, err)
		}, 20, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, testchain.Options{})
			k := p.deploy(t, row.deployed)
			must(t, k.Seed(t.Context(), devices, images))
			if row.upgraded != "" {
				_, err := k.Upgrade(t.Context(), row.upgraded)
				must(t, err)
			}
			if row.change != nil {
				row.change(t, k)
			}
			p.pin(t)
			if got := p.explain(t, p.world(), k.Address(), devices, images[:row.known]); got != row.want {
				t.Errorf("complete: %t", got)
			}
		})
	}
}

// TestNothingChangedNothingToDo is the steady state: two accounts are proven, and every answer is there.
func TestNothingChangedNothingToDo(t *testing.T) {
	p := start(t, testchain.Options{})
	k := p.deploy(t, testchain.Backdoor)
	devices, images := ids('d', 3), ids('i', 5)
	must(t, k.Seed(t.Context(), devices, images))
	p.pin(t)
	old := p.world()
	if !p.explain(t, old, k.Address(), devices, images) {
		t.Fatal("the first world is not complete")
	}
	impl := p.implementation(t, old, k.Address())
	next := func() *proof.World {
		p.pin(t)
		w := p.world()
		for _, a := range []common.Address{k.Address(), impl} {
			must(t, w.AddAccount(a, p.proofs(t, a).account()))
		}
		w.Adopt(old)
		return w
	}
	stranger, known := pack(t, "allowedOsImages", common.Hash{7}), pack(t, "allowedOsImages", images[0])

	p.Commit()
	w := next()
	for name, data := range map[string][]byte{"an id of the list": known, "an id never heard of": stranger} {
		if res, rounds := p.call(t, w, k.Address(), data); rounds != 1 || res.Output[31] == 1 != (name == "an id of the list") {
			t.Errorf("nothing changed; %s took %d rounds and gave %x", name, rounds, res.Output)
		}
	}

	must(t, k.SneakImage(t.Context(), common.Hash{7}, true))
	w = next()
	for _, data := range [][]byte{known, stranger} {
		if res, rounds := p.call(t, w, k.Address(), data); rounds == 1 || res.Output[31] != 1 {
			t.Errorf("the storage changed; it took %d rounds and gave %x", rounds, res.Output)
		}
	}
	if w.Complete(k.Address()) {
		t.Error("the old world's entries cannot explain the new storage")
	}
	if !w.Settle(k.Address(), old.Values(k.Address())) || !w.Complete(k.Address()) {
		t.Error("the old values, and the one that changed, are the whole storage")
	}
	if res, rounds := p.call(t, w, k.Address(), pack(t, "kmsAllowedDeviceIds", devices[2])); rounds != 1 || res.Output[31] != 1 {
		t.Errorf("settled; an unchanged entry took %d rounds and gave %x", rounds, res.Output)
	}
	if d := cmp.Diff(len(old.Values(k.Address()))+1, len(w.Values(k.Address()))); d != "" {
		t.Errorf("entries (-want +got):\n%s", d)
	}
}

// implementation is the account, other than the proxy, that the world came to know.
func (p *provider) implementation(t testing.TB, w *proof.World, at common.Address) common.Address {
	t.Helper()
	for _, v := range w.Values(at) {
		a := common.BytesToAddress(v[:])
		if _, known := w.Account(a); known && v.Big().Cmp(new(big.Int).Lsh(common.Big1, 64)) > 0 {
			return a
		}
	}
	t.Fatal("no implementation is known")
	return common.Address{}
}

func TestWrongValuesDoNotSettle(t *testing.T) {
	p := start(t, testchain.Options{})
	k := p.deploy(t, testchain.Plain)
	must(t, k.Seed(t.Context(), ids('d', 3), nil))
	p.pin(t)
	full := p.world()
	if !p.explain(t, full, k.Address(), ids('d', 3), nil) {
		t.Fatal("the storage is not explained")
	}
	good := full.Values(k.Address())
	some := func() common.Hash {
		for key := range good {
			return key
		}
		panic("no values")
	}()
	for name, row := range map[string]struct {
		change func(map[common.Hash]common.Hash)
		want   bool
	}{
		"all as they are":         {func(map[common.Hash]common.Hash) {}, true},
		"and one that is zero":    {func(m map[common.Hash]common.Hash) { m[common.Hash{1}] = common.Hash{} }, true},
		"one is missing":          {func(m map[common.Hash]common.Hash) { delete(m, some) }, false},
		"one is too many":         {func(m map[common.Hash]common.Hash) { m[common.Hash{1}] = common.Hash{2} }, false},
		"one is wrong":            {func(m map[common.Hash]common.Hash) { m[some] = common.Hash{2} }, false},
		"one is said to be empty": {func(m map[common.Hash]common.Hash) { m[some] = common.Hash{} }, false},
	} {
		w := p.world()
		must(t, w.AddAccount(k.Address(), p.proofs(t, k.Address()).account()))
		values := map[common.Hash]common.Hash{}
		for key, v := range good {
			values[key] = v
		}
		row.change(values)
		if got := w.Settle(k.Address(), values); got != row.want {
			t.Errorf("%s: settled is %t", name, got)
		}
		if _, known := w.Value(proof.Slot{Account: k.Address(), Key: some}); known != row.want || w.Complete(k.Address()) != row.want {
			t.Errorf("%s: known is %t", name, known)
		}
	}
}
