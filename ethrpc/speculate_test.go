package ethrpc_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// fixedGetter reports whether a call is of a getter without an argument.
func fixedGetter(c rpcfault.Call) bool {
	var args struct{ Input hexutil.Bytes }
	return c.Method == "eth_call" && json.Unmarshal(c.Params[0], &args) == nil && len(args.Input) == 4
}

// saysInCalls changes the answers to plain calls.
func saysInCalls(result string) rpcfault.Fault {
	return rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if c.Method == "eth_call" && !bundled(c) && !rpcfault.ProbesBlockHash(c, a) {
			a.Result, a.Error = json.RawMessage(result), nil
		}
	}}
}

const (
	wordYes = `"0x0000000000000000000000000000000000000000000000000000000000000001"`
	wordNo  = `"0x0000000000000000000000000000000000000000000000000000000000000000"`
)

// TestGuessesThatSettleNothing has a provider that answers about two ids; the second answer is a lie or cannot be proven. In the end
// all storage is known, so the root alone contradicts no guess.
func TestGuessesThatSettleNothing(t *testing.T) {
	const (
		slot   = "60043554"     // what the slot named by the id holds
		answer = "5f5260205ff3" // it is answered
	)
	yes := common.Address{0: 0xdd}
	first, second := common.Hash{1}, common.Hash{2}
	// Returns the word in the slot or, if it is zero, another contract's answer.
	orAnother := slot + "806028575060205f5f5f73" + common.Bytes2Hex(yes[:]) + "5afa505f515b" + answer
	rows := []struct {
		sentence, code string
		stored         []common.Hash // slots that hold 1
		known          []common.Hash // slots that are asked for
		says, lie      string        // of the second, in a bundle and in a call
		allowed        bool
		unproven       string
	}{
		{"its slot is proven to hold 1", slot + answer, []common.Hash{first, second},
			[]common.Hash{second}, `"0x0100"`, wordNo, true, ""},
		{"its slot is proven to be empty", slot + answer, []common.Hash{first},
			[]common.Hash{second}, `"0x0101"`, wordYes, false, ""},
		{"its slot is empty, and another contract says yes", orAnother, []common.Hash{first},
			nil, `"0x0100"`, wordNo, true, ""},
		{"its slot is what it says, and it looks at an old block too", slot + "5f4050" + answer, []common.Hash{first, second},
			nil, `"0x0101"`, wordYes, false, "hash of block 0"},
		{"it looks at an old block first", "5f4050" + slot + answer, []common.Hash{first, second},
			nil, `"0x0101"`, wordYes, false, "hash of block 0"},
	}
	alloc := types.GenesisAlloc{yes: {Code: common.FromHex("6001" + answer), Balance: new(big.Int)}}
	at := func(i int) common.Address { return common.Address{0: 0xcc, 19: byte(i)} }
	for i, row := range rows {
		stored := map[common.Hash]common.Hash{}
		for _, key := range row.stored {
			stored[key] = common.Hash{31: 1}
		}
		alloc[at(i)] = types.Account{Code: common.FromHex(row.code), Balance: new(big.Int), Storage: stored}
	}
	chain, err := testchain.Start(testchain.Options{Alloc: alloc})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chain.Close() })
	chain.Commit()
	chain.Commit()
	proxy := rpcfault.New(chain.URL())
	url := testenv.Serve(t, proxy)
	for i, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			req := request{queries: []ethrpc.Query{{Contract: at(i), Devices: []common.Hash{first, second}, Slots: row.known}}}
			lie := saysInBundles(row.says)
			proxy.Set(lie)
			s, err := look(t.Context(), prover(t, ethrpc.VerifyRequired, 1, url), req)
			if row.unproven != "" {
				if !errors.Is(err, ethrpc.ErrNoProof) || !strings.Contains(err.Error(), row.unproven) {
					t.Errorf("Read = %v, want %q", err, row.unproven)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if a, b := s.Devices[first], s.Devices[second]; a.Err != nil || !a.Allowed || b.Err != nil || b.Allowed != row.allowed || !s.Proven {
				t.Errorf("answered: %+v and %+v, want true and %t", a, b, row.allowed)
			}
			proxy.Set(rpcfault.Join(lie, saysInCalls(row.lie)))
			_, err = look(t.Context(), prover(t, ethrpc.VerifyRequired, 1, url), req)
			if _, caught := errors.AsType[*ethrpc.GetterError](err); !caught {
				t.Errorf("if plain calls lie too, Read = %v", err)
			}
		})
	}
}

// TestALieAboutOneNewEntry has a provider that delays the proof of the proxy's account, so that the entry's slot is proven
// together with a guess.
func TestALieAboutOneNewEntry(t *testing.T) {
	w := newWorld(t)
	added := common.Hash{31: 7}
	c := prover(t, ethrpc.VerifyRequired, 1, w.URL)
	s, err := look(t.Context(), c, w.request())
	if err != nil {
		t.Fatal(err)
	}
	w.proven(t, s, true)
	if err := w.KMS.AllowImage(t.Context(), added); err != nil {
		t.Fatal(err)
	}
	spoilt := rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if c.Method == "eth_getProof" && bytes.Contains(bytes.ToLower(c.Params[0]), bytes.ToLower([]byte(w.KMS.Address().Hex()))) && bytes.Equal(c.Params[2], []byte(`"latest"`)) {
			a.Result = json.RawMessage("7")
		}
	}}
	w.Proxy.Set(rpcfault.Join(spoilt, saysInBundles(`"0x01010000"`)))
	s, err = look(t.Context(), c, w.request(added))
	if err != nil {
		t.Fatal(err)
	}
	w.proven(t, s, true)
	if a := s.OSImages[added]; !a.Allowed || a.Err != nil {
		t.Errorf("the entry is %+v, but it is proven to be allowed", a)
	}
}
