//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// scans has providers that serve only a part of the logs or proofs.
var scans = []row{
	{sentence: "a provider without proofs is believed, and asked for events", settings: scanned, rpc: noProofs,
		fails: []string{"rpc p1: not proven: eth_getProof…does not exist"}, rests: "single events"},
	{sentence: "the second provider proves what the first one cannot", settings: both(scanned, second), rpc: noProofs,
		fails: []string{"rpc p1: not proven: eth_getProof…does not exist"}, rests: wholly},
	{sentence: "without a proof there is no answer while proof is required", settings: required, rpc: noProofs, exit: 3,
		fails: []string{"rpc p1: not proven: eth_getProof…does not exist"}},
	limited("without proofs the events tell of an image that the API leaves out", noProofs, "single events"),
	limited("logs of few blocks at once", blocksAtOnce(5, "exceed maximum block range: 5"), wholly),
	limited("logs of few blocks at once, and other words", blocksAtOnce(7, "query exceeds limits"), wholly),
	inPieces("logs of 50 blocks at once, and more than twice as many blocks", blocksAtOnce(50, "eth_getLogs is limited to a 50 block range")),
	inPieces("logs of 50 blocks at once, and a range that would do", suggesting(50)),
	limited("few logs at once", logsAtOnce(3, "query returned more than 3 results"), wholly),
	limited("few logs at once, and a range that would do", suggesting(9), wholly),
	{sentence: "the logs are older than those that the provider keeps", settings: scanned, claim: leaveOut(image058), exit: 1,
		rpc: forgetful, finds: []string{"critical storage_unaccounted"}, rests: "proven incomplete"},
	{sentence: "the second provider keeps logs that the first one does not", settings: both(scanned, second), claim: leaveOut(image058), exit: 1,
		rpc: forgetful, finds: []string{"critical unlisted_chain_allowed os_image 0.5.8"}, rests: wholly},
	{sentence: "the provider has no logs that could explain the storage", settings: scanned, rpc: noLogs, exit: 3, rests: "proven incomplete",
		says:  "events might explain the rest, but could not be read",
		fails: []string{"rpc events: reading the events of …p1: …no logs on this plan"}},
	{sentence: "the second provider has the logs", settings: both(scanned, second), rpc: noLogs, rests: wholly},
	{sentence: "the provider does not keep the state to find the block of deployment", exit: 3, rests: "proven incomplete",
		rpc: rpcfault.Join(noOldState, blocksAtOnce(5, "exceed maximum block range: 5")), says: "events might explain the rest, but could not be read",
		fails: []string{"rpc events: …set from_block of the contract"}},
}

// limited has an API that leaves out an image, which must still be found.
func limited(sentence string, f rpcfault.Fault, rests string) row {
	r := hideAdding(sentence, f, scanned, "unlisted_chain_allowed os_image 0.5.9")
	r.rests = rests
	if rests != wholly {
		r.fails = []string{"rpc p1: not proven"}
	}
	return r
}

// inPieces checks that the logs of more than a hundred blocks come in at least three ranges, after a refusal.
func inPieces(sentence string, f rpcfault.Fault) row {
	r := limited(sentence, f, wholly)
	r.before = func(ctx context.Context, s *stage) error {
		for {
			head, err := s.node.client.BlockNumber(ctx)
			if err != nil || head > s.born+100 {
				return errors.Join(err, allow059(ctx, s))
			}
			if err := s.advance(ctx); err != nil {
				return err
			}
		}
	}
	r.meanwhile = event{"eth_getLogs", 4, func(context.Context, *stage) error { return nil }}
	return r
}

var (
	noProofs = rpcfault.Refuse("eth_getProof", -32601, "the method eth_getProof does not exist/is not available")
	noLogs   = rpcfault.Refuse("eth_getLogs", -32601, "no logs on this plan")

	earlyBlock = regexp.MustCompile(`"blockNumber":"0x1?[0-9a-f]"`)
	blockHash  = regexp.MustCompile(`"hash":"0x[0-9a-f]{64}"`)
)

// query is the first parameter of an eth_getLogs.
type query struct {
	FromBlock hexutil.Uint64
	ToBlock   endBlock
}

// endBlock returns a block's number; a tag counts as the highest.
type endBlock uint64

func (b *endBlock) UnmarshalJSON(raw []byte) error {
	var number hexutil.Uint64
	if *b = 1 << 62; number.UnmarshalJSON(raw) == nil {
		*b = endBlock(number)
	}
	return nil
}

func (q query) blocks() int { return int(uint64(q.ToBlock)-uint64(q.FromBlock)) + 1 }

// logsBy changes answers to eth_getLogs by their range and number of logs.
func logsBy(change func(q query, logs int, a *rpcfault.Answer)) rpcfault.Fault {
	return rpcfault.Fault{Name: "logs", Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		var q query
		var logs []json.RawMessage
		if c.Method != "eth_getLogs" || a.Error != nil || json.Unmarshal(c.Params[0], &q) != nil || json.Unmarshal(a.Result, &logs) != nil {
			return
		}
		change(q, len(logs), a)
	}}
}

func refuse(a *rpcfault.Answer, words string) {
	a.Result, a.Error = nil, &rpcfault.Error{Code: -32000, Message: words}
}

func blocksAtOnce(n int, words string) rpcfault.Fault {
	f := logsBy(func(q query, _ int, a *rpcfault.Answer) {
		if q.blocks() > n {
			refuse(a, words)
		}
	})
	// Spares the node work for an answer that is refused anyway.
	f.Ask = func(c *rpcfault.Call) {
		var q query
		if c.Method == "eth_getLogs" && json.Unmarshal(c.Params[0], &q) == nil && q.blocks() > n {
			c.Params[0] = json.RawMessage(`{"fromBlock":"0x0","toBlock":"0x0"}`)
		}
	}
	return f
}

func logsAtOnce(n int, words string) rpcfault.Fault {
	return logsBy(func(q query, logs int, a *rpcfault.Answer) {
		if logs > n && q.blocks() > 1 {
			refuse(a, words)
		}
	})
}

// suggesting refuses more than n blocks and suggests a smaller range.
func suggesting(n int) rpcfault.Fault {
	return logsBy(func(q query, _ int, a *rpcfault.Answer) {
		if q.blocks() > n {
			refuse(a, fmt.Sprintf("query exceeds max results, retry with the range %d-%d", q.FromBlock, int(q.FromBlock)+n-1))
		}
	})
}

// forgetful leaves out the logs of the first 32 blocks, in which the lists were made.
var forgetful = editLogs(func(logs []json.RawMessage) []json.RawMessage {
	return slices.DeleteFunc(logs, func(l json.RawMessage) bool { return earlyBlock.Match(l) })
})

// noOldState serves code only at a block's hash.
var noOldState = rpcfault.Fault{Name: "no old state", Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
	if c.Method == "eth_getCode" && len(c.Params) == 2 && c.Params[1][0] == '"' {
		refuse(a, "missing trie node 0xabc (path )")
	}
}}
