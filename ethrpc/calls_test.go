package ethrpc_test

import (
	"bytes"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// calls runs over the proven state of the head.
func (w *world) calls(t *testing.T, old *ethrpc.ProvenCalls, urls ...string) (*ethrpc.ProvenCalls, *ethrpc.Pinned) {
	t.Helper()
	c := prover(t, ethrpc.VerifyAuto, 1, urls...)
	at, err := c.Pin(t.Context(), ethrpc.PinRequest{})
	if err != nil {
		t.Fatal(err)
	}
	calls, err := c.Proven(at, old)
	if err != nil {
		t.Fatal(err)
	}
	return calls, at
}

// TestAFailureIsOfOneAnswer checks that a contract's failure is in its own answer and leaves the others intact.
func TestAFailureIsOfOneAnswer(t *testing.T) {
	rows := []struct {
		sentence, code string
		output         string
		err            error
	}{
		{"it returns", "602a" + returnsTop, common.BigToHash(big.NewInt(42)).Hex(), nil},
		{"it reads a slot", "5f54" + returnsTop, common.BigToHash(big.NewInt(7)).Hex(), nil},
		{"it returns nothing", "00", "0x", nil},
		{"it reverts", "5f5ffd", "0x", ethrpc.ErrReverted},
		{"it reverts with a reason", "602a5f5260205ffd", common.BigToHash(big.NewInt(42)).Hex(), ethrpc.ErrReverted},
		{"it has no code", "", "0x", ethrpc.ErrNoCode},
		{"it writes", "60016001555f5ff3", "", proof.ErrWrites},
		{"it asks for an old block's hash", "5f40" + returnsTop, "", proof.ErrBeyondState},
	}
	alloc, calls := types.GenesisAlloc{}, []proof.Call{{To: common.Address{0: 0xee}}} // the first is no account
	for i, row := range rows {
		at := common.Address{0: 0xcc, 19: byte(i)}
		alloc[at] = types.Account{Code: common.FromHex(row.code), Balance: big.NewInt(1), Storage: map[common.Hash]common.Hash{{}: {31: 7}}}
		calls = append(calls, proof.Call{To: at, Data: []byte{1, 2, 3, 4}})
	}
	w := besides(t, alloc)
	online, at := w.calls(t, nil, w.URL)
	first, err := online.Call(t.Context(), calls...)
	if err != nil {
		t.Fatal(err)
	}
	offline, _, err := ethrpc.ProveCalls(1337, at.Block.Hash, *online.Witness())
	if err != nil {
		t.Fatal(err)
	}
	for name, caller := range map[string]*ethrpc.ProvenCalls{"again": online, "offline": offline} {
		got, err := caller.Call(t.Context(), calls...)
		if err != nil || !errors.Is(got[0].Err, ethrpc.ErrNoCode) {
			t.Fatalf("%s: %v, %v", name, got, err)
		}
		for i, row := range rows {
			a := got[i+1]
			if !errors.Is(a.Err, row.err) || (row.output != "" && !bytes.Equal(a.Output, common.FromHex(row.output))) || !bytes.Equal(a.Output, first[i+1].Output) {
				t.Errorf("%s: %s: %x (%v), want %s (%v)", name, row.sentence, a.Output, a.Err, row.output, row.err)
			}
		}
	}
	if _, err := offline.Call(t.Context(), proof.Call{To: honest}); err == nil || !strings.Contains(err.Error(), "lacks state") {
		t.Errorf("what the witness does not prove: %v", err)
	}
}

// TestCallsAreBounded checks that code which asks for too much is an error.
func TestCallsAreBounded(t *testing.T) {
	chained := map[common.Hash]common.Hash{} // each slot holds the key of the next
	for last, i := (common.Hash{}), 0; i < 80; i++ {
		next := crypto.Keccak256Hash(last[:])
		chained[last], last = next, next
	}
	w := twoContracts(t, "5f"+strings.Repeat("54", 70)+returnsTop, chained)
	many := make([]proof.Call, 300)
	for i := range many {
		many[i].To = common.BigToAddress(big.NewInt(int64(1000 + i)))
	}
	greedy := besides(t, types.GenesisAlloc{odd: {Code: common.FromHex("5f5b805450600101806113" + "88" + "116001" + "57" + returnsTop), Balance: new(big.Int)}})
	for name, row := range map[string]struct {
		w     *world
		calls []proof.Call
		spent time.Duration
		says  string
	}{
		"its slots are found one by one": {w, []proof.Call{{To: odd}}, 0, "or in more than 64 rounds"},
		"it reads many slots":            {greedy, []proof.Call{{To: odd}}, 0, "more than 256 accounts or 4096 slots"},
		"it reads many accounts":         {w, many, 0, "more than 256 accounts"},
		"it runs too long":               {w, []proof.Call{{To: odd}}, time.Hour, "takes too long"},
	} {
		calls, _ := row.w.calls(t, nil, row.w.URL)
		calls.Spend(row.spent)
		if got, err := calls.Call(t.Context(), row.calls...); err == nil || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v, %v, want %q", name, got, err, row.says)
		}
	}
}

// TestHeadersOfBlocks checks that headers come in descending order, from the first provider that has them all.
func TestHeadersOfBlocks(t *testing.T) {
	w := newWorld(t)
	w.Proxy.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if strings.Contains(string(c.Params[0]), "0x2") {
			a.Result = []byte("null")
		}
	}})
	c := prover(t, ethrpc.VerifyAuto, 1, w.URL, w.Chain.URL())
	got, err := c.Headers(t.Context(), "", 3, 0, nil)
	if err != nil || len(got) != 4 {
		t.Fatalf("%d headers, %v", len(got), err)
	}
	for i, b := range got {
		h, err := w.Chain.Client().HeaderByNumber(t.Context(), big.NewInt(int64(3-i)))
		if err != nil || crypto.Keccak256Hash(b) != h.Hash() {
			t.Errorf("header %d is %x, %v", i, b, err)
		}
	}
	asked := 0
	_, err = prover(t, ethrpc.VerifyAuto, 1, w.Chain.URL(), w.Chain.URL()).Headers(t.Context(), "", 1, 0, func(headers [][]byte) error {
		if asked++; len(headers) != 2 {
			t.Errorf("%d headers", len(headers))
		}
		return errors.New("not these")
	})
	if asked != 2 || err == nil || !strings.Contains(err.Error(), "not these") {
		t.Errorf("%d providers were asked, and the error is %v", asked, err)
	}
	for name, c := range map[string]*ethrpc.Client{"no provider has one": prover(t, ethrpc.VerifyAuto, 1, w.URL), "the block is not there": c} {
		_, err := c.Headers(t.Context(), "", 1<<40, 1<<40-1, nil)
		if name == "no provider has one" {
			_, err = c.Headers(t.Context(), "", 3, 1, nil)
		}
		if _, ok := errors.AsType[*ethrpc.ReadError](err); !ok || !errors.Is(err, ethrpc.ErrNoState) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
