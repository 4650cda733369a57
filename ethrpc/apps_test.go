package ethrpc_test

import (
	"fmt"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/accounts/abi/bind"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// appsElsewhere keeps whether an app is registered in the slot of its number and what slot 0 holds. It writes two words to
// whoever sends them: a slot and what it is to hold. Every other getter answers 0.
var appsElsewhere = fmt.Sprintf("60403614602b5760003560e01c63%x14601d57"+"5f5f5260205ff3"+"5b5f5460043501545f5260205ff3"+"5b6020355f355500", crypto.Keccak256([]byte("registeredApps(address)"))[:4])

// TestAppsAreAskedAboutAgain: what the getter read stands for as long as it would read it again.
func TestAppsAreAskedAboutAgain(t *testing.T) {
	at := common.Address{0: 0xcc}
	storage := map[common.Hash]common.Hash{}
	var apps []common.Address
	for i := range 300 {
		app := common.BigToAddress(big.NewInt(int64(i + 1000)))
		apps, storage[common.BytesToHash(app[:])] = append(apps, app), common.Hash{31: 1}
	}
	w := &world{testenv.Start(t, testchain.Options{Alloc: types.GenesisAlloc{at: {Code: common.FromHex(appsElsewhere), Balance: new(big.Int), Storage: storage}}})}
	node := w.Chain.Client()
	opts, err := bind.NewKeyedTransactorWithChainID(testchain.Key("owner"), big.NewInt(1337))
	if err != nil {
		t.Fatal(err)
	}
	set := func(slot, word int64) {
		t.Helper()
		input := append(common.BigToHash(big.NewInt(slot)).Bytes(), common.BigToHash(big.NewInt(word)).Bytes()...)
		if _, err := bind.NewBoundContract(at, abi.ABI{}, node, node, node).RawTransact(opts, input); err != nil {
			t.Fatal(err)
		}
		w.Chain.Commit()
	}
	c := prover(t, ethrpc.VerifyRequired, 1, w.URL)
	for _, row := range []struct {
		sentence string
		change   func()
		apps     int64 // that are asked about
		slots    int64 // that are proven, at most
		complete bool
	}{
		{"the first time", func() {}, 300, 400, true},
		{"another app is registered, and not asked about", func() { set(1300, 1) }, 300, 80, false},
		{"it is asked about", func() {}, 301, 10, true},
		{"one more", func() { set(1301, 1) }, 302, 40, true},
		{"an app is no longer registered", func() { set(1004, 0) }, 302, 80, true},
		{"the getter looks elsewhere", func() { set(0, 100) }, 302, 80, false},
		{"it looks where it looked before", func() { set(0, 0) }, 302, 80, true},
	} {
		row.change()
		for i := int64(len(apps)); i < row.apps; i++ {
			apps = append(apps, common.BigToAddress(big.NewInt(i+1000)))
		}
		n := w.count()
		s, err := look(t.Context(), c, request{queries: []ethrpc.Query{{Contract: at, Apps: apps, Slots: []common.Hash{{}}}}})
		if err != nil {
			t.Fatalf("%s: %v", row.sentence, err)
		}
		t.Logf("%s: %d slots are proven, of %d apps", row.sentence, n.slots.Load(), len(apps))
		if s.Storage.Complete != row.complete || !s.Proven {
			t.Errorf("%s: complete is %t, proven %t", row.sentence, s.Storage.Complete, s.Proven)
		}
		if n.slots.Load() > row.slots {
			t.Errorf("%s: %d slots are proven", row.sentence, n.slots.Load())
		}
	}
}
