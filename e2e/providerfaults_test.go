//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

const (
	jsonType = "application/json"
	word     = "00000000000000000000000000000000000000000000000000000000000000" // 31 bytes
)

// providerFaults are faults after which the chain is unknown.
var providerFaults = []row{
	{sentence: "the provider refuses connections", exit: 3, fails: []string{"rpc p1: …connection refused"},
		settings: func(s *stage, c *settings) { c.Chains[0].Providers[0].URL = s.secrets.guard(refused) }},
	{sentence: "the provider does not answer", exit: 3, fails: []string{"rpc p1: …no answer within 300ms"}, rpc: rpcfault.Hang, settings: hasty},
	{sentence: "the provider refuses the key", exit: 3, fails: []string{"rpc p1: …418"},
		settings: func(_ *stage, c *settings) { c.Chains[0].Providers[0].Headers = nil }},
	{sentence: "the provider refuses the key and echoes the request", exit: 3, fails: []string{"rpc p1: …401…[redacted]"},
		rpc: echoing(401, "%s may not pass")},
	{sentence: "the provider's error object echoes the request", exit: 3, fails: []string{"rpc p1: …[redacted]"},
		rpc: echoing(200, `{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":%q}}`)},
	{sentence: "the provider answers with something other than JSON and echoes the request", exit: 3, fails: []string{"rpc p1: …not JSON-RPC…[redacted]"},
		rpc: echoing(200, "<html>%s</html>")},
	{sentence: "the provider is rate limited", exit: 3, fails: []string{"rpc p1: …429"}, rpc: rpcfault.Status(429, "")},
	{sentence: "the provider's Retry-After is longer than an audit", exit: 3, fails: []string{"rpc p1: …429…24h0m0s"}, rpc: rpcfault.Status(429, "86400")},
	{sentence: "the provider has an error", exit: 3, fails: []string{"rpc p1: …500"}, rpc: rpcfault.Status(500, "")},
	{sentence: "the provider redirects to another host", exit: 3, fails: []string{"rpc p1: …redirects are refused"}, rpc: rpcfault.Redirect("https://example.com/")},
	{sentence: "the provider answers with a web page", exit: 3, fails: []string{"rpc p1: …not JSON-RPC…Welcome"}, rpc: rpcfault.Body("page", "text/html", "<html>Welcome</html>")},
	{sentence: "the provider's JSON is truncated", exit: 3, fails: []string{"rpc p1: …not JSON-RPC"}, rpc: rpcfault.Body("truncated", jsonType, `[{"jsonrpc":"2.0","id":1,"resu`)},
	{sentence: "the provider's answer never ends", exit: 3, fails: []string{"rpc p1: …the answer is over"}, rpc: rpcfault.Huge},
	{sentence: "the provider answers 200 with an error body", exit: 3, fails: []string{"rpc p1: …upstream on fire"},
		rpc: rpcfault.Body("error", jsonType, `{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"upstream on fire"}}`)},
	{sentence: "a batch comes back short", exit: 3, fails: []string{"rpc p1: …calls got …answers"}, rpc: rpcfault.ShortBatch},
	{sentence: "a batch comes back long", exit: 3, fails: []string{"rpc p1: …calls got …answers"}, rpc: rpcfault.LongBatch},
	{sentence: "a batch comes back with one answer twice", exit: 3, fails: []string{"rpc p1: …two answers have the id"}, rpc: rpcfault.TwiceOne},
	{sentence: "a batch comes back without ids", exit: 3, fails: []string{"rpc p1: …an answer has no id"}, rpc: rpcfault.NoIDs},
	{sentence: "the provider serves another chain", exit: 3, finds: []string{"critical chain_mismatch"},
		fails: []string{"rpc p1: eth_chainId answers 10, but chain_id is configured as"}, rpc: rpcfault.ChainID(10)},
	{sentence: "the provider does not answer eth_chainId", exit: 3, fails: []string{"rpc p1: …eth_chainId"}, rpc: rpcfault.Refuse("eth_chainId", -32601, "no such method")},
	{sentence: "the provider does not have the block", exit: 3, fails: []string{"rpc p1: …no such block"},
		settings: func(_ *stage, c *settings) { c.Chains[0].Block = "0x" + strings.Repeat("ab", 32) }},
	{sentence: "the provider has not seen that many blocks", exit: 3, fails: []string{"rpc p1: …no such block"},
		settings: func(_ *stage, c *settings) { c.Chains[0].Block = "123456789" }},
	{sentence: "the provider has pruned the state", exit: 3, fails: []string{"rpc p1: …a provider that keeps older state, or a more recent block policy such as `block: latest-5`…missing trie node"},
		rpc: rpcfault.Refuse("eth_call", -32000, "missing trie node 0xabc (path )")},
	{sentence: "the provider's calls fail", exit: 3, fails: []string{"rpc p1: …Internal error"}, rpc: rpcfault.Refuse("eth_call", -32603, "Internal error")},
	{sentence: "the provider does not answer eth_getCode", exit: 3, fails: []string{"rpc p1: …Internal error"}, rpc: rpcfault.Refuse("eth_getCode", -32603, "Internal error")},
	answers("null", `null`, "the answer is null"),
	answers("nothing", `"0x"`, "the answer has 0 bytes"),
	answers("31 bytes", `"0x`+word+`"`, "the answer has 31 bytes"),
	answers("33 bytes", `"0x`+word+`0001"`, "the answer has 33 bytes"),
	answers("the number 2", `"0x`+word+`02"`, "is neither 0 nor 1"),
	{sentence: "the chain is reorganised between pin and read", exit: 3, fails: []string{"rpc p1: …reorganised between pin and read"},
		only:      "anvil", // geth --dev cannot reorganise; tests of ethrpc reorganise a chain of go-ethereum
		meanwhile: event{"eth_getCode", 1, reorganise}},
	{sentence: "the chain is reorganised between pin and read of a provider that ignores block hashes", exit: 3,
		fails: []string{"rpc p1: …reorganised between pin and read"}, rpc: rpcfault.IgnoresBlockHash, settings: plain,
		only:      "anvil", // as above
		meanwhile: event{"eth_getCode", 1, reorganise}},
}

// answers returns the row of a getter whose answer is not a bool.
func answers(what, result, says string) row {
	return row{sentence: "a getter answers with " + what, exit: 3, rpc: rpcfault.Result(what, result), settings: plain,
		says: says, fails: []string{"rpc p1: calling …" + says}}
}

// overcome are faults that do not affect the result.
var overcome = []row{
	{sentence: "a provider that refuses batches is asked one by one", rpc: rpcfault.NoBatches},
	{sentence: "a provider that refuses large batches is asked in small ones", rpc: rpcfault.MaxBatch(2)},
	{sentence: "a batch in another order is put in order by its ids", rpc: rpcfault.Reordered},
	{sentence: "a provider that ignores block hashes is pinned by number", rpc: rpcfault.IgnoresBlockHash},
	{sentence: "a provider that refuses block hashes is pinned by number", rpc: rpcfault.RefusesBlockObject},
	{sentence: "the second provider is asked if the first one fails", rpc: rpcfault.Status(500, ""),
		settings: second, fails: []string{"rpc p1: …500"}},
	{sentence: "the second provider is asked if the first one answers nonsense", rpc: rpcfault.Result("2", `"0x`+word+`02"`),
		settings: second, fails: []string{"rpc p1: …is neither 0 nor 1"}},
	{sentence: "the second provider is asked if the first one serves another chain", rpc: rpcfault.ChainID(10),
		settings: second, fails: []string{"rpc p1: eth_chainId answers 10"}},
	{sentence: "the next block policy is used if the first one's block is unavailable", rpc: noFinalized,
		settings: func(_ *stage, c *settings) { c.Chains[0].Block = []string{"finalized", "latest"} },
		fails:    []string{"rpc p1: …no such block"}},
	{sentence: "a newest block of yesterday is a warning", rpc: asleep, settings: plain, fails: []string{"rpc p1: warning: the newest block … is 24h"}},
}

func second(s *stage, c *settings) { c.addProvider("p2", s.node.url) }

// plain turns off proofs and events.
func plain(_ *stage, c *settings) { c.Chains[0].Verify = "off" }

var noFinalized = rpcfault.Fault{Name: "no finalized block", Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
	if c.Method == "eth_getBlockByNumber" && string(c.Params[0]) == `"finalized"` {
		a.Result, a.Error = nil, &rpcfault.Error{Code: -39001, Message: "Unknown block"}
	}
}}

// asleep is a node whose newest block is a day old.
var asleep = rpcfault.Fault{Name: "old head", Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
	var block map[string]any
	if c.Method != "eth_getBlockByNumber" || json.Unmarshal(a.Result, &block) != nil || block == nil {
		return
	}
	block["timestamp"] = fmt.Sprintf("0x%x", time.Now().Add(-24*time.Hour-time.Minute).Unix())
	b, err := json.Marshal(block)
	if err != nil {
		panic(err)
	}
	a.Result = b
}}
