package ethrpc_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// prover returns a client that proves, over the given providers.
func prover(t *testing.T, verify ethrpc.Verify, agreement int, urls ...string) *ethrpc.Client {
	t.Helper()
	opt := ethrpc.Options{
		ChainID: 1337, Tags: []ethrpc.BlockTag{ethrpc.Latest}, BatchSize: 100, RetryDelay: time.Millisecond,
		Verify: verify, Agreement: agreement,
	}
	for i, u := range urls {
		opt.Providers = append(opt.Providers, ethrpc.Provider{Name: []string{"p1", "p2", "p3"}[i], URL: sanitize.NewSecret(u), Timeout: time.Minute})
	}
	c, err := ethrpc.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (w *world) proven(t *testing.T, s *result, complete bool) {
	t.Helper()
	w.truth(t, s)
	if !s.Proven || s.Storage == nil || s.Storage.Complete != complete || s.Storage.Slots == 0 {
		t.Errorf("the contract is proven %t (%v) and stores %+v, want complete: %t", s.Proven, s.Unproven, s.Storage, complete)
	}
}

func TestAnswersAreProvenWhereverTheListsAre(t *testing.T) {
	w := newWorld(t)
	c := prover(t, ethrpc.VerifyRequired, 1, w.URL)
	read := func() *result {
		t.Helper()
		s, err := look(t.Context(), c, w.request())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	w.proven(t, read(), true)
	if _, err := w.KMS.Upgrade(t.Context(), testchain.Moved); err != nil {
		t.Fatal(err)
	}
	if s := read(); s.Devices[device].Allowed || s.Storage.Complete {
		t.Error("after the upgrade the old lists are out of reach: nothing is allowed, and their slots are not explained")
	}
	if err := w.KMS.Seed(t.Context(), []common.Hash{device}, []common.Hash{image}); err != nil {
		t.Fatal(err)
	}
	w.proven(t, read(), false)
}

func TestWhatIsHiddenLeavesTheStorageUnexplained(t *testing.T) {
	w := newWorld(t)
	hidden := common.Hash{31: 7}
	c := prover(t, ethrpc.VerifyRequired, 1, w.URL)
	if _, err := w.KMS.Upgrade(t.Context(), testchain.Backdoor); err != nil {
		t.Fatal(err)
	}
	if err := w.KMS.SneakImage(t.Context(), hidden, true); err != nil {
		t.Fatal(err)
	}
	s, err := look(t.Context(), c, w.request())
	if err != nil {
		t.Fatal(err)
	}
	w.proven(t, s, false)
	s, err = look(t.Context(), c, w.request(hidden))
	if err != nil {
		t.Fatal(err)
	}
	w.proven(t, s, true)
}

func TestRoundTripsOfProofs(t *testing.T) {
	w := newWorld(t)
	c := prover(t, ethrpc.VerifyRequired, 1, w.URL)
	for _, tt := range []struct {
		sentence string
		change   func() error
		want     int
	}{
		{"the first time", func() error { return nil }, 3},
		{"nothing changed", func() error { return nil }, 1},
		{"a block came, and nothing changed", func() error { w.Chain.Commit(); return nil }, 1},
		{"one entry changed", func() error { return w.KMS.AllowDevice(t.Context(), common.Hash{1}) }, 2},
		{"nothing changed since", func() error { w.Chain.Commit(); return nil }, 1},
	} {
		if err := tt.change(); err != nil {
			t.Fatal(err)
		}
		before := w.Proxy.Requests()
		s, err := look(t.Context(), c, w.request())
		if err != nil {
			t.Fatal(err)
		}
		w.truth(t, s)
		if got := w.Proxy.Requests() - before; got != tt.want {
			t.Errorf("%s: %d round trips, want %d", tt.sentence, got, tt.want)
		}
	}
}

func TestAnUnchangedBlockBehindTheHeadCostsTwo(t *testing.T) {
	w := newWorld(t)
	w.Chain.Commit()
	policy, err := ethrpc.ParseBlockTag("latest-1")
	if err != nil {
		t.Fatal(err)
	}
	c := prover(t, ethrpc.VerifyRequired, 1, w.URL)
	for i, want := range []int{4, 2, 2, 4} {
		if i == 3 {
			c.Forget()
		}
		req := w.request()
		req.Tags = []ethrpc.BlockTag{policy}
		before := w.Proxy.Requests()
		s, err := look(t.Context(), c, req)
		if err != nil {
			t.Fatal(err)
		}
		w.proven(t, s, true)
		if got := w.Proxy.Requests() - before; got != want {
			t.Errorf("%d round trips, want %d", got, want)
		}
		w.Chain.Commit()
	}
}

// edit changes the answers to a method.
func edit(name, method string, f func(c rpcfault.Call, result string) string) rpcfault.Fault {
	return rpcfault.Fault{Name: name, Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if c.Method == method && a.Error == nil {
			a.Result = json.RawMessage(f(c, string(a.Result)))
		}
	}}
}

func lies(w *world) []rpcfault.Fault {
	flip := func(_ rpcfault.Call, r string) string {
		i := len(r) / 2
		for r[i] == '"' || r[i] == ',' || r[i] == '[' || r[i] == 'x' {
			i++
		}
		return r[:i] + map[bool]string{true: "1", false: "0"}[r[i] == '0'] + r[i+1:]
	}
	var stranger string
	return []rpcfault.Fault{
		edit("a call's answer is flipped", "eth_call", func(_ rpcfault.Call, r string) string {
			if strings.HasSuffix(r, `1"`) {
				return strings.TrimSuffix(r, `1"`) + `0"`
			}
			return strings.TrimSuffix(r, `0"`) + `1"`
		}),
		edit("the nodes of proofs are flipped", "eth_getProof", flipNodes),
		edit("the code is another's", "eth_getCode", func(rpcfault.Call, string) string { return `"0x60016000f3"` }),
		edit("there is no code", "eth_getCode", func(rpcfault.Call, string) string { return `"0x"` }),
		edit("a proof is cut short", "eth_getProof", func(_ rpcfault.Call, r string) string {
			var m map[string]json.RawMessage
			var list []json.RawMessage
			if json.Unmarshal([]byte(r), &m) != nil || json.Unmarshal(m["accountProof"], &list) != nil {
				return r
			}
			m["accountProof"], _ = json.Marshal(list[:len(list)-1])
			b, _ := json.Marshal(m)
			return string(b)
		}),
		edit("every account is the first one asked", "eth_getProof", func(_ rpcfault.Call, r string) string {
			if stranger == "" {
				stranger = r
			}
			return stranger
		}),
		edit("storage proofs are swapped", "eth_getProof", func(_ rpcfault.Call, r string) string {
			var m map[string]json.RawMessage
			var list []json.RawMessage
			if json.Unmarshal([]byte(r), &m) != nil || json.Unmarshal(m["storageProof"], &list) != nil || len(list) < 2 {
				return r
			}
			list[0], list[len(list)-1] = list[len(list)-1], list[0]
			m["storageProof"], _ = json.Marshal(list)
			b, _ := json.Marshal(m)
			return string(b)
		}),
		{Name: "proofs are of an older block", Ask: func(c *rpcfault.Call) {
			if c.Method == "eth_getProof" {
				c.Params[2] = json.RawMessage(`"0x1"`)
			}
		}},
		edit("the header is another's", "eth_getBlockByNumber", func(_ rpcfault.Call, r string) string {
			return strings.Replace(r, `"stateRoot":"0x`, `"stateRoot":"0x00`, 1)[:0] + flip(rpcfault.Call{}, r)
		}),
	}
}

// flipNodes changes one digit of the first storage proof's nodes, or else of the account's.
func flipNodes(_ rpcfault.Call, r string) string {
	at := strings.LastIndex(r, `"0xf`)
	if at < 0 {
		return r
	}
	i := at + 12
	return r[:i] + map[bool]string{true: "1", false: "0"}[r[i] == '0'] + r[i+1:]
}

func TestNoLieIsBelieved(t *testing.T) {
	w := newWorld(t)
	for _, lie := range lies(w) {
		t.Run(lie.Name, func(t *testing.T) {
			w.Proxy.Set(lie)
			defer w.Proxy.Set(rpcfault.Fault{})
			for _, verify := range []ethrpc.Verify{ethrpc.VerifyRequired, ethrpc.VerifyAuto} {
				s, err := look(t.Context(), prover(t, verify, 1, w.URL), w.request())
				var getter *ethrpc.GetterError
				switch {
				case lie.Name == "the header is another's":
					// It may have unknown fields of a newer fork, which change the hash as well. So it is not a lie.
					if required := verify == ethrpc.VerifyRequired; required != errors.Is(err, ethrpc.ErrNoProof) || errors.Is(err, proof.ErrInvalid) || !required && s.Unproven == nil {
						t.Errorf("required: %t; Read = %v, want it to be not proven, and no lie", required, err)
					}
				case err == nil:
					t.Fatalf("believed: %+v", s)
				case !errors.Is(err, proof.ErrInvalid) && !errors.As(err, &getter):
					t.Errorf("Read = %v, want an invalid proof or a getter that disagrees", err)
				}
			}
			s, err := look(t.Context(), prover(t, ethrpc.VerifyAuto, 1, w.URL, w.Chain.URL()), w.request())
			if err != nil {
				t.Fatalf("with an honest second provider: %v", err)
			}
			w.proven(t, s, true)
		})
	}
}

func TestAProviderThatCannotProve(t *testing.T) {
	w := newWorld(t)
	w.Proxy.Set(rpcfault.Refuse("eth_getProof", -32601, "the method eth_getProof does not exist/is not available"))
	s, err := look(t.Context(), prover(t, ethrpc.VerifyAuto, 1, w.URL), w.request())
	if err != nil || !errors.Is(s.Unproven, ethrpc.ErrNoProof) || s.Proven || s.Storage != nil {
		t.Fatalf("Read = %+v, %v, want answers that are not proven, and why", s, err)
	}
	w.truth(t, s)
	if _, err := look(t.Context(), prover(t, ethrpc.VerifyRequired, 1, w.URL), w.request()); !errors.Is(err, ethrpc.ErrNoProof) {
		t.Errorf("Read = %v, want no answer, because proof is required", err)
	}
	if s, err = look(t.Context(), prover(t, ethrpc.VerifyAuto, 1, w.URL, w.Chain.URL()), w.request()); err != nil || s.Provider != "p2" {
		t.Fatalf("Read = %+v, %v, want the proof of the second provider", s, err)
	}
	w.proven(t, s, true)
}

func TestAProviderThatCannotProveIsNotAskedToAgainAtOnce(t *testing.T) {
	w := newWorld(t)
	w.Proxy.Set(rpcfault.Refuse("eth_getProof", -32601, "no such method"))
	second := rpcfault.New(w.Chain.URL())
	second.Set(rpcfault.Refuse("eth_getProof", -32601, "no such method"))
	c := prover(t, ethrpc.VerifyAuto, 1, w.URL, testenv.Serve(t, second))
	for i, want := range []struct{ first, second int }{{3, 2}, {2, 0}} {
		before, beforeSecond := w.Proxy.Requests(), second.Requests()
		s, err := look(t.Context(), c, w.request())
		if err != nil {
			t.Fatal(err)
		}
		w.truth(t, s)
		if a, b := w.Proxy.Requests()-before, second.Requests()-beforeSecond; a != want.first || b != want.second {
			t.Errorf("read %d: %d and %d round trips, want %d and %d", i+1, a, b, want.first, want.second)
		}
	}
}

func TestAgreement(t *testing.T) {
	w := newWorld(t)
	liar := rpcfault.New(w.Chain.URL())
	liar.Set(rpcfault.Result("true", `"0x`+strings.Repeat("00", 31)+`01"`))
	lying := testenv.Serve(t, liar)
	noProof := rpcfault.New(w.Chain.URL())
	noProof.Set(rpcfault.Refuse("eth_getProof", -32601, "no such method"))
	plain := testenv.Serve(t, noProof)
	down := "http://127.0.0.1:1"
	for _, tt := range []struct {
		sentence string
		verify   ethrpc.Verify
		k        int
		urls     []string
		says     string // the error; empty: the truth
	}{
		{"two honest providers agree", ethrpc.VerifyOff, 2, []string{w.URL, plain}, ""},
		{"two of three agree, one is down", ethrpc.VerifyOff, 2, []string{w.URL, down, plain}, ""},
		{"one is not enough", ethrpc.VerifyOff, 2, []string{w.URL, down}, "only 1 of the 2 required providers"},
		{"a liar is found out", ethrpc.VerifyOff, 2, []string{w.URL, lying}, "p1 and p2 disagree about block"},
		{"a proof needs no second answer, but a second hash", ethrpc.VerifyAuto, 2, []string{w.URL, lying}, ""},
		{"a proof needs a second hash", ethrpc.VerifyAuto, 2, []string{w.URL, down}, "only 1 of the 2 required providers"},
		{"without proof the answers must agree", ethrpc.VerifyAuto, 2, []string{plain, plain}, ""},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			s, err := look(t.Context(), prover(t, tt.verify, tt.k, tt.urls...), w.request())
			switch {
			case tt.says == "" && err != nil:
				t.Error(err)
			case tt.says == "":
				w.truth(t, s)
				if s.Agreed < tt.k {
					t.Errorf("%d agree, want %d", s.Agreed, tt.k)
				}
			case err == nil || !strings.Contains(err.Error(), tt.says):
				t.Errorf("Read = %v, want %q", err, tt.says)
			}
		})
	}
}
