package ethrpc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

func TestClientsThatCannotBe(t *testing.T) {
	latest := []ethrpc.BlockTag{ethrpc.Latest}
	one := []ethrpc.Provider{{Name: "p1", URL: sanitize.NewSecret("http://127.0.0.1:1")}}
	for _, row := range []struct {
		sentence string
		o        ethrpc.Options
		says     string
	}{
		{"no policy", ethrpc.Options{Providers: one}, "needs a block policy and a provider"},
		{"no provider", ethrpc.Options{Tags: latest}, "needs a block policy and a provider"},
		{"two of one must agree", ethrpc.Options{Tags: latest, Providers: one, Agreement: 2}, "an agreement of 2 needs as many providers, but there are only 1"},
		{"a provider by FTP", ethrpc.Options{Tags: latest, Providers: []ethrpc.Provider{{Name: "p1", URL: sanitize.NewSecret("ftp://canary")}}}, "provider p1: "},
	} {
		if _, err := ethrpc.New(row.o); err == nil || !strings.Contains(err.Error(), row.says) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: New = %v, want %q", row.sentence, err, row.says)
		}
	}
}

// ofBlocks changes the answers for blocks by number, not by tag.
func ofBlocks(result string) rpcfault.Fault {
	return rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if c.Method == "eth_getBlockByNumber" && bytes.HasPrefix(c.Params[0], []byte(`"0x`)) {
			a.Result, a.Error = json.RawMessage(result), nil
		}
	}}
}

// only restricts a fault to requests that call a method.
func only(method string, broken http.HandlerFunc) rpcfault.Fault {
	return rpcfault.Fault{HTTP: func(w http.ResponseWriter, r *http.Request, calls []rpcfault.Call, _ bool) bool {
		for _, c := range calls {
			if c.Method == method {
				broken(w, r)
				return true
			}
		}
		return false
	}}
}

func answers500(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "no", http.StatusInternalServerError)
}

func breaksOff(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	_, _ = w.Write([]byte(`[{"jsonrpc`))
}

// TestReadingThatIsSpoiled checks the error for each broken method.
func TestReadingThatIsSpoiled(t *testing.T) {
	w := newWorld(t)
	w.Chain.Commit()
	notYet := rpcfault.Refuse("eth_call", -32000, "header not found")
	for _, row := range []struct {
		sentence string
		verify   ethrpc.Verify
		policy   string
		fault    rpcfault.Fault
		says     string
	}{
		{"the head is not to be had", ethrpc.VerifyOff, "1", rpcfault.Refuse("eth_getBlockByNumber", -32603, "on fire"), "reading the latest block: "},
		{"the node has no block at all", ethrpc.VerifyOff, "latest", rpcfault.Refuse("eth_getBlockByNumber", -32000, "header not found"), "no such block"},
		{"the head is not a block", ethrpc.VerifyOff, "latest", rpcfault.WrongType("eth_getBlockByNumber", "7"), "decoding the block"},
		{"the block behind the head cannot be asked for", ethrpc.VerifyOff, "latest-1", rpcfault.Fault{HTTP: func(w http.ResponseWriter, _ *http.Request, calls []rpcfault.Call, batch bool) bool {
			if len(calls) == 1 {
				answers500(w, nil)
			}
			return len(calls) == 1
		}}, "pinning block latest-1: HTTP status 500"},
		{"the chain id is null", ethrpc.VerifyOff, "latest", rpcfault.Null("eth_chainId"), "reading eth_chainId: the answer is null"},
		{"code is a number", ethrpc.VerifyOff, "latest", rpcfault.WrongType("eth_getCode", "7"), "reading the code of"},
		{"reading is answered 500", ethrpc.VerifyOff, "latest", only("eth_getCode", answers500), "reading at block"},
		{"an answer breaks off", ethrpc.VerifyOff, "latest", only("eth_getCode", breaksOff), "reading the answer: unexpected EOF"},
		{"a block that was read by its number is gone", ethrpc.VerifyOff, "latest", rpcfault.Join(rpcfault.RefusesBlockObject, ofBlocks("null")), "the provider no longer has block 5, which was just read"},
		{"a block that was read by its number is not a block", ethrpc.VerifyOff, "latest", rpcfault.Join(rpcfault.RefusesBlockObject, ofBlocks("7")), "checking block"},
		{"a block that is not known is gone", ethrpc.VerifyOff, "latest", rpcfault.Join(notYet, ofBlocks("null")), "header not found"},
		{"an unknown block is not a block", ethrpc.VerifyOff, "latest", rpcfault.Join(notYet, ofBlocks("7")), "checking block"},
		{"a block that is not known is another", ethrpc.VerifyOff, "latest", rpcfault.Join(notYet, ofBlocks(`{"number":"0x1","hash":"`+hash1+`","timestamp":"0x1"}`)), "reorganised between pin and read"},

		{"code to be proven is a number", ethrpc.VerifyRequired, "latest", rpcfault.WrongType("eth_getCode", "7"), "reading the code of"},
		{"code to be proven is refused", ethrpc.VerifyRequired, "latest", rpcfault.Refuse("eth_getCode", -32603, "on fire"), "on fire"},
		{"code to be proven is of a block that is gone", ethrpc.VerifyRequired, "latest", rpcfault.Refuse("eth_getCode", -32000, "missing trie node"), "use a provider that keeps older state"},
		{"proofs are of a block that is not known", ethrpc.VerifyRequired, "latest", rpcfault.Refuse("eth_getProof", -32000, "header not found"), "header not found"},
		{"a proof is a number", ethrpc.VerifyRequired, "latest", rpcfault.WrongType("eth_getProof", "7"), "it cannot be decoded"},
		{"a proof is null", ethrpc.VerifyRequired, "latest", rpcfault.Null("eth_getProof"), "the answer is null"},
		{"proving is answered 500", ethrpc.VerifyRequired, "latest", only("eth_getProof", answers500), "proving at block"},
		{"a block has no header's fields", ethrpc.VerifyRequired, "latest", rpcfault.WrongType("eth_getBlockByNumber", `{"number":"0x1","hash":"`+hash1+`","timestamp":"0x1"}`), "not proven: decoding the block's header"},
		{"calls are answered 500 once bundles are refused", ethrpc.VerifyRequired, "latest", rpcfault.Join(refusesBundles(-32000, "no"), rpcfault.Fault{HTTP: func(w http.ResponseWriter, _ *http.Request, calls []rpcfault.Call, _ bool) bool {
			if calls[0].Method == "eth_call" && bytes.Contains(calls[0].Params[0], []byte("input")) && !bundled(calls[0]) {
				answers500(w, nil)
				return true
			}
			return false
		}}), "calling getters at block"},
		{"calls are of a block that is gone once bundles are refused", ethrpc.VerifyRequired, "latest", rpcfault.Join(refusesBundles(-32000, "no"), rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
			if c.Method == "eth_call" && !bundled(c) {
				a.Result, a.Error = nil, &rpcfault.Error{Code: -32000, Message: "missing trie node"}
			}
		}}), "missing trie node"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			w.Proxy.Set(row.fault)
			policy, err := ethrpc.ParseBlockTag(row.policy)
			if err != nil {
				t.Fatal(err)
			}
			req := w.request()
			req.Tags = []ethrpc.BlockTag{policy}
			if s, err := look(t.Context(), prover(t, row.verify, 1, w.URL), req); err == nil || !strings.Contains(err.Error(), row.says) {
				t.Errorf("Read = %+v, %v, want %q", s, err, row.says)
			}
		})
	}
}

// TestCodeThatCannotBeProven checks that unproven answers are taken only where the Verify mode allows it.
func TestCodeThatCannotBeProven(t *testing.T) {
	at := func(i byte) common.Address { return common.Address{0: 0xcc, 19: i} }
	var last common.Hash
	chained := map[common.Hash]common.Hash{} // each slot holds the key of the next
	for range 40 {
		chained[last], last = crypto.Keccak256Hash(last[:]), crypto.Keccak256Hash(last[:])
	}
	rows := []struct{ sentence, code, says string }{
		{"its slots are found one by one", "5f" + strings.Repeat("54", 40) + "5f5260205ff3", "the contract's code still asks for more state"},
		{"an invalid instruction", "fe", "invalid opcode"},
		{"it asks for an old block's hash", "5f405f5260205ff3", "hash of block 0"},
	}
	alloc := types.GenesisAlloc{}
	for i, row := range rows {
		alloc[at(byte(i))] = types.Account{Code: common.FromHex(row.code), Balance: new(big.Int), Storage: chained}
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
		req := request{queries: []ethrpc.Query{{Contract: at(byte(i)), Devices: []common.Hash{device}}}}
		if _, err := look(t.Context(), prover(t, ethrpc.VerifyRequired, 1, url), req); !errors.Is(err, ethrpc.ErrNoProof) || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: Read = %v, want %q", row.sentence, err, row.says)
		}
		if s, err := look(t.Context(), prover(t, ethrpc.VerifyAuto, 1, url), req); err != nil || !errors.Is(s.Unproven, ethrpc.ErrNoProof) {
			t.Errorf("%s: Read = %+v, %v, want an answer that is not proven", row.sentence, s, err)
		}
	}
}

// TestAGetterThatWrites has a getter that answers differently in a static call, which another contract's call of a view function
// is. Neither answer must be taken.
func TestAGetterThatWrites(t *testing.T) {
	at, writer := common.Address{0: 0xcc}, common.Address{0: 0xcd}
	chain, err := testchain.Start(testchain.Options{Alloc: types.GenesisAlloc{
		at:     {Code: common.FromHex("5f5f5f5f5f73" + common.Bytes2Hex(writer[:]) + "5af15f5260205ff3"), Balance: new(big.Int)}, // returns whether the call succeeded
		writer: {Code: common.FromHex("600160005d"), Balance: new(big.Int)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chain.Close() })
	simple := rpcfault.New(chain.URL()) // a provider without eth_getProof
	simple.Set(rpcfault.Refuse("eth_getProof", -32601, "not on this plan"))
	srv := httptest.NewServer(simple)
	t.Cleanup(srv.Close)
	for _, verify := range []ethrpc.Verify{ethrpc.VerifyRequired, ethrpc.VerifyAuto} {
		s, err := look(t.Context(), prover(t, verify, 1, chain.URL(), srv.URL), request{queries: []ethrpc.Query{{Contract: at, Devices: []common.Hash{device}}}})
		if err != nil {
			t.Fatal(err)
		}
		if a := s.Devices[device]; !errors.Is(a.Err, proof.ErrWrites) || !s.Proven {
			t.Errorf("%s, of %s", a, s.Provider)
		}
	}
}

// TestAnAccountWithoutCode checks that the absence of code is proven.
func TestAnAccountWithoutCode(t *testing.T) {
	w := newWorld(t)
	for name, at := range map[string]common.Address{"a person": testchain.Address("owner"), "nobody": testchain.Address("nobody")} {
		s, err := look(t.Context(), prover(t, ethrpc.VerifyRequired, 1, w.URL), request{queries: []ethrpc.Query{{Contract: at, Devices: []common.Hash{device}, Control: true}}})
		if err != nil {
			t.Fatal(err)
		}
		if a := s.Devices[device]; a.Err == nil || !s.Proven || a.String() != "no answer (there is no code)" || s.HasCode || s.Control.Owner.Present {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// TestACancelledReadingEnds checks that a Read ends with its context, whatever call it waits for.
func TestACancelledReadingEnds(t *testing.T) {
	w := newWorld(t)
	for _, row := range []struct {
		sentence string
		fault    rpcfault.Fault
		method   string // whose call ends it
		req      request
	}{
		{"it waits for a block to come", rpcfault.Fault{}, "eth_getBlockByNumber", request{PinRequest: ethrpc.PinRequest{NotBefore: 5000}}},
		{"it waits for a node that lags", rpcfault.Refuse("eth_call", -32000, "header not found"), "eth_getCode", w.request()},
		{"it waits for its turn", rpcfault.Status(http.StatusTooManyRequests, ""), "eth_chainId", w.request()},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		w.Proxy.Set(row.fault)
		w.Proxy.Watch(func(c rpcfault.Call) {
			if c.Method == row.method {
				cancel()
			}
		})
		if s, err := look(ctx, newClient(t, "latest", w.URL), row.req); err == nil {
			t.Errorf("%s: Read = %+v", row.sentence, s)
		}
		if _, err := newClient(t, "latest", w.URL, w.URL).DeploymentBlock(ctx, w.KMS.Address(), 1); err == nil || strings.Contains(err.Error(), "p2") {
			t.Errorf("%s: DeploymentBlock = %v, want only p1 to be asked", row.sentence, err)
		}
		cancel()
	}
}

// TestGettersThatTakeLong checks that a Read ends with its context while code runs locally, and that the next Read works.
func TestGettersThatTakeLong(t *testing.T) {
	at, quick := common.Address{0: 0xcc}, common.Address{0: 0xcd}
	chain, err := testchain.Start(testchain.Options{Alloc: types.GenesisAlloc{
		at:    {Code: common.FromHex(onlyLists + "620f00005b6001900380600d5760015f5260205ff3"), Balance: new(big.Int)}, // a million turns
		quick: {Code: common.FromHex("60015f5260205ff3"), Balance: new(big.Int)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chain.Close() })
	proxy := rpcfault.New(chain.URL())
	proxy.Set(rpcfault.Fault{Ask: func(c *rpcfault.Call) { // the call is slow only when run locally
		if bundled(*c) || fixedGetter(*c) {
			c.Method = "none"
		}
	}})
	c := prover(t, ethrpc.VerifyAuto, 1, testenv.Serve(t, proxy))
	of := func(contract common.Address, n int) request {
		query := ethrpc.Query{Contract: contract}
		for i := range n {
			query.Devices = append(query.Devices, common.BigToHash(big.NewInt(int64(i))))
		}
		return request{queries: []ethrpc.Query{query}}
	}
	if s, err := look(t.Context(), c, of(at, 1)); err != nil || s.Unproven != nil {
		t.Fatalf("one that takes long: %+v, %v", s, err)
	}
	c.Forget()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if s, err := look(ctx, c, of(at, 1000)); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ethrpc.ErrNoProof) {
		t.Errorf("Read = %+v, %v, want it to end with its time", s, err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	if s, err := look(t.Context(), c, of(quick, 1)); err != nil || s.Unproven != nil {
		t.Errorf("the next reading: %+v, %v", s, err)
	}
}

// TestBatchesThatAreRefusedCallByCall checks that a batch is split if every call in it is refused.
func TestBatchesThatAreRefusedCallByCall(t *testing.T) {
	w := newWorld(t)
	w.Proxy.Set(rpcfault.Fault{Batch: func(all []rpcfault.Answer) []rpcfault.Answer {
		for i := range all {
			all[i].Result, all[i].Error = nil, &rpcfault.Error{Code: -32000, Message: "batch requests are not allowed"}
		}
		return all
	}})
	s, err := look(t.Context(), newClient(t, "latest", w.URL), w.request())
	if err != nil {
		t.Fatal(err)
	}
	w.truth(t, s)
}

// TestAReadingOfNothing checks that a Read without queries makes no calls after the pin.
func TestAReadingOfNothing(t *testing.T) {
	w := newWorld(t)
	head, err := w.Chain.Client().HeaderByNumber(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := look(t.Context(), newClient(t, "latest", w.URL), request{})
	if err != nil || s.at.Block.Hash != head.Hash() || len(s.state.Readings) > 0 || w.Proxy.Requests() != 1 {
		t.Errorf("Read = %+v, %v after %d requests", s, err, w.Proxy.Requests())
	}
}

// TestMoreSlotsThanOneRequestProves checks that many slots are proven with several requests.
func TestMoreSlotsThanOneRequestProves(t *testing.T) {
	w := newWorld(t)
	w.Proxy.Set(refusesBundles(-32000, "contract creation is refused"))
	more := w.images(1100)
	s, err := look(t.Context(), prover(t, ethrpc.VerifyRequired, 1, w.URL), w.request(more...))
	if err != nil {
		t.Fatal(err)
	}
	w.proven(t, s, true)
	if n := len(s.OSImages) + len(s.Devices); n != len(more)+3 {
		t.Errorf("%d answers, want %d", n, len(more)+3)
	}
}
