package proof_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// initialized is OpenZeppelin's slot of the initialized version (ERC-7201). No getter reads it.
func initialized() common.Hash {
	inner := crypto.Keccak256Hash([]byte("openzeppelin.storage.Initializable")).Big()
	h := crypto.Keccak256Hash(common.BigToHash(inner.Sub(inner, common.Big1)).Bytes())
	h[31] = 0
	return h
}

// explain calls every getter, and reports whether the contract's whole storage is known then.
func (p *provider) explain(t *testing.T, w *proof.VerifiedState, at common.Address, devices, images []common.Hash) bool {
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

// TestNothingChangedNothingToDo checks that two account proofs are enough if nothing changed.
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
	next := func() *proof.VerifiedState {
		p.pin(t)
		w := p.world()
		for _, a := range []common.Address{k.Address(), impl} {
			must(t, w.AddAccount(a, p.proofs(t, a).account()))
		}
		w.ReuseFrom(old)
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
	for i, data := range [][]byte{known, stranger} {
		if res, rounds := p.call(t, w, k.Address(), data); rounds == 1 || res.Output[31] != 1 {
			t.Errorf("the storage changed; it took %d rounds and gave %x", rounds, res.Output)
		}
		if all := w.Complete(k.Address()); all != (i == 1) {
			t.Errorf("the old entries and %d others explain the new storage: %t", i, all)
		}
	}
	if !p.explain(t, w, k.Address(), devices, append(images, common.Hash{7})) {
		t.Error("the old entries, and the one that changed, are the whole storage")
	}
}

// TestOnlyWhatChangedIsProvenAnew checks that nodes shared with the older trie are reused.
func TestOnlyWhatChangedIsProvenAnew(t *testing.T) {
	p := start(t, testchain.Options{})
	k := p.deploy(t, testchain.Plain)
	images := ids('i', 400)
	must(t, k.Seed(t.Context(), nil, images))
	p.pin(t)
	old := p.world()
	if !p.explain(t, old, k.Address(), nil, images) {
		t.Fatal("the first world is not complete")
	}
	var slots []proof.Slot
	always, err := old.Call(t.Context(), k.Address(), pack(t, "allowedOsImages", common.Hash{}))
	must(t, err)
	for _, id := range images {
		res, err := old.Call(t.Context(), k.Address(), pack(t, "allowedOsImages", id))
		must(t, err)
		slots = append(slots, slices.DeleteFunc(res.Touched, func(s proof.Slot) bool { return slices.Contains(always.Touched, s) })...)
	}
	must(t, k.RemoveImage(t.Context(), images[3]))
	p.pin(t)
	w := p.world()
	must(t, w.AddAccount(k.Address(), p.proofs(t, k.Address()).account()))
	w.ReuseFrom(old)
	asked, rounds := 0, 0
	for next := w.NextSlots(slots, 8); len(next) > 0; next = w.NextSlots(slots, 8) {
		asked += len(next)
		rounds++
		p.supply(t, w, proof.Missing{Slots: next})
	}
	if asked > 40 || rounds > 5 {
		t.Errorf("%d slots were proven in %d rounds, but only one of %d changed", asked, rounds, len(slots))
	}
	for i, s := range slots {
		was, _ := old.Value(s)
		is, known := w.Value(s)
		if !known || is == was != (i != 3) {
			t.Errorf("image %d: was %s, is %s, known is %t", i, was, is, known)
		}
	}
	if all := w.NextSlots(append(slots, proof.Slot{Account: k.Address(), Key: common.Hash{1}}), 0); len(all) > 1 {
		t.Errorf("%d slots are said to be missing that are known", len(all))
	}
}

// implementation is the account, other than the proxy, whose code runs.
func (p *provider) implementation(t testing.TB, w *proof.VerifiedState, at common.Address) common.Address {
	t.Helper()
	res, err := w.Call(t.Context(), at, pack(t, "owner"))
	must(t, err)
	for _, a := range res.Accounts {
		if a != at {
			return a
		}
	}
	t.Fatal("no implementation is known")
	return common.Address{}
}

// TestFill checks that guessed slots are proven by the storage root or not accepted at all.
func TestFill(t *testing.T) {
	p := start(t, testchain.Options{})
	k := p.deploy(t, testchain.Plain)
	devices, images := ids('d', 3), ids('i', 4)
	must(t, k.Seed(t.Context(), devices, images))
	p.pin(t)
	whole := p.world()
	if !p.explain(t, whole, k.Address(), devices, images) {
		t.Fatal("the whole storage is not known")
	}
	asked := [][]byte{pack(t, "owner")}
	for _, id := range images {
		asked = append(asked, pack(t, "allowedOsImages", id))
	}
	for _, id := range devices {
		asked = append(asked, pack(t, "kmsAllowedDeviceIds", id))
	}
	slots := []proof.Slot{{Account: k.Address(), Key: initialized()}}
	for _, data := range asked {
		res, err := whole.Call(t.Context(), k.Address(), data)
		must(t, err)
		slots = append(slots, res.Touched...)
	}
	truth := map[common.Hash]common.Hash{}
	for _, s := range slots {
		truth[s.Key], _ = whole.Value(s)
	}
	list := slices.SortedFunc(maps.Keys(truth), common.Hash.Cmp)
	full, empty := list[0], common.Hash{1, 2, 3}
	for _, row := range []struct {
		sentence string
		change   func(words map[common.Hash]common.Hash)
		proven   []common.Hash // slots that are proven before
		at       common.Address
		right    bool
	}{
		{"all of it", func(map[common.Hash]common.Hash) {}, nil, k.Address(), true},
		{"all of it, and a slot that is empty", func(w map[common.Hash]common.Hash) { w[empty] = common.Hash{} }, nil, k.Address(), true},
		{"all but what is proven", func(w map[common.Hash]common.Hash) { delete(w, full) }, []common.Hash{full}, k.Address(), true},
		{"all of it, some of which is proven", func(map[common.Hash]common.Hash) {}, []common.Hash{full, empty}, k.Address(), true},
		{"all of it, and a slot that is proven to be empty", func(w map[common.Hash]common.Hash) { w[empty] = common.Hash{} }, []common.Hash{empty}, k.Address(), true},
		{"another word for a slot that is proven", func(w map[common.Hash]common.Hash) { w[full] = common.Hash{9} }, []common.Hash{full}, k.Address(), false},
		{"a slot that is proven is said to be empty", func(w map[common.Hash]common.Hash) { w[full] = common.Hash{} }, []common.Hash{full}, k.Address(), false},
		{"a word for a slot that is proven to be empty", func(w map[common.Hash]common.Hash) { w[empty] = common.Hash{9} }, []common.Hash{empty}, k.Address(), false},
		{"a slot is left out", func(w map[common.Hash]common.Hash) { delete(w, full) }, nil, k.Address(), false},
		{"a slot holds another word", func(w map[common.Hash]common.Hash) { w[full] = common.Hash{9} }, nil, k.Address(), false},
		{"a slot is said to be empty", func(w map[common.Hash]common.Hash) { w[full] = common.Hash{} }, nil, k.Address(), false},
		{"a slot too many", func(w map[common.Hash]common.Hash) { w[empty] = common.Hash{9} }, nil, k.Address(), false},
		{"nothing", func(w map[common.Hash]common.Hash) { clear(w) }, nil, k.Address(), false},
		{"an account that is not proven", func(map[common.Hash]common.Hash) {}, nil, common.Address{1}, false},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			w := p.world()
			must(t, w.AddAccount(k.Address(), p.proofs(t, k.Address()).account()))
			if !w.Fresh(k.Address()) {
				t.Error("nothing is known, and it is not fresh")
			}
			for _, key := range row.proven {
				must(t, w.AddSlot(k.Address(), key, p.proofs(t, k.Address(), key).slot(0)))
			}
			words := maps.Clone(truth)
			row.change(words)
			if got := w.ProveBySpeculation(row.at, words); got != row.right || w.Fresh(k.Address()) == row.right || w.Complete(k.Address()) != row.right {
				t.Fatalf("taken: %t, fresh: %t, complete: %t", got, w.Fresh(k.Address()), w.Complete(k.Address()))
			}
			for _, key := range append(list, empty) {
				v, known := w.Value(proof.Slot{Account: k.Address(), Key: key})
				if known != (row.right || slices.Contains(row.proven, key)) || known && v != truth[key] {
					t.Errorf("slot %s holds %s, which is known: %t", key, v, known)
				}
			}
			if !row.right {
				return
			}
			packed := p.world() // from the witness
			_, nodes, codes := w.Witness(map[common.Address]bool{k.Address(): true})
			packed.LoadWitness(nodes, codes)
			if _, known := packed.Account(k.Address()); !known || !provesAll(packed, k.Address(), truth) {
				t.Error("what was filled cannot be proven to others")
			}
		})
	}
}

// TestFillWithALeafOfZero has a leaf that holds zero, as some nodes keep. It contradicts no guess.
func TestFillWithALeafOfZero(t *testing.T) {
	key := common.Hash{1}
	tr := newTrie(t, map[string][]byte{string(key[:]): {0x80}})
	w, at := worldOf(t, tr.Hash())
	must(t, w.AddSlot(at, key, prove(t, tr, key[:])))
	if w.ProveBySpeculation(at, map[common.Hash]common.Hash{key: {31: 1}}) || !w.ProveBySpeculation(at, map[common.Hash]common.Hash{key: {}}) {
		t.Error("a slot with a leaf of zero must match zero and nothing else")
	}
}

// provesAll reports whether the verified state knows every word.
func provesAll(w *proof.VerifiedState, at common.Address, words map[common.Hash]common.Hash) bool {
	for key, want := range words {
		if v, known := w.Value(proof.Slot{Account: at, Key: key}); !known || v != want {
			return false
		}
	}
	return true
}

func TestNothingIsKnownOfAnAccountThatIsNotProven(t *testing.T) {
	p := start(t, testchain.Options{})
	w, nobody := p.world(), testchain.Address("nobody")
	for _, proven := range []bool{false, true} {
		if proven {
			must(t, w.AddAccount(nobody, p.proofs(t, nobody).account()))
			next := p.world()
			next.ReuseFrom(w)
			w = next
		}
		root, leaves := w.Rebuild(nobody)
		slots, all := w.Accounted(nobody, nil)
		if root != (common.Hash{}) || leaves+slots > 0 || all || w.Complete(nobody) || w.Fresh(nobody) || w.ProveBySpeculation(nobody, nil) || w.HasNoCode(nobody) != proven {
			t.Errorf("proven empty: %t; root %s, %d leaves, %d slots, complete: %t", proven, root, leaves, slots, all)
		}
	}
}

// TestOlderStoragesAreLetGo checks that an incomplete storage does not retain all its older ones.
func TestOlderStoragesAreLetGo(t *testing.T) {
	var w *proof.VerifiedState
	for i := range 50 {
		keys := ids('k', 10)
		leaves := map[string][]byte{}
		for _, k := range keys {
			leaves[string(k[:])] = encode(t, []byte{byte(i + 1)})
		}
		tr := newTrie(t, leaves)
		next, at := worldOf(t, tr.Hash())
		if w != nil {
			next.ReuseFrom(w)
		}
		w = next
		must(t, w.AddSlot(at, keys[i%10], prove(t, tr, keys[i%10][:])))
		if n := w.KeptStorages(at); n > 2 || w.Complete(at) {
			t.Fatalf("after %d changes: %d storages, complete: %t", i, n, w.Complete(at))
		}
	}
}
