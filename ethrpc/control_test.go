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
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// controlled asks for a contract's code and control.
func controlled(contract common.Address) request {
	return request{queries: []ethrpc.Query{{Contract: contract, Control: true}}}
}

// ofGetter replaces the answers to calls of a getter.
func ofGetter(signature, result string) rpcfault.Fault {
	selector := hexutil.Encode(crypto.Keccak256([]byte(signature))[:4])
	return rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if c.Method == "eth_call" && bytes.Contains(c.Params[0], []byte(selector)) {
			a.Result, a.Error = json.RawMessage(result), nil
		}
	}}
}

// errorsOf lists the fields of a Control that have an error.
func errorsOf(c ethrpc.Control) map[string]error {
	out := map[string]error{}
	for name, err := range map[string]error{"owner": c.Owner.Err, "pending owner": c.PendingOwner.Err, "implementation": c.Implementation.Err,
		"gateway": c.GatewayAppID.Err, "k256": c.K256Pubkey.Err, "ca": c.CAPubkey.Err, "app": c.AppImplementation.Err, "code": c.CodeErr} {
		if err != nil {
			out[name] = err
		}
	}
	return out
}

// TestUnprovenControl checks that each unreadable field has its own error, and that the others are right.
func TestUnprovenControl(t *testing.T) {
	w := newWorld(t)
	proven, err := look(t.Context(), prover(t, ethrpc.VerifyRequired, 1, w.URL), controlled(w.KMS.Address()))
	if err != nil {
		t.Fatal(err)
	}
	want := proven.Control
	if !want.Owner.Present || !want.Implementation.Present || len(want.Code.Accounts) != 2 || !want.Code.Complete || len(errorsOf(want)) > 0 {
		t.Fatalf("proven: %+v", want)
	}
	want.Code.Complete = false // unproven answers do not show which code runs
	ofImplementation := func(result string) rpcfault.Fault {
		return rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
			if c.Method == "eth_getCode" && strings.Contains(string(c.Params[0]), strings.ToLower(want.Implementation.Value.Hex()[2:])) {
				a.Result, a.Error = json.RawMessage(result), nil
			}
		}}
	}
	slot := []string{"implementation", "code"}
	for _, row := range []struct {
		sentence string
		fault    rpcfault.Fault
		lost     []string // what could not be read
		says     string   // why
	}{
		{"nothing is wrong", rpcfault.Fault{}, nil, ""},
		{"the slot is refused", rpcfault.Refuse("eth_getStorageAt", -32601, "no such method"), slot, "no such method"},
		{"the slot's read reverts, as only calls do", rpcfault.Refuse("eth_getStorageAt", 3, "execution reverted"), slot, "execution reverted"},
		{"the slot is null", rpcfault.Null("eth_getStorageAt"), slot, "the answer is null"},
		{"the slot is a number", rpcfault.WrongType("eth_getStorageAt", "7"), slot, "reading the implementation's slot: the answer is not hex data"},
		{"the slot has 31 bytes", rpcfault.ShortWord("eth_getStorageAt"), slot, "the answer has 31 bytes, want 32"},
		{"the slot does not hold an address", rpcfault.WrongType("eth_getStorageAt", `"0x`+strings.Repeat("f", 64)+`"`), slot, "reading the implementation's slot: the answer is not an address"},
		{"the implementation's code is a number", ofImplementation("7"), []string{"code"}, "reading the implementation's code: the answer is not hex data"},
		{"the implementation's code is null", ofImplementation("null"), []string{"code"}, "the answer is null"},
		{"a getter returns no bytes", ofGetter("owner()", `"0x"`), []string{"owner"}, "reading owner(): the answer is empty"},
		{"a getter answers a number", ofGetter("owner()", "7"), []string{"owner"}, "reading owner(): the answer is not hex data"},
		{"the owner is not an address", ofGetter("owner()", `"0x01"`), []string{"owner"}, "reading owner(): the answer is not an address"},
		{"a text has no end", ofGetter("gatewayAppId()", `"0x`+strings.Repeat("f", 64)+`"`), []string{"gateway"}, "reading gatewayAppId()"},
		{"the implementation of apps is not an address", ofGetter("appImplementation()", `"0x01"`), []string{"app"}, "reading appImplementation(): the answer is not an address"},
		{"the keys are too short", ofGetter("kmsInfo()", `"0x01"`), []string{"k256", "ca"}, "reading kmsInfo()"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			w.Proxy.Set(row.fault)
			s, err := look(t.Context(), newClient(t, "latest", w.URL), controlled(w.KMS.Address()))
			if err != nil {
				t.Fatal(err)
			}
			lost := errorsOf(s.Control)
			for _, name := range row.lost {
				if err := lost[name]; err == nil || !strings.Contains(err.Error(), row.says) {
					t.Errorf("%s: %v, want %q", name, err, row.says)
				}
			}
			if len(lost) != len(row.lost) {
				t.Errorf("lost: %v, want %q", lost, row.lost)
			}
			got, want := s.Control, want
			for name := range lost { // the rest must equal the proven fields
				switch name {
				case "owner":
					got.Owner, want.Owner = ethrpc.Field[common.Address]{}, ethrpc.Field[common.Address]{}
				case "implementation":
					got.Implementation, want.Implementation = ethrpc.Field[common.Address]{}, ethrpc.Field[common.Address]{}
				case "gateway":
					got.GatewayAppID, want.GatewayAppID = ethrpc.Field[string]{}, ethrpc.Field[string]{}
				case "k256":
					got.K256Pubkey, want.K256Pubkey = ethrpc.Field[[]byte]{}, ethrpc.Field[[]byte]{}
				case "app":
					got.AppImplementation, want.AppImplementation = ethrpc.Field[common.Address]{}, ethrpc.Field[common.Address]{}
				case "ca":
					got.CAPubkey, want.CAPubkey = ethrpc.Field[[]byte]{}, ethrpc.Field[[]byte]{}
				case "code":
					got.CodeErr, want.Code.Accounts = nil, want.Code.Accounts[:1]
					if slices.Contains(row.lost, "implementation") { // then it is unknown whether it is a proxy
						got.Code.Accounts[0].Role = want.Code.Accounts[0].Role
					}
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("believed and proven (-want +got):\n%s", diff)
			}
		})
	}
	w.Proxy.Set(rpcfault.Refuse("eth_getStorageAt", -32000, "missing trie node"))
	if _, err := look(t.Context(), newClient(t, "latest", w.URL), controlled(w.KMS.Address())); !errors.Is(err, ethrpc.ErrNoState) {
		t.Errorf("Read = %v, want ErrNoState for a pruned slot", err)
	}
}

// TestProvidersAgreeOnControl includes a contract that has none of the getters.
func TestProvidersAgreeOnControl(t *testing.T) {
	bare := common.Address{0: 0xcc}
	chain, err := testchain.Start(testchain.Options{Alloc: types.GenesisAlloc{bare: {Code: common.FromHex("5f5ffd")}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chain.Close() })
	other := rpcfault.New(chain.URL())
	urls := []string{chain.URL(), testenv.Serve(t, other)}
	for _, row := range []struct {
		sentence string
		fault    rpcfault.Fault
		says     string
	}{
		{"they say the same", rpcfault.Fault{}, ""},
		{"one names an owner", ofGetter("owner()", `"0x`+strings.Repeat("0", 63)+`1"`), " has owner none, pending owner none, implementation none"},
		{"one names a gateway", ofGetter("gatewayAppId()", `"0x`+strings.Repeat("0", 62)+"20"+strings.Repeat("0", 63)+"1"+"61"+strings.Repeat("0", 62)+`"`), "disagree"},
		{"one names an implementation of apps", ofGetter("appImplementation()", `"0x`+strings.Repeat("0", 63)+`1"`), "disagree"},
		{"one names it by its older getter", ofGetter("appAuthImplementation()", `"0x`+strings.Repeat("0", 63)+`1"`), "disagree"},
		{"one has no such block", rpcfault.Null("eth_getBlockByNumber"), "only 1 of the 2 required providers"},
		{"one has another", edit("", "eth_getBlockByNumber", func(_ rpcfault.Call, r string) string {
			hash := strings.Index(r, `"hash":"`) + len(`"hash":"`)
			return r[:hash] + hash1 + r[hash+len(hash1):]
		}), "its hash is 0x"},
		{"one answers no code", rpcfault.WrongType("eth_getCode", "7"), "only 1 of the 2 required providers"},
	} {
		other.Set(row.fault)
		s, err := look(t.Context(), prover(t, ethrpc.VerifyOff, 2, urls...), controlled(bare))
		switch {
		case row.says == "" && (err != nil || s.Agreed != 2):
			t.Errorf("%s: Read = %+v, %v", row.sentence, s, err)
		case row.says != "" && (err == nil || !strings.Contains(err.Error(), row.says)):
			t.Errorf("%s: Read = %v, want %q", row.sentence, err, row.says)
		}
	}
}

// weakerControl reports whether each field of got is that of want, or an error.
func weakerControl(want, got ethrpc.Control) bool {
	if !got.Code.Complete {
		want.Code = got.Code
	}
	if got.Owner.Err != nil {
		want.Owner = got.Owner
	}
	if got.PendingOwner.Err != nil {
		want.PendingOwner = got.PendingOwner
	}
	if got.GatewayAppID.Err != nil {
		want.GatewayAppID = got.GatewayAppID
	}
	if got.K256Pubkey.Err != nil {
		want.K256Pubkey = got.K256Pubkey
	}
	if got.CAPubkey.Err != nil {
		want.CAPubkey = got.CAPubkey
	}
	return cmp.Equal(want, got, sameError)
}

// TestAReadingIsProvenByItsWitness checks that a Witness proves its reading. A smaller witness may prove less: fields of Control
// have errors then, and less of the storage is explained.
func TestAReadingIsProvenByItsWitness(t *testing.T) {
	w := newWorld(t)
	q := w.query()
	q.Control, q.AggregatedMRs, q.Apps, q.Slots = true, []common.Hash{{1}}, []common.Address{{2}}, []common.Hash{{31: 99}}
	person := ethrpc.Query{Contract: testchain.Address("owner"), CodeOnly: true}
	nobody := ethrpc.Query{Contract: testchain.Address("nobody"), Devices: []common.Hash{device}}
	queries := []ethrpc.Query{q, person, nobody}
	c := prover(t, ethrpc.VerifyRequired, 1, w.URL)
	s, err := look(t.Context(), c, request{queries: queries})
	if err != nil {
		t.Fatal(err)
	}
	all := *s.state.Witness()
	got, block, err := ethrpc.Prove(t.Context(), 1337, s.at.Block.Hash, all, queries, false)
	if err != nil {
		t.Fatal(err)
	}
	offline := cmpopts.IgnoreFields(ethrpc.Reading{}, "Provider", "Agreed")
	if diff := cmp.Diff(s.state.Readings, got.Readings, sameError, offline); diff != "" || block != s.at.Block || got.Witness() != nil {
		t.Errorf("proven anew at %+v (-want +got):\n%s", block, diff)
	}
	if a := got.Readings[2].Devices[device]; a.Err == nil || !got.Readings[2].Proven {
		t.Errorf("an account that is not there answers %+v", a)
	}
	weaker := cmpopts.IgnoreFields(ethrpc.Reading{}, "Control", "Storage.Slots", "Storage.Complete")
	less := func(what string, less ethrpc.Witness) {
		t.Helper()
		for _, partial := range []bool{false, true} {
			got, _, err := ethrpc.Prove(t.Context(), 1337, s.at.Block.Hash, less, queries, partial)
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range got.Readings {
				want := s.state.Readings[i]
				if r.Err == nil && !r.Partial && (!cmp.Equal(want, r, sameError, offline, weaker) || !weakerControl(want.Control, r.Control) || want.Storage != nil && *want.Storage != *r.Storage && r.Storage.Complete) {
					t.Errorf("without %s: %+v", what, r)
				}
				for id, a := range r.OSImages {
					if a.Allowed != s.state.Readings[i].OSImages[id].Allowed {
						t.Errorf("without %s, image %s is %+v", what, id, a)
					}
				}
			}
		}
	}
	for i := range all.Nodes {
		less("a node", ethrpc.Witness{Header: all.Header, Nodes: slices.Delete(slices.Clone(all.Nodes), i, i+1), Codes: all.Codes})
	}
	for i := range all.Codes {
		less("a code", ethrpc.Witness{Header: all.Header, Nodes: all.Nodes, Codes: slices.Delete(slices.Clone(all.Codes), i, i+1)})
	}
	for _, row := range []struct {
		sentence string
		e        ethrpc.Witness
		says     string
	}{
		{"no header", ethrpc.Witness{Nodes: all.Nodes, Codes: all.Codes}, "the header is that of block"},
		{"no nodes", ethrpc.Witness{Header: all.Header, Codes: all.Codes}, "does not prove the account"},
		{"no codes", ethrpc.Witness{Header: all.Header, Nodes: all.Nodes}, "lacks state that the code"},
	} {
		got, _, err := ethrpc.Prove(t.Context(), 1337, s.at.Block.Hash, row.e, queries, false)
		if err == nil {
			err = got.Readings[0].Err
		}
		if err == nil || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: Prove = %v, want %q", row.sentence, err, row.says)
		}
	}
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if _, _, err := ethrpc.Prove(ended, 1337, s.at.Block.Hash, all, queries, false); err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("Prove = %v, want it to end with its context", err)
	}
	never, err := rlp.EncodeToBytes(&types.Header{Number: big.NewInt(1), Difficulty: new(big.Int), Time: 1 << 63})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := ethrpc.Prove(t.Context(), 1337, crypto.Keccak256Hash(never), ethrpc.Witness{Header: never}, queries, false); err == nil || !strings.Contains(err.Error(), "has an impossible number or time") {
		t.Errorf("Prove = %v, want no block of that time", err)
	}
	if s, err := look(t.Context(), newClient(t, "latest", w.URL), w.request()); err != nil || s.state.Witness() != nil {
		t.Errorf("an unproven reading has a witness: %v, %v", s, err)
	}
}
