package ethrpc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rlp"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testchain"
)

// controlled asks for a contract's code and control.
func controlled(contract common.Address) ethrpc.Request {
	return ethrpc.Request{Questions: func(context.Context, ethrpc.Block) ethrpc.Questions {
		return ethrpc.Questions{Asks: []ethrpc.Ask{{Contract: contract}}, Control: true}
	}}
}

// ofGetter changes what the calls of a getter are answered.
func ofGetter(signature, result string) rpcfault.Fault {
	selector := hexutil.Encode(crypto.Keccak256([]byte(signature))[:4])
	return rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if c.Method == "eth_call" && bytes.Contains(c.Params[0], []byte(selector)) {
			a.Result, a.Error = json.RawMessage(result), nil
		}
	}}
}

// TestControlThatIsBelieved: what cannot be read of it is told, and the rest is good.
func TestControlThatIsBelieved(t *testing.T) {
	w := newWorld(t)
	proven, err := prover(t, ethrpc.VerifyRequired, 1, w.url).Read(t.Context(), controlled(w.kms.Address()))
	if err != nil {
		t.Fatal(err)
	}
	want := proven.Control[w.kms.Address()]
	ofImplementation := func(result string) rpcfault.Fault {
		return rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
			if c.Method == "eth_getCode" && strings.Contains(string(c.Params[0]), strings.ToLower(want.Implementation.Hex()[2:])) {
				a.Result, a.Error = json.RawMessage(result), nil
			}
		}}
	}
	for _, row := range []struct {
		sentence string
		fault    rpcfault.Fault
		says     string // why not all of it could be read; empty: it could
	}{
		{"nothing is wrong", rpcfault.Fault{}, ""},
		{"the slot is refused", rpcfault.Refuse("eth_getStorageAt", -32601, "no such method"), "no such method"},
		{"the slot reverts, as nothing does that is no call", rpcfault.Refuse("eth_getStorageAt", 3, "execution reverted"), "execution reverted"},
		{"the slot is null", rpcfault.Null("eth_getStorageAt"), "the answer is null"},
		{"the slot is a number", rpcfault.WrongType("eth_getStorageAt", "7"), "reading the implementation's slot: the answer is no hex data"},
		{"the slot has 31 bytes", rpcfault.ShortWord("eth_getStorageAt"), "the answer has 31 bytes, want 32"},
		{"the slot holds no address", rpcfault.WrongType("eth_getStorageAt", `"0x`+strings.Repeat("f", 64)+`"`), "reading the implementation's slot: the answer is no address"},
		{"the implementation's code is a number", ofImplementation("7"), "reading the implementation's code: the answer is no hex data"},
		{"the implementation's code is null", ofImplementation("null"), "the answer is null"},
		{"a getter answers no bytes", ofGetter("owner()", `"0x"`), "reading owner(): the answer has no bytes"},
		{"a getter answers a number", ofGetter("owner()", "7"), "reading owner(): the answer is no hex data"},
		{"the owner is no address", ofGetter("owner()", `"0x01"`), "reading owner(): the answer is no address"},
		{"a text has no end", ofGetter("gatewayAppId()", `"0x`+strings.Repeat("f", 64)+`"`), "reading gatewayAppId()"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			w.proxy.Set(row.fault)
			s, err := newClient(t, "latest", w.url).Read(t.Context(), controlled(w.kms.Address()))
			if err != nil {
				t.Fatal(err)
			}
			got := s.Control[w.kms.Address()]
			switch {
			case row.says != "" && (got.Err == nil || !strings.Contains(got.Err.Error(), row.says)):
				t.Errorf("Err = %v, want %q", got.Err, row.says)
			case row.says != "" && (got.CodeHash != want.CodeHash || !bytes.Equal(got.K256Pubkey, want.K256Pubkey)):
				t.Errorf("what was read well is %+v, want it of %+v", got, want)
			case row.says == "":
				want := want
				want.Proven = false
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("believed and proven (-want +got):\n%s", diff)
				}
			}
		})
	}
	w.proxy.Set(rpcfault.Refuse("eth_getStorageAt", -32000, "missing trie node"))
	if _, err := newClient(t, "latest", w.url).Read(t.Context(), controlled(w.kms.Address())); !errors.Is(err, ethrpc.ErrNoState) {
		t.Errorf("Read = %v, want no state where the slot's is pruned", err)
	}
}

// TestProvidersAgreeOnControl also of a contract that has none of its getters.
func TestProvidersAgreeOnControl(t *testing.T) {
	bare := common.Address{0: 0xcc}
	chain, err := testchain.Start(testchain.Options{Alloc: types.GenesisAlloc{bare: {Code: common.FromHex("5f5ffd")}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chain.Close() })
	other := rpcfault.New(chain.URL())
	urls := []string{chain.URL(), serve(t, other)}
	for _, row := range []struct {
		sentence string
		fault    rpcfault.Fault
		says     string
	}{
		{"they say the same", rpcfault.Fault{}, ""},
		{"one names an owner", ofGetter("owner()", `"0x`+strings.Repeat("0", 63)+`1"`), "is owned by nobody, offered to nobody, implemented by nobody"},
		{"one names a gateway", ofGetter("gatewayAppId()", `"0x`+strings.Repeat("0", 62)+"20"+strings.Repeat("0", 63)+"1"+"61"+strings.Repeat("0", 62)+`"`), "disagree"},
		{"one has no such block", rpcfault.Null("eth_getBlockByNumber"), "1 of the 2 providers"},
		{"one has another", edit("", "eth_getBlockByNumber", func(_ rpcfault.Call, r string) string {
			hash := strings.Index(r, `"hash":"`) + len(`"hash":"`)
			return r[:hash] + hash1 + r[hash+len(hash1):]
		}), "its hash is 0x"},
		{"one answers no code", rpcfault.WrongType("eth_getCode", "7"), "1 of the 2 providers"},
	} {
		other.Set(row.fault)
		s, err := prover(t, ethrpc.VerifyOff, 2, urls...).Read(t.Context(), controlled(bare))
		switch {
		case row.says == "" && (err != nil || s.Agreed != 2):
			t.Errorf("%s: Read = %+v, %v", row.sentence, s, err)
		case row.says != "" && (err == nil || !strings.Contains(err.Error(), row.says)):
			t.Errorf("%s: Read = %v, want %q", row.sentence, err, row.says)
		}
	}
}

// TestAStateIsProvenByItsEvidence: by all of it, and by nothing less.
func TestAStateIsProvenByItsEvidence(t *testing.T) {
	w := newWorld(t)
	q := ethrpc.Questions{
		Asks: w.asks(), Control: true, Explain: ethrpc.Whole(w.kms.Address(), []common.Hash{{1}}, []common.Address{{2}}),
		Slots: map[common.Address][]common.Hash{w.kms.Address(): {{31: 99}}},
	}
	person := ethrpc.Ask{Contract: testchain.Address("owner")}
	nobody := ethrpc.Ask{Contract: testchain.Address("nobody"), Getter: ethrpc.AllowedDevice, ID: device}
	q.Asks = append(q.Asks, person, nobody)
	c := prover(t, ethrpc.VerifyRequired, 1, w.url)
	s, err := c.Read(t.Context(), ethrpc.Request{Questions: func(context.Context, ethrpc.Block) ethrpc.Questions { return q }})
	if err != nil {
		t.Fatal(err)
	}
	delete(s.Answers, nobody) // its error is another value in each
	all := *s.Evidence()
	got, err := ethrpc.Prove(t.Context(), 1337, s.Block.Hash, all, q, false)
	if err != nil {
		t.Fatal(err)
	}
	if a := got.Answers[nobody]; a.Err == nil || !a.Proven {
		t.Errorf("an account that is not there answers %+v", a)
	}
	same := func(got *ethrpc.State) bool {
		delete(got.Answers, nobody)
		return cmp.Equal(s.Block, got.Block) && cmp.Equal(s.Answers, got.Answers) && cmp.Equal(s.Control, got.Control) &&
			cmp.Equal(s.Contracts, got.Contracts) && cmp.Equal(s.Code, got.Code)
	}
	if !same(got) || got.Evidence() != nil {
		t.Errorf("proven anew: %+v, want %+v", got, s)
	}
	less := func(what string, e ethrpc.Evidence) {
		t.Helper()
		if got, err := ethrpc.Prove(t.Context(), 1337, s.Block.Hash, e, q, false); err == nil && !same(got) {
			t.Errorf("without %s: %+v", what, got)
		}
		if got, err := ethrpc.Prove(t.Context(), 1337, s.Block.Hash, e, q, true); err == nil {
			for ask, a := range got.Answers {
				if want, asked := s.Answers[ask]; asked && a != want {
					t.Errorf("a sketch without %s says %+v of %+v", what, a, ask)
				}
			}
		}
	}
	for i := range all.Nodes {
		less("a node", ethrpc.Evidence{Header: all.Header, Nodes: slices.Delete(slices.Clone(all.Nodes), i, i+1), Codes: all.Codes})
	}
	for i := range all.Codes {
		less("a code", ethrpc.Evidence{Header: all.Header, Nodes: all.Nodes, Codes: slices.Delete(slices.Clone(all.Codes), i, i+1)})
	}
	for _, row := range []struct {
		sentence string
		e        ethrpc.Evidence
		says     string
	}{
		{"no header", ethrpc.Evidence{Nodes: all.Nodes, Codes: all.Codes}, "the header is that of block"},
		{"no nodes", ethrpc.Evidence{Header: all.Header, Codes: all.Codes}, "does not prove the account"},
		{"no codes", ethrpc.Evidence{Header: all.Header, Nodes: all.Nodes}, "lacks state that the code"},
	} {
		if _, err := ethrpc.Prove(t.Context(), 1337, s.Block.Hash, row.e, q, false); err == nil || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: Prove = %v, want %q", row.sentence, err, row.says)
		}
	}
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if _, err := ethrpc.Prove(ended, 1337, s.Block.Hash, all, q, false); err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("Prove = %v, want it to end with its context", err)
	}
	never, err := rlp.EncodeToBytes(&types.Header{Number: big.NewInt(1), Difficulty: new(big.Int), Time: 1 << 63})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ethrpc.Prove(t.Context(), 1337, crypto.Keccak256Hash(never), ethrpc.Evidence{Header: never}, q, false); err == nil || !strings.Contains(err.Error(), "lacks a possible number or time") {
		t.Errorf("Prove = %v, want no block of that time", err)
	}
	if s, err := newClient(t, "latest", w.url).Read(t.Context(), w.request()); err != nil || s.Evidence() != nil {
		t.Errorf("what is believed has evidence: %v, %v", s, err)
	}
}
