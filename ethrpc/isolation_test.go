package ethrpc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

const (
	returnsTop = "5f5260205ff3"          // what is on the stack
	looksUp    = "60043554" + returnsTop // returns the word in the slot of the id
	onlyLists  = "36602414600857005b"    // goes on at 8 where it is called with an id, and returns nothing else
)

var odd, honest = common.Address{0: 0xcc}, common.Address{0: 0xaa}

// sameError compares errors by their text.
var sameError = cmp.Comparer(func(a, b error) bool { return (a == nil) == (b == nil) && (a == nil || a.Error() == b.Error()) })

// twoContracts is a chain with a KMS and a contract with the given code.
func twoContracts(t *testing.T, code string, storage map[common.Hash]common.Hash) *world {
	t.Helper()
	return besides(t, types.GenesisAlloc{odd: {Code: common.FromHex(code), Balance: new(big.Int), Storage: storage}})
}

// besides is a chain with a KMS and other accounts.
func besides(t *testing.T, others types.GenesisAlloc) *world {
	t.Helper()
	w := &world{testenv.Start(t, testchain.Options{
		Preload: []testchain.Preload{{Address: honest, Devices: []common.Hash{device}, Images: []common.Hash{image}}}, Alloc: others,
	})}
	w.KMS = w.Chain.KMS(honest)
	w.Chain.Commit()
	w.Chain.Commit()
	return w
}

func ids(n int) (out []common.Hash) {
	for i := range n {
		out = append(out, common.BigToHash(big.NewInt(int64(i+1))))
	}
	return out
}

// both asks for both contracts, the odd one first.
func (w *world) both(devices int) request {
	q := w.query()
	q.Control = true
	return request{queries: []ethrpc.Query{{Contract: odd, Devices: ids(devices), Control: true}, q}}
}

// unharmed reads both contracts, checks that the KMS reads as it does alone, and returns the other reading.
func (w *world) unharmed(t *testing.T, verify ethrpc.Verify, req request) ethrpc.Reading {
	t.Helper()
	alone, err := look(t.Context(), prover(t, ethrpc.VerifyRequired, 1, w.Chain.URL()), request{queries: req.queries[1:]})
	if err != nil {
		t.Fatal(err)
	}
	w.proven(t, alone, true)
	c := prover(t, verify, 1, w.URL)
	at, err := c.Pin(t.Context(), req.PinRequest)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Read(t.Context(), at, req.queries, req.ReadOptions)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(alone.Reading, s.Readings[1], sameError); diff != "" {
		t.Errorf("alone and beside the odd one (-want +got):\n%s", diff)
	}
	return s.Readings[0]
}

// runsLittle makes a node answer no fixed getter and refuse multicalls, which would keep it busy.
func runsLittle(multicalls bool) rpcfault.Fault {
	return rpcfault.Fault{Ask: func(c *rpcfault.Call) {
		if fixedGetter(*c) || multicalls && bundled(*c) {
			c.Method = "none"
		}
	}}
}

// TestCodeThatMisbehavesEndsItsOwnRunOnly checks that another contract's reading is unaffected.
func TestCodeThatMisbehavesEndsItsOwnRunOnly(t *testing.T) {
	chained := map[common.Hash]common.Hash{} // each slot holds the key of the next
	for last, i := (common.Hash{}), 0; i < 40; i++ {
		next := crypto.Keccak256Hash(last[:])
		chained[last], last = next, next
	}
	const writes = "it writes when it is called"
	for _, row := range []struct {
		sentence, code string
		storage        map[common.Hash]common.Hash
		devices        int
		says           string // if proven, the answers' error; else why it is not proven
		proven         bool
	}{
		{"it asks for an old block's hash", "5f40" + returnsTop, nil, 1, "hash of block 0", false},
		{"it never ends", "600856", nil, 1, "out of gas", false},
		{"it calls itself, twice, as deep as it can", "365f5f37" + strings.Repeat("5f5f365f5f305af1", 2) + returnsTop, nil, 1, "", true},
		{"its slots are found one by one", "5f" + strings.Repeat("54", 40) + returnsTop, chained, 1, "still asks for more state", false},
		{"its accounts are found one by one", "6110005b803b506001018061106411600c57" + looksUp, nil, 1, "still asks for more state", false},
		{"an invalid instruction", "fe", nil, 1, "invalid opcode", false},
		{"it is slow", "620c00005b6001900380600d5760015f5260205ff3", nil, 400, "takes too long", false},
		{"it stores", "600160015560015f5260205ff3", nil, 1, writes, true},
		{"it stores for the transaction", "600160015d60015f5260205ff3", nil, 1, writes, true},
		{"it logs", "5f5fa060015f5260205ff3", nil, 1, writes, true},
		{"it creates", "5f5f5ff060015f5260205ff3", nil, 1, writes, true},
		{"it destroys itself", "5fff", nil, 1, writes, true},
		{"it sends value", "5f5f5f5f600173aa00000000000000000000000000000000000000" + "5af1" + returnsTop, nil, 1, writes, true},
		{"it asks for an old block's hash, and stores", "5f40600155" + "60015f5260205ff3", nil, 1, writes, true},
		{"it reads much", "5f5b80545060010180610fa0116" + "00a57" + looksUp, nil, 2, "", true},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			t.Parallel()
			w := twoContracts(t, onlyLists+row.code, row.storage)
			w.Proxy.Set(runsLittle(row.devices > 1))
			got := w.unharmed(t, ethrpc.VerifyRequired, w.both(row.devices))
			answer := got.Devices[ids(1)[0]]
			switch {
			case row.proven && (got.Err != nil || !got.Proven || !strings.Contains(errorText(answer.Err), row.says) || (answer.Err == nil) != (row.says == "")):
				t.Errorf("it is read as %+v, want a proof that it %s", got, row.says)
			case !row.proven && (!errors.Is(got.Err, ethrpc.ErrNoProof) || !strings.Contains(got.Err.Error(), row.says) || got.Proven):
				t.Errorf("it is read as %+v, want the error %q", got, row.says)
			}
			if row.proven || row.devices > 1 { // the node would take equally long
				return
			}
			if got = w.unharmed(t, ethrpc.VerifyAuto, w.both(row.devices)); got.Err != nil || !errors.Is(got.Unproven, ethrpc.ErrNoProof) || !got.HasCode {
				t.Errorf("without a required proof it is read as %+v", got)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestNoNodeIsBelievedWhereTheStateGivesNoAnswer has a node that answers true about a contract whose code cannot be run locally.
func TestNoNodeIsBelievedWhereTheStateGivesNoAnswer(t *testing.T) {
	// For id 1 it reads the hash of an old block; for any other id it writes.
	w := twoContracts(t, "600435600114601657"+"6001600155"+"60015f5260205ff3"+"5b5f40506001"+returnsTop, nil)
	got := w.unharmed(t, ethrpc.VerifyAuto, w.both(2))
	if a, b := got.Devices[ids(2)[0]], got.Devices[ids(2)[1]]; got.Proven || !errors.Is(a.Err, proof.ErrBeyondState) || !errors.Is(b.Err, proof.ErrWrites) {
		t.Errorf("it is read as %+v", got)
	}
}

// TestControlFieldsFailOneByOne checks that a failing getter of Control costs only its field, even if the lists are proven.
func TestControlFieldsFailOneByOne(t *testing.T) {
	for _, row := range []struct {
		sentence, code string // of the getters without an argument
		lost           []string
		says           string
	}{
		{"all answer the word 1", "6001" + returnsTop, []string{"gateway", "k256", "ca"}, "abi"},
		{"all answer no word", "60015ff3", []string{"owner", "pending owner", "gateway", "k256", "ca", "app"}, "reading "},
		{"all never end", "5b600756", []string{"owner", "pending owner", "gateway", "k256", "ca", "app"}, "out of gas"},
		{"all write", "5f5f5500", []string{"owner", "pending owner", "gateway", "k256", "ca", "app"}, "writes"},
		{"all ask for an old block's hash", "5f405000", []string{"owner", "pending owner", "gateway", "k256", "ca", "app"}, "hash of block 0"},
		{"all revert", "5f5ffd", nil, ""},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			head := "366024146000" // where looksUp begins
			begins := byte(len(common.FromHex(head+"57")) + len(common.FromHex(row.code)))
			code := common.FromHex(head + "57" + row.code + "5b" + looksUp)
			code[5] = begins
			w := twoContracts(t, common.Bytes2Hex(code), map[common.Hash]common.Hash{ids(1)[0]: {31: 1}})
			got := w.unharmed(t, ethrpc.VerifyRequired, w.both(2))
			if got.Err != nil || !got.Proven || !got.Devices[ids(1)[0]].Allowed || !got.Storage.Complete {
				t.Fatalf("it is read as %+v", got)
			}
			lost := errorsOf(got.Control)
			for _, name := range row.lost {
				if !strings.Contains(errorText(lost[name]), row.says) || lost[name] == nil {
					t.Errorf("%s: %v, want %q", name, lost[name], row.says)
				}
			}
			if len(lost) != len(row.lost) || len(got.Control.Code.Accounts) == 0 {
				t.Errorf("lost: %v, want %q", lost, row.lost)
			}
		})
	}
}

// TestThreeHundredContractsAreAllProven also checks that they cost one round if nothing changed.
func TestThreeHundredContractsAreAllProven(t *testing.T) {
	const n = 300
	at := func(i int) (a common.Address) {
		binary.BigEndian.PutUint16(a[:], uint16(i+1))
		return a
	}
	// Each one delegates its calls to the same code.
	proxy := "365f5f375f5f365f73" + common.Bytes2Hex(odd[:]) + "5af4503d5f5f3e3d5ff3"
	alloc := types.GenesisAlloc{odd: {Code: common.FromHex(looksUp), Balance: new(big.Int)}}
	var queries []ethrpc.Query
	for i := range n {
		alloc[at(i)] = types.Account{Code: common.FromHex(proxy), Balance: new(big.Int), Storage: map[common.Hash]common.Hash{ids(1)[0]: {31: 1}}}
		queries = append(queries, ethrpc.Query{Contract: at(i), Devices: ids(3)})
	}
	w := &world{testenv.Start(t, testchain.Options{Alloc: alloc})}
	c := prover(t, ethrpc.VerifyRequired, 1, w.URL)
	for i, most := range []int{60, 5} {
		before := w.Proxy.Requests()
		s, err := look(t.Context(), c, request{queries: queries})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range s.state.Readings {
			if a, b := r.Devices[ids(1)[0]], r.Devices[ids(2)[1]]; r.Err != nil || !r.Proven || !r.Storage.Complete || !a.Allowed || b.Allowed {
				t.Fatalf("reading %d: %+v", i, r)
			}
		}
		if got := w.Proxy.Requests() - before; got > most {
			t.Errorf("reading %d: %d requests, want at most %d", i, got, most)
		}
		w.Chain.Commit()
	}
}

// TestManyContractsThatNeverEndKeepNobodyWaiting has many hostile contracts before the one that counts, as an API may list them.
func TestManyContractsThatNeverEndKeepNobodyWaiting(t *testing.T) {
	// ecrecover takes much more time for its gas than other instructions. The signature is valid.
	generator := common.Bytes2Hex(common.LeftPadBytes(crypto.S256().Params().Gx.Bytes(), 32))
	recovers := onlyLists + "601b602052" + "7f" + generator + "604052" + "6001606052" + "5b5f5f60805f60015afa50" + "603756"
	alloc := types.GenesisAlloc{}
	var queries []ethrpc.Query
	for i := range 40 {
		a := common.Address{0: 1, 19: byte(i)}
		alloc[a] = types.Account{Code: common.FromHex(recovers), Balance: new(big.Int)}
		queries = append(queries, ethrpc.Query{Contract: a, Devices: ids(100)})
	}
	w := besides(t, alloc)
	w.Proxy.Set(runsLittle(true))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, _ := look(ctx, prover(t, ethrpc.VerifyRequired, 1, w.URL), request{queries: append(queries, w.query())})
	w.proven(t, &result{Reading: s.state.Readings[40]}, true)
}

// about reports whether a call runs or proves the odd contract.
func about(c rpcfault.Call) bool {
	return bytes.Contains(bytes.ToLower(c.Params[0]), []byte(common.Bytes2Hex(odd[:])))
}

// TestAContractThatMakesTheNodeSlow checks that the other contracts keep their answers, proven or not.
func TestAContractThatMakesTheNodeSlow(t *testing.T) {
	w := twoContracts(t, looksUp, map[common.Hash]common.Hash{ids(1)[0]: {31: 1}})
	w.Proxy.Set(rpcfault.Fault{HTTP: func(rw http.ResponseWriter, r *http.Request, calls []rpcfault.Call, _ bool) bool {
		for _, c := range calls {
			if c.Method == "eth_call" && about(c) {
				<-r.Context().Done()
				panic(http.ErrAbortHandler)
			}
		}
		return false
	}})
	client := func(verify ethrpc.Verify) *ethrpc.Client {
		c, err := ethrpc.New(ethrpc.Options{ChainID: 1337, Tags: []ethrpc.BlockTag{ethrpc.Latest}, Verify: verify, BatchSize: 100,
			Providers: []ethrpc.Provider{{Name: "p1", URL: sanitize.NewSecret(w.URL), Timeout: 300 * time.Millisecond}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	for _, verify := range []ethrpc.Verify{ethrpc.VerifyRequired, ethrpc.VerifyAuto, ethrpc.VerifyOff} {
		for _, prefetch := range [][]common.Address{nil, {odd, honest}} {
			c, req := client(verify), w.both(1)
			at, err := c.Pin(t.Context(), ethrpc.PinRequest{Prefetch: prefetch})
			if err != nil {
				t.Fatal(err)
			}
			s, err := c.Read(t.Context(), at, req.queries, ethrpc.ReadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			w.truth(t, &result{Reading: s.Readings[1]})
			if r := s.Readings[1]; r.Proven != (verify != ethrpc.VerifyOff) || len(r.Failed) > 0 {
				t.Errorf("mode %d: the honest one is read as %+v", verify, r)
			}
			if r := s.Readings[0]; r.Err == nil || !strings.Contains(r.Err.Error(), "no answer within ") {
				t.Errorf("mode %d: the slow one is read as %+v", verify, r)
			}
		}
	}
}

// TestTheNextProviderTakesOverForOneContract has a first provider that fails for one contract only.
func TestTheNextProviderTakesOverForOneContract(t *testing.T) {
	w := twoContracts(t, looksUp, map[common.Hash]common.Hash{ids(1)[0]: {31: 1}})
	proofs := func(f func(*rpcfault.Answer)) rpcfault.Fault {
		return rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
			if c.Method == "eth_getProof" && about(c) {
				f(a)
			}
		}}
	}
	for _, row := range []struct {
		sentence string
		fault    rpcfault.Fault
		lie      func(error) bool
	}{
		{"its proof is invalid", proofs(func(a *rpcfault.Answer) {
			a.Result = bytes.Replace(a.Result, []byte(`Proof":["0xf`), []byte(`Proof":["0xe`), 1)
		}),
			func(err error) bool { return errors.Is(err, proof.ErrInvalid) }},
		{"it is refused a proof", proofs(func(a *rpcfault.Answer) {
			a.Result, a.Error = nil, &rpcfault.Error{Code: -32000, Message: "distance to target block exceeds maximum proof window"}
		}), func(err error) bool { return errors.Is(err, ethrpc.ErrNoProof) }},
		{"its getter disagrees", rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
			if c.Method == "eth_call" && about(c) {
				a.Result, a.Error = json.RawMessage(wordNo), nil
			}
		}}, func(err error) bool { _, ok := errors.AsType[*ethrpc.GetterError](err); return ok }},
		{"its state is gone", proofs(func(a *rpcfault.Answer) {
			a.Result, a.Error = nil, &rpcfault.Error{Code: -32000, Message: "header not found"}
		}), func(err error) bool { return errors.Is(err, ethrpc.ErrNoState) }},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			w.Proxy.Set(row.fault)
			s, err := look(t.Context(), prover(t, ethrpc.VerifyRequired, 1, w.URL, w.Chain.URL()), w.both(1))
			if err != nil {
				t.Fatal(err)
			}
			if r := s.Reading; r.Provider != "p2" || !r.Proven || !r.Devices[ids(1)[0]].Allowed || len(r.Failed) != 1 || r.Failed[0].Provider != "p1" || !row.lie(r.Failed[0]) {
				t.Errorf("the odd one is read as %+v", r)
			}
			if r := s.state.Readings[1]; r.Provider != "p1" || !r.Proven || len(r.Failed) > 0 || len(s.state.Failed) > 0 {
				t.Errorf("the honest one is read as %+v, %v", r, s.state.Failed)
			}
			s, err = look(t.Context(), prover(t, ethrpc.VerifyRequired, 1, w.URL), w.both(1))
			if s == nil || !row.lie(err) || s.state.Readings[1].Err != nil || !s.state.Readings[1].Proven {
				t.Errorf("with one provider: %+v, %v", s, err)
			}
		})
	}
}

// TestProvidersDisagreeAboutOneContract checks that the other contract is still read.
func TestProvidersDisagreeAboutOneContract(t *testing.T) {
	w := twoContracts(t, looksUp, map[common.Hash]common.Hash{ids(1)[0]: {31: 1}})
	w.Proxy.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if c.Method == "eth_call" && about(c) {
			a.Result, a.Error = json.RawMessage(wordNo), nil
		}
	}})
	s, err := look(t.Context(), prover(t, ethrpc.VerifyOff, 2, w.Chain.URL(), w.URL), w.both(1))
	if _, ok := errors.AsType[*ethrpc.DisagreementError](err); !ok || s == nil || s.state.Agreed != 2 {
		t.Fatalf("Read = %+v, %v", s, err)
	}
	if r := s.state.Readings[1]; r.Err != nil || r.Agreed != 2 || len(r.Failed) > 0 {
		t.Errorf("the other is read as %+v", r)
	}
}

// TestCodeThatLooksAtTheBlockIsRunAgainAlone checks that no requests are made about the other contract.
func TestCodeThatLooksAtTheBlockIsRunAgainAlone(t *testing.T) {
	w := twoContracts(t, "425f5260205ff3", nil) // returns block.timestamp
	c := prover(t, ethrpc.VerifyRequired, 1, w.URL)
	var others atomic.Int64
	last := ""
	for i := range 3 {
		before := w.Proxy.Requests()
		s, err := look(t.Context(), c, w.both(1))
		if err != nil {
			t.Fatal(err)
		}
		said := errorText(s.Devices[ids(1)[0]].Err) // it quotes the word, which is not a bool
		if said == last || said == "" {
			t.Errorf("reading %d: the getter's time has not changed from %s", i, said)
		}
		last = said
		if got := w.Proxy.Requests() - before; i > 0 && (got > 3 || others.Load() > 0) {
			t.Errorf("reading %d: %d requests, %d calls of the honest one", i, got, others.Load())
		}
		w.Chain.Commit()
		w.Proxy.Watch(func(c rpcfault.Call) {
			if c.Method != "eth_getProof" && len(c.Params) > 0 && bytes.Contains(bytes.ToLower(c.Params[0]), []byte(common.Bytes2Hex(honest[:]))) {
				others.Add(1)
			}
		})
	}
}

// TestTimeIsLeftForTheOthers checks that slow contracts come last and end before the context does.
func TestTimeIsLeftForTheOthers(t *testing.T) {
	w := twoContracts(t, onlyLists+"600856", nil) // it never ends
	w.Proxy.Set(runsLittle(true))
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	req := w.both(400)
	s, err := look(ctx, prover(t, ethrpc.VerifyRequired, 1, w.URL), req)
	if !errors.Is(err, ethrpc.ErrNoProof) || ctx.Err() != nil {
		t.Fatalf("Read = %+v, %v; the time is over: %v", s, err, ctx.Err())
	}
	w.proven(t, &result{Reading: s.state.Readings[1]}, true)
}
