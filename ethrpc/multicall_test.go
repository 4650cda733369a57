package ethrpc_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// bundled reports whether a call is a multicall: an eth_call that creates a contract.
func bundled(c rpcfault.Call) bool {
	return c.Method == "eth_call" && !bytes.Contains(c.Params[0], []byte(`"to"`))
}

// inBundles changes the answers to multicalls.
func inBundles(f func(a *rpcfault.Answer)) rpcfault.Fault {
	return rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if bundled(c) {
			f(a)
		}
	}}
}

func saysInBundles(result string) rpcfault.Fault {
	return inBundles(func(a *rpcfault.Answer) { a.Result, a.Error = json.RawMessage(result), nil })
}

func refusesBundles(code int, message string) rpcfault.Fault {
	return inBundles(func(a *rpcfault.Answer) { a.Result, a.Error = nil, &rpcfault.Error{Code: code, Message: message} })
}

// refusesWithBundles answers every request that has a multicall with an HTTP status.
func refusesWithBundles(status int) rpcfault.Fault {
	return rpcfault.Fault{HTTP: func(w http.ResponseWriter, _ *http.Request, calls []rpcfault.Call, _ bool) bool {
		if !slices.ContainsFunc(calls, bundled) {
			return false
		}
		http.Error(w, "no", status)
		return true
	}}
}

// images asks for n more images than asks, none of which is allowed.
func (w *world) images(n int) (more []common.Hash) {
	for i := range n {
		more = append(more, common.BigToHash(big.NewInt(int64(i+1000))))
	}
	return more
}

// TestAProviderThatTakesNoBundles checks that calls are made one by one if multicalls fail, and that multicalls are paused.
func TestAProviderThatTakesNoBundles(t *testing.T) {
	w := newWorld(t)
	for _, row := range []struct {
		sentence string
		fault    rpcfault.Fault
	}{
		{"it answers with an error", refusesBundles(-32000, "contract creation is refused")},
		{"it reverts", refusesBundles(3, "execution reverted")},
		{"its proxy answers 400", refusesWithBundles(http.StatusBadRequest)},
		{"its proxy answers 413", refusesWithBundles(http.StatusRequestEntityTooLarge)},
		{"its proxy answers 500", refusesWithBundles(http.StatusInternalServerError)},
		{"it answers fewer calls than were made", saysInBundles(`"0x01"`)},
		{"it answers more", saysInBundles(`"0x` + strings.Repeat("00", 2000) + `"`)},
		{"it answers nothing", saysInBundles(`"0x"`)},
		{"it answers null", saysInBundles(`null`)},
		{"it answers no hex", saysInBundles(`"yes"`)},
	} {
		for name, n := range map[string]int{"few": 0, "many": 300} {
			t.Run(row.sentence+"/"+name, func(t *testing.T) {
				c := prover(t, ethrpc.VerifyRequired, 1, w.URL)
				w.Proxy.Set(row.fault)
				s, err := look(t.Context(), c, w.request(w.images(n)...))
				if err != nil {
					t.Fatal(err)
				}
				w.proven(t, s, true)
				var bundles atomic.Int64
				w.Proxy.Watch(func(c rpcfault.Call) {
					if bundled(c) {
						bundles.Add(1)
					}
				})
				before := w.Proxy.Requests()
				s, err = look(t.Context(), c, w.request(w.images(n+30)...))
				if err != nil {
					t.Fatal(err)
				}
				w.proven(t, s, true)
				if got := w.Proxy.Requests() - before; bundles.Load() > 0 || got > 3 {
					t.Errorf("the next reading took %d requests and %d bundles, want a few batches", got, bundles.Load())
				}
			})
		}
	}
}

// TestBundlesAtABlockThatIsGone checks that a missing block is the reading's error and does not pause multicalls.
func TestBundlesAtABlockThatIsGone(t *testing.T) {
	w := newWorld(t)
	for _, row := range []struct {
		sentence string
		fault    rpcfault.Fault
		n        int
		says     string
	}{
		{"the node lags", refusesBundles(-32000, "header not found"), 0, "header not found"},
		{"its state is pruned", refusesBundles(-32000, "missing trie node"), 300, "missing trie node"},
		{"it wants to be asked more slowly, for ever", refusesBundles(-32005, "too many requests"), 300, "too many requests"},
		{"and by a status", refusesWithBundles(http.StatusTooManyRequests), 0, "429"},
	} {
		w.Proxy.Set(row.fault)
		_, err := look(t.Context(), prover(t, ethrpc.VerifyRequired, 1, w.URL), w.request(w.images(row.n)...))
		if err == nil || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: Read = %v, want %q", row.sentence, err, row.says)
		}
	}
}

// TestWhatANodeSaysInBundlesAndInCalls checks that only a wrong answer in both a multicall and a plain call is a GetterError. The
// proven answer is right either way.
func TestWhatANodeSaysInBundlesAndInCalls(t *testing.T) {
	w := newWorld(t)
	flipped := inBundles(func(a *rpcfault.Answer) {
		for i := len(`"0x0`); i < len(a.Result)-1; i += 2 {
			a.Result[i] ^= 1
		}
	})
	inCalls := func(result string) rpcfault.Fault {
		return rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
			if c.Method == "eth_call" && !bundled(c) && !rpcfault.ProbesBlockHash(c, a) {
				a.Result = json.RawMessage(result)
			}
		}}
	}
	no := `"0x` + strings.Repeat("00", 32) + `"`
	reverts := rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if c.Method == "eth_call" && !bundled(c) && bytes.Contains(c.Params[0], []byte(refused.Hex()[2:])) {
			a.Result, a.Error = nil, &rpcfault.Error{Code: 3, Message: "execution reverted"}
		}
	}}
	for _, row := range []struct {
		sentence string
		fault    rpcfault.Fault
		calls    int64 // that are made one by one
		lie      bool
	}{
		{"both are true", rpcfault.Fault{}, 0, false},
		{"the bundle lies", flipped, 3, false},
		{"all revert in the bundle", saysInBundles(`"0x020202"`), 3, false},
		{"the multicall has no bool", saysInBundles(`"0x030303"`), 3, false},
		{"plain calls lie, but none is needed", inCalls(no), 0, false},
		{"the bundle lies, and so do calls", rpcfault.Join(flipped, inCalls(no)), 3, true},
		{"bundles are refused, and calls lie", rpcfault.Join(refusesBundles(-32000, "no"), inCalls(no)), 3, true},
		{"what is refused reverts in both", rpcfault.Join(saysInBundles(`"0x010102"`), reverts), 1, true},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			w.Proxy.Set(row.fault)
			var calls atomic.Int64
			w.Proxy.Watch(func(c rpcfault.Call) {
				if c.Method == "eth_call" && !bundled(c) && bytes.Contains(c.Params[0], []byte(`"input"`)) && !fixedGetter(c) {
					calls.Add(1)
				}
			})
			s, err := look(t.Context(), prover(t, ethrpc.VerifyRequired, 1, w.URL), w.request())
			var getter *ethrpc.GetterError
			switch {
			case row.lie != errors.As(err, &getter) || row.lie && !strings.Contains(err.Error(), ", but the proven state gives "):
				t.Errorf("Read = %v, want a getter that disagrees: %t", err, row.lie)
			case err == nil:
				w.proven(t, s, true)
			}
			if got := calls.Load(); got != row.calls {
				t.Errorf("%d calls were made one by one, want %d", got, row.calls)
			}
		})
	}
}

// TestContractsThatAreOdd has contracts for which the node's answers give no guess of the storage, or a contradictory one.
func TestContractsThatAreOdd(t *testing.T) {
	const word = "5f5260205ff3" // returns what is on the stack
	at := func(i byte) common.Address { return common.Address{0: 0xcc, 19: i} }
	rows := []struct {
		sentence, code string
		fault          rpcfault.Fault
		allowed        bool
		says           string // the answer's error
	}{
		{"it answers only the zero address", "3315" + word, rpcfault.Fault{}, true, ""},
		{"it answers contracts only", "331515" + word, rpcfault.Fault{}, false, ""},
		{"all ids are one slot", "5f54" + word, rpcfault.Fault{}, true, ""},
		{"all ids share a slot, and the multicall has two answers", "5f54" + word, saysInBundles(`"0x0100"`), true, ""},
		{"all ids share a slot, and the multicall has two answers in reverse", "5f54" + word, saysInBundles(`"0x0001"`), true, ""},
		{"it returns the opposite of its slot", "5f5415" + word, rpcfault.Fault{}, false, ""},
		{"it reads no slot", "6001" + word, rpcfault.Fault{}, true, ""},
		{"it reverts", "5f5ffd", rpcfault.Fault{}, false, "the contract reverts"},
		{"it answers with two", "6002" + word, rpcfault.Fault{}, false, "neither 0 nor 1"},
		{"it answers with no bytes", "00", rpcfault.Fault{}, false, "0 bytes"},
	}
	alloc := types.GenesisAlloc{}
	for i, row := range rows {
		alloc[at(byte(i))] = types.Account{Code: common.FromHex(row.code), Balance: new(big.Int), Storage: map[common.Hash]common.Hash{{}: {31: 1}}}
	}
	chain, err := testchain.Start(testchain.Options{Alloc: alloc})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chain.Close() })
	proxy := rpcfault.New(chain.URL())
	url := testenv.Serve(t, proxy)
	for i, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			proxy.Set(row.fault)
			query := ethrpc.Query{Contract: at(byte(i)), Devices: []common.Hash{{1}}, OSImages: []common.Hash{{2}}}
			for _, likely := range [][]common.Address{nil, {at(byte(i))}} {
				s, err := look(t.Context(), prover(t, ethrpc.VerifyRequired, 1, url), request{
					PinRequest: ethrpc.PinRequest{Prefetch: likely},
					queries:    []ethrpc.Query{query},
				})
				if err != nil {
					t.Fatal(err)
				}
				for getter, a := range map[string]ethrpc.Answer{"devices": s.Devices[common.Hash{1}], "images": s.OSImages[common.Hash{2}]} {
					if !s.Proven || a.Allowed != row.allowed || (a.Err == nil) != (row.says == "") || a.Err != nil && !strings.Contains(a.Err.Error(), row.says) {
						t.Errorf("%s, likely %t: %+v, want %t or %q", getter, likely != nil, a, row.allowed, row.says)
					}
				}
			}
		})
	}
}

// TestAPartialReading checks that answers of lists are left out while the contract stores more than the query explains.
func TestAPartialReading(t *testing.T) {
	w := newWorld(t)
	hidden := common.Hash{31: 7}
	if _, err := w.KMS.Upgrade(t.Context(), testchain.Backdoor); err != nil {
		t.Fatal(err)
	}
	if err := w.KMS.SneakImage(t.Context(), hidden, true); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		sentence string
		then     func(req request) request
		complete bool
	}{
		{"then the same is asked for, and nothing may be left out", func(r request) request { r.AllowPartial = false; return r }, false},
		{"then all is asked for", func(request) request { return w.request(hidden) }, true},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			c := prover(t, ethrpc.VerifyRequired, 1, w.URL)
			req := w.request()
			req.AllowPartial = true
			for range 2 { // the second Read must not reuse a partial reading
				s, err := look(t.Context(), c, req)
				if err != nil {
					t.Fatal(err)
				}
				if _, answered := s.Devices[device]; !s.Partial && !answered || s.Storage.Complete {
					t.Errorf("partial is %t, answered %t, and the storage is %+v", s.Partial, answered, s.Storage)
				}
			}
			s, err := look(t.Context(), c, row.then(req))
			if err != nil {
				t.Fatal(err)
			}
			if s.Partial {
				t.Error("it is partial still")
			}
			w.proven(t, s, row.complete)
		})
	}
}

// TestAPartialReadingOfAnUpgradedContract checks that what older code explains is left out too.
func TestAPartialReadingOfAnUpgradedContract(t *testing.T) {
	w := newWorld(t)
	upgraded, err := w.Chain.Deploy(t.Context(), testchain.DeployOptions{Implementation: testchain.Generations[1]})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := upgraded.Send(t.Context(), "setAppAuthImplementation", common.Address{1}); err != nil {
		t.Fatal(err)
	}
	older, err := w.Chain.Client().StorageAt(t.Context(), upgraded.Address(), kms.ImplementationSlot, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := prover(t, ethrpc.VerifyRequired, 1, w.URL)
	req := request{queries: []ethrpc.Query{{Contract: upgraded.Address(), Devices: []common.Hash{device}, Control: true}}}
	complete := func(partial bool) bool {
		t.Helper()
		req.AllowPartial = partial
		s, err := look(t.Context(), c, req)
		if err != nil {
			t.Fatal(err)
		}
		return s.Storage.Complete
	}
	if !complete(false) {
		t.Fatal("before the upgrade not all of its storage is explained")
	}
	newer, err := upgraded.Upgrade(t.Context(), testchain.Generations[2])
	if err != nil {
		t.Fatal(err)
	}
	req.queries[0].Implementations = []common.Address{common.BytesToAddress(older), newer}
	complete(true)
	if !complete(false) {
		t.Error("after it not all of its storage is explained")
	}
}
