package ethrpc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

var (
	device  = common.HexToHash("0xc84e73c6ce0b01f85606727593be79296c30a41510679c4492aec02dc57407d0")
	image   = common.HexToHash("0x6427f4f5ded88b72d326bd973e581c1689c5080c6444a0cf90fec7d9e4c8b92a")
	refused = common.HexToHash("0xbd369a8c2f9edb2b52dad48ac8e0b32dde5f1337c423a506b48d07403a7d8033")
)

type world struct{ *testenv.World }

func newWorld(t *testing.T) *world { return &world{testenv.Deploy(t, device, image)} }

// query asks for what truth checks, and for more images.
func (w *world) query(images ...common.Hash) ethrpc.Query {
	return ethrpc.Query{Contract: w.KMS.Address(), Devices: []common.Hash{device}, OSImages: append([]common.Hash{image, refused}, images...)}
}

func (w *world) request(images ...common.Hash) request {
	return request{queries: []ethrpc.Query{w.query(images...)}}
}

func parseTags(t *testing.T, s string) (tags []ethrpc.BlockTag) {
	t.Helper()
	for text := range strings.SplitSeq(s, " ") {
		tag, err := ethrpc.ParseBlockTag(text)
		if err != nil {
			t.Fatal(err)
		}
		tags = append(tags, tag)
	}
	return tags
}

func newClient(t *testing.T, tags string, urls ...string) *ethrpc.Client {
	t.Helper()
	opt := ethrpc.Options{ChainID: 1337, Tags: parseTags(t, tags), Verify: ethrpc.VerifyOff, BatchSize: 100, UserAgent: "test", RetryDelay: time.Millisecond}
	for i, u := range urls {
		opt.Providers = append(opt.Providers, ethrpc.Provider{Name: "p" + strconv.Itoa(i+1), URL: sanitize.NewSecret(u), Timeout: 2 * time.Second})
	}
	c, err := ethrpc.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// truth compares a state with what the world's contract allows.
func (w *world) truth(t *testing.T, s *result) {
	t.Helper()
	if got := s.Devices[device]; got.Err != nil || !got.Allowed {
		t.Errorf("the device is %v, want true", got)
	}
	for id, want := range map[common.Hash]bool{image: true, refused: false} {
		if got, ok := s.OSImages[id]; !ok || got.Err != nil || got.Allowed != want {
			t.Errorf("image %s is %v, want %t", id, got, want)
		}
	}
	if !s.HasCode {
		t.Error("the contract's code was not seen")
	}
}

func TestReadingAtEveryPolicy(t *testing.T) {
	w := newWorld(t)
	head, err := w.Chain.Client().HeaderByNumber(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	n := head.Number.String()
	for range 40 {
		w.Chain.Commit()
	}
	tip := head.Number.Uint64() + 40
	for _, tt := range []struct {
		policy string
		block  uint64
	}{
		{"latest", tip},
		{"latest-3", tip - 3},
		{"safe", tip},
		{"finalized", 32},
		{n, head.Number.Uint64()},
		{head.Hash().Hex(), head.Number.Uint64()},
	} {
		t.Run(tt.policy, func(t *testing.T) {
			s, err := look(t.Context(), newClient(t, tt.policy, w.URL), w.request())
			if err != nil {
				t.Fatal(err)
			}
			w.truth(t, s)
			if s.at.Block.Number != tt.block || s.at.Tag.String() != tt.policy || s.at.Head.Number != tip {
				t.Errorf("read at block %d by %s with head %d, want %d and head %d", s.at.Block.Number, s.at.Tag, s.at.Head.Number, tt.block, tip)
			}
		})
	}
}

func TestFaultsThatAreOvercome(t *testing.T) {
	w := newWorld(t)
	for _, f := range []rpcfault.Fault{
		rpcfault.NoBatches, rpcfault.MaxBatch(2), rpcfault.Reordered, rpcfault.IgnoresBlockHash, rpcfault.RefusesBlockObject,
	} {
		t.Run(f.Name, func(t *testing.T) {
			w.Proxy.Set(f)
			s, err := look(t.Context(), newClient(t, "latest", w.URL), w.request())
			if err != nil {
				t.Fatal(err)
			}
			w.truth(t, s)
		})
	}
}

// lost are faults after which a provider gives no answer.
var lost = []struct {
	fault rpcfault.Fault
	says  string
}{
	{rpcfault.Status(429, ""), "HTTP status 429"},
	{rpcfault.Status(429, "3600"), "the next try would be in 1h0m0s, after the deadline"},
	{rpcfault.Status(401, ""), "the provider rejects the key"},
	{rpcfault.Status(500, ""), "HTTP status 500"},
	{rpcfault.Redirect("https://example.invalid/"), "redirects are refused"},
	{rpcfault.Body("HTML", "text/html", "<html>Welcome</html>"), `the answer is not JSON-RPC: "<html>Welcome</html>"`},
	{rpcfault.Body("flipped bit", "application/json", "[{\"jsonrpc\":\"2.0\",\"id\":1,\"resul\xf4\":null}]"), "the answer is not UTF-8"},
	{rpcfault.Body("empty body", "application/json", ""), "the answer is not JSON-RPC"},
	{rpcfault.Body("null body", "application/json", "null"), "a batch was answered with a single message"},
	{rpcfault.Body("truncated body", "application/json", `[{"jsonrpc":"2.0","id":1,"resu`), "the answer is not JSON-RPC"},
	{rpcfault.Body("200 with an error body", "application/json", `{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"upstream on fire"}}`), `error "upstream on fire"`},
	{rpcfault.Huge, "the answer is over"},
	{rpcfault.ShortBatch, "3 calls got "},
	{rpcfault.LongBatch, "3 calls got "},
	{rpcfault.TwiceOne, "two answers have the id"},
	{rpcfault.ForeignID, "an answer has the unknown id"},
	{rpcfault.NoIDs, "an answer has no id"},
	{rpcfault.Fault{Name: "no code, but calls are answered", Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if c.Method == "eth_getCode" {
			a.Result = json.RawMessage(`"0x"`)
		}
	}}, "has no code, but it answers calls"},
	{rpcfault.ChainID(1), "eth_chainId answers 1, but chain_id is configured as 1337"},
	{rpcfault.Refuse("eth_chainId", -32601, "the method eth_chainId does not exist/is not available"), "eth_chainId"},
	{rpcfault.Refuse("eth_call", -32000, "header not found"), "use a provider that keeps older state"},
	{rpcfault.Refuse("eth_call", -32000, "missing trie node 0xabc (path ) state 0xdef is not available"), "use a provider that keeps older state, or a more recent block policy such as `block: latest-5`"},
	{rpcfault.Refuse("eth_call", -32603, "Internal error"), `error -32603, "Internal error"`},
	{rpcfault.Refuse("eth_getCode", -32603, "Internal error"), "Internal error"},
}

func TestFaultsThatLoseAProvider(t *testing.T) {
	w := newWorld(t)
	for _, tt := range lost {
		t.Run(tt.fault.Name, func(t *testing.T) {
			w.Proxy.Set(tt.fault)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := look(ctx, newClient(t, "latest", w.URL), w.request())
			var all *ethrpc.ReadError
			if !errors.As(err, &all) || all.Failures[0].Provider != "p1" || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("Read = %v, want an error of p1 that says %q", err, tt.says)
			}
			if strings.Contains(err.Error(), strings.TrimPrefix(w.URL, "http://")) {
				t.Errorf("the error shows the provider's address: %v", err)
			}

			s, err := look(ctx, newClient(t, "latest", w.URL, w.Chain.URL()), w.request())
			if err != nil {
				t.Fatalf("with a second provider: %v", err)
			}
			w.truth(t, s)
			if s.Provider != "p2" || len(s.failed) != 1 || s.failed[0].Provider != "p1" {
				t.Errorf("%s answered after %v, want p2 after p1", s.Provider, s.failed)
			}
		})
	}
}

func TestAnswersOfNoKnownShape(t *testing.T) {
	w := newWorld(t)
	word := strings.Repeat("00", 31)
	for _, tt := range []struct{ name, result, says string }{
		{"no bytes", `"0x"`, "the answer has 0 bytes"},
		{"31 bytes", `"0x` + word + `"`, "the answer has 31 bytes"},
		{"33 bytes", `"0x` + word + `0001"`, "the answer has 33 bytes"},
		{"the value 2", `"0x` + word + `02"`, "is neither 0 nor 1"},
		{"a high bit", `"0x80` + word[2:] + `01"`, "is neither 0 nor 1"},
		{"null", `null`, "the answer is null"},
		{"a number", `1`, "the answer is not hex data"},
		{"an odd digit", `"0x1"`, "the answer is not hex data"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.Proxy.Set(rpcfault.Result(tt.name, tt.result))
			s, err := look(t.Context(), newClient(t, "latest", w.URL), w.request())
			if err != nil {
				t.Fatal(err)
			}
			for _, got := range []ethrpc.Answer{s.Devices[device], s.OSImages[image], s.OSImages[refused]} {
				if got.Allowed || got.Err == nil || !strings.Contains(got.Err.Error(), tt.says) {
					t.Errorf("answer %v, want the error %q", got, tt.says)
				}
			}
			s, err = look(t.Context(), newClient(t, "latest", w.URL, w.Chain.URL()), w.request())
			if err != nil {
				t.Fatal(err)
			}
			w.truth(t, s)
		})
	}
}

func TestAContractThatIsNoKMS(t *testing.T) {
	w := newWorld(t)
	stranger := testchain.Address("stranger")
	req := w.request()
	req.queries = append(req.queries, ethrpc.Query{Contract: stranger, Devices: []common.Hash{device}})
	s, err := look(t.Context(), newClient(t, "latest", w.URL), req)
	if err != nil {
		t.Fatal(err)
	}
	w.truth(t, s)
	if other := s.state.Readings[1]; other.Contract != stranger || other.Err != nil || other.HasCode || other.Devices[device].Err == nil {
		t.Errorf("an account without code is read as %+v", other)
	}
}

func TestAReorganisationBetweenPinAndRead(t *testing.T) {
	for _, f := range []rpcfault.Fault{{Name: "read by hash"}, {Name: "read by number", Ask: rpcfault.IgnoresBlockHash.Ask}} {
		t.Run(f.Name, func(t *testing.T) {
			w := newWorld(t)
			w.Proxy.Set(f)
			// A provider that ignores the hash reads by number, and by then another block has that number.
			req := w.request()
			req.between = func() {
				if _, err := w.Chain.Reorg(t.Context(), 1); err != nil {
					t.Error(err)
				}
			}
			_, err := look(t.Context(), newClient(t, "latest", w.URL), req)
			if err == nil || !strings.Contains(err.Error(), "the chain was reorganised between pin and read") {
				t.Fatalf("Read = %v, want the reorganisation", err)
			}
		})
	}
}

func TestEveryCallStandsAtThePinnedHash(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	var at []string
	w.Proxy.Watch(func(c rpcfault.Call) {
		mu.Lock()
		defer mu.Unlock()
		if c.Method == "eth_getCode" || c.Method == "eth_call" && !strings.Contains(string(c.Params[0]), common.Address{}.Hex()) {
			at = append(at, string(c.Params[1]))
		}
	})
	s, err := look(t.Context(), newClient(t, "latest", w.URL), w.request())
	if err != nil {
		t.Fatal(err)
	}
	if len(at) != 4 {
		t.Fatalf("%d reads, want 4", len(at))
	}
	for _, param := range at {
		var ref struct {
			BlockHash        common.Hash
			RequireCanonical bool
		}
		if err := json.Unmarshal([]byte(param), &ref); err != nil || ref.BlockHash != s.at.Block.Hash || !ref.RequireCanonical {
			t.Errorf("a call stands at %s, want the hash %s and requireCanonical", param, s.at.Block.Hash)
		}
	}
}

func TestTheNextPolicyOnlyWhereStateIsMissing(t *testing.T) {
	w := newWorld(t)
	old := func(name, message string) rpcfault.Fault {
		return rpcfault.Fault{Name: name, Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
			head, err := w.Chain.Client().HeaderByNumber(context.Background(), nil)
			if err == nil && c.Method == "eth_call" && a.Error == nil && !strings.Contains(string(c.Params[1]), head.Hash().Hex()) {
				a.Result, a.Error = nil, &rpcfault.Error{Code: -32000, Message: message}
			}
		}}
	}
	pruned := old("state of old blocks pruned", "missing trie node")
	noTag := rpcfault.Fault{Name: "tag unknown", Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if c.Method == "eth_getBlockByNumber" && string(c.Params[0]) == `"finalized"` {
			a.Result = json.RawMessage("null")
		}
	}}
	for _, tt := range []struct {
		fault    rpcfault.Fault
		policies string
		used     string
	}{
		{rpcfault.Fault{Name: "no fault"}, "latest-1 latest", "latest-1"},
		{pruned, "latest-1 latest", "latest"},
		{pruned, "latest-1", ""},
		{noTag, "finalized safe", "safe"},
		{noTag, "finalized", ""},
		{rpcfault.Fault{Name: "chain too short"}, "latest-5000 latest", "latest"},
		{rpcfault.Fault{Name: "block to come"}, "5000 latest", "latest"},
		{rpcfault.Status(500, ""), "latest-1 latest", ""},
		{old("old blocks fail for another reason", "out of memory"), "latest-1 latest", ""},
		{rpcfault.OtherBlock, "1", ""},
		{rpcfault.OtherBlock, "0x" + strings.Repeat("ab", 32), ""},
	} {
		t.Run(tt.fault.Name+", "+tt.policies, func(t *testing.T) {
			w.Proxy.Set(tt.fault)
			req := w.request()
			req.Tags = parseTags(t, tt.policies)
			s, err := look(t.Context(), newClient(t, "latest", w.URL), req)
			switch {
			case tt.used == "" && err == nil:
				t.Errorf("read by %s, want an error", s.at.Tag)
			case tt.used != "" && err != nil:
				t.Error(err)
			case tt.used != "":
				w.truth(t, s)
				if s.at.Tag.String() != tt.used {
					t.Errorf("read by %s, want %s", s.at.Tag, tt.used)
				}
			}
		})
	}
}

func TestABlockBehindOneSeenBefore(t *testing.T) {
	w := newWorld(t)
	req := w.request()
	req.NotBefore = 5000
	if _, err := look(t.Context(), newClient(t, "latest", w.URL), req); err == nil || !strings.Contains(err.Error(), "is behind block 5000") {
		t.Errorf("Read = %v, want the complaint that the node is behind", err)
	}
}

func TestRoundTrips(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		policy        string
		entries, want int
	}{
		{"latest", 40, 2},
		{"safe", 40, 2},
		{"latest-1", 40, 3},
		{"latest", 1000, 12},
	} {
		t.Run(fmt.Sprintf("%s, %d entries", tt.policy, tt.entries), func(t *testing.T) {
			query := ethrpc.Query{Contract: w.KMS.Address()}
			for i := range tt.entries {
				query.OSImages = append(query.OSImages, common.Hash{31: byte(i), 30: byte(i >> 8)})
			}
			before := w.Proxy.Requests()
			s, err := look(t.Context(), newClient(t, tt.policy, w.URL), request{queries: []ethrpc.Query{query}})
			if err != nil || len(s.OSImages) != tt.entries {
				t.Fatalf("Read = %+v, %v; want %d answers", s, err, tt.entries)
			}
			if got := w.Proxy.Requests() - before; got != tt.want {
				t.Errorf("%d round trips, want %d", got, tt.want)
			}
		})
	}
}

func TestProvidersThatAreDown(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	c := newClient(t, "latest", gone.URL+"/v2/canary-in-path")
	_, err := look(t.Context(), c, request{})
	if err == nil || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), "canary") {
		t.Errorf("Read = %v, want a refused connection without the URL", err)
	}
}

func TestATimeoutIsNamed(t *testing.T) {
	w := newWorld(t)
	w.Proxy.Set(rpcfault.Hang)
	c, err := ethrpc.New(ethrpc.Options{ChainID: 1337, Verify: ethrpc.VerifyOff, Tags: []ethrpc.BlockTag{ethrpc.Latest}, BatchSize: 10,
		Providers: []ethrpc.Provider{{Name: "p1", URL: sanitize.NewSecret(w.URL), Timeout: 50 * time.Millisecond}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = look(t.Context(), c, w.request())
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer within 50ms") {
		t.Errorf("Read = %v, want the provider's timeout", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err = look(ctx, c, w.request()); err == nil || !strings.Contains(err.Error(), "the audit ended before the provider answered") {
		t.Errorf("Read = %v, want the audit's end", err)
	}
}

func TestCheckingEveryProvider(t *testing.T) {
	w := newWorld(t)
	w.Proxy.Set(rpcfault.ChainID(1))
	got := newClient(t, "latest-5000 latest", w.Chain.URL(), w.URL).Check(t.Context())
	var other *ethrpc.ChainIDError
	if len(got) != 1 || got[0].Provider != "p2" || !errors.As(got[0], &other) {
		t.Errorf("Check = %v, want p2 on another chain, and p1 served by its second policy", got)
	}
	if got := newClient(t, "latest-5000", w.Chain.URL()).Check(t.Context()); len(got) != 1 || !errors.Is(got[0], ethrpc.ErrNoState) {
		t.Errorf("Check = %v, want p1 without such a block", got)
	}
}
