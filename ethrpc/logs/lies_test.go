package logs_test

import (
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/logs"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// spoil changes the logs of every answer that has some.
func spoil(name string, change func(logs []map[string]any) any) rpcfault.Fault {
	return rpcfault.Fault{Name: name, Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		var logs []map[string]any
		if _, _, ok := asksLogs(c); ok && json.Unmarshal(a.Result, &logs) == nil && len(logs) > 2 {
			a.Result, _ = json.Marshal(change(logs))
		}
	}}
}

// with sets or removes a field of one log.
func with(name, field string, value any) rpcfault.Fault {
	return spoil(name, func(logs []map[string]any) any {
		logs[1][field] = value
		if value == nil {
			delete(logs[1], field)
		}
		return logs
	})
}

func answers(name, method, result string) rpcfault.Fault {
	return rpcfault.Fault{Name: name, Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if c.Method == method {
			a.Result, a.Error = json.RawMessage(result), nil
		}
	}}
}

// noReceipts refuses a method, and the two methods that return receipts.
func noReceipts(method string, code int, message string) rpcfault.Fault {
	f := rpcfault.Join(rpcfault.Refuse(method, code, message), rpcfault.Refuse("eth_getBlockReceipts", -32601, "no"), rpcfault.Refuse("eth_getTransactionReceipt", -32601, "no"))
	f.Name = message
	return f
}

func TestLogsThatNoNodeAnswers(t *testing.T) {
	w := newLogWorld(t)
	stranger := common.Hash{1}.Hex()
	for _, tt := range []struct {
		fault rpcfault.Fault
		says  string
	}{
		{with("a log of another contract", "address", common.Address{1}.Hex()), "a log of the contract 0x01"},
		{with("a log of another topic", "topics", []string{stranger}), "a log of the topic " + stranger},
		{with("a log without topics", "topics", []string{}), "a log with 0 topics"},
		{with("a log of five topics", "topics", []string{stranger, stranger, stranger, stranger, stranger}), "a log with 5 topics"},
		{with("a log of a block that was not asked", "blockNumber", "0xffffff"), "a log of block 16777215"},
		{with("a log of another block of that number", "blockHash", stranger), "in one answer and"},
		{with("a log twice", "logIndex", "0x0"), "two logs have the index 0"},
		{with("a removed log", "removed", true), "that a reorganisation removed"},
		{with("a pending log", "blockNumber", nil), "lacks a field"},
		{with("a log without index", "logIndex", nil), "lacks a field"},
		{with("a log without a transaction", "transactionHash", nil), "lacks a field"},
		{with("a large log", "data", "0x"+strings.Repeat("00", 1<<20+1)), "a log of 1048577 bytes"},
		{with("a short address", "address", "0x01"), "the answer is not a list of logs"},
		{spoil("a null among the logs", func(logs []map[string]any) any { return []any{logs[0], nil} }), "lacks a field"},
		{spoil("null", func([]map[string]any) any { return nil }), "the answer is null"},
		{spoil("not a list", func([]map[string]any) any { return "0x" }), "the answer is not a list of logs"},
		{answers("another chain", "eth_chainId", `"0x1"`), "eth_chainId answers 1"},
		{answers("another block", "eth_getBlockByNumber", string(w.block(1, common.Hash{}))), "got 1"},
		{answers("no blocks", "eth_getBlockByNumber", "null"), "the provider has no such block"},
		{rpcfault.Refuse("eth_getLogs", -32601, "the method eth_getLogs does not exist"), "does not exist"},
		{noReceipts("eth_getLogs", -32000, "no logs today"), `error -32000, "no logs today"`},
		{rpcfault.Refuse("eth_getLogs", -32005, "daily request count exceeded, request rate limited"), "rate limited"},
		{rpcfault.Refuse("eth_getLogs", -32602, "block range extends beyond current head block"), "beyond current head"},
		{rpcfault.Status(401, ""), "HTTP status 401"},
	} {
		t.Run(tt.fault.Name, func(t *testing.T) {
			w.Proxy.Set(tt.fault)
			before := w.Proxy.Requests()
			_, err := newClient(t, w.URL).Scan(t.Context(), w.scan())
			if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "p1: ") {
				t.Fatalf("Scan = %v, want an error of p1 that says %q", err, tt.says)
			}
			if n := w.Proxy.Requests() - before; n > 50 {
				t.Errorf("%d requests were made of it", n)
			}
			by, err := newClient(t, w.URL, w.Chain.URL()).Scan(t.Context(), w.scan())
			if err != nil || by != "p2" {
				t.Fatalf("with a second provider: Scan = %q, %v", by, err)
			}
			w.complete(t)
		})
	}
}

// A pool has a node on another branch. The checks of the blocks go to other nodes.
func TestAPieceStandsOnThePinnedBlock(t *testing.T) {
	w := newLogWorld(t)
	asked := 0
	w.Proxy.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if c.Method == "eth_getBlockByNumber" {
			if asked++; asked == 2 {
				a.Result = w.block(w.head.Number.Uint64(), common.Hash{1})
			}
		}
	}})
	req := w.scan()
	req.Step = 1000
	if _, err := newClient(t, w.URL).Scan(t.Context(), req); !errors.Is(err, logs.ErrReorganised) || len(w.pieces) > 0 {
		t.Errorf("Scan = %v after %v", err, w.pieces)
	}
}

// A lagging node of a pool does not have the last block yet, so some logs would be missing.
func TestAScanWaitsForANodeThatLags(t *testing.T) {
	w := newLogWorld(t)
	left := map[string]int{"eth_getLogs": 2, "eth_getBlockByNumber": 2}
	w.Proxy.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if left[c.Method] == 0 {
			return
		}
		left[c.Method]--
		if c.Method == "eth_getLogs" {
			a.Result, a.Error = nil, &rpcfault.Error{Code: -32000, Message: "header not found"}
		} else {
			a.Result = json.RawMessage("null")
		}
	}})
	req := w.scan()
	req.From = req.To
	if _, err := newClient(t, w.URL).Scan(t.Context(), req); err != nil || len(w.pieces) != 1 || left["eth_getLogs"] > 0 {
		t.Errorf("Scan = %v, pieces %v", err, w.pieces)
	}
}

func TestReceiptsThatAreNotTheBlocks(t *testing.T) {
	w := newLogWorld(t)
	var lists atomic.Int64
	refuseLists := rpcfault.Refuse("eth_getLogs", -32000, "no logs today")
	for name, change := range map[string]func(map[string]any){
		"of another block":       func(r map[string]any) { r["blockHash"] = common.Hash{1}.Hex() },
		"of another transaction": func(r map[string]any) { r["transactionHash"] = common.Hash{1}.Hex() },
		"without a list of logs": func(r map[string]any) { delete(r, "logs") },
		"whose logs are null":    func(r map[string]any) { r["logs"] = nil },
	} {
		t.Run(name, func(t *testing.T) {
			lists.Store(0)
			w.Proxy.Set(rpcfault.Join(refuseLists, rpcfault.Fault{Name: name, Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
				var all []map[string]any
				if c.Method != "eth_getBlockReceipts" || json.Unmarshal(a.Result, &all) != nil || len(all) == 0 {
					return
				}
				lists.Add(1)
				change(all[0])
				a.Result, _ = json.Marshal(all)
			}}))
			_, err := newClient(t, w.URL).Scan(t.Context(), w.scan())
			if err == nil || !strings.Contains(err.Error(), "is not of transaction") || lists.Load() == 0 {
				t.Errorf("Scan = %v after %d lists of receipts", err, lists.Load())
			}
		})
	}
	w.Proxy.Set(refuseLists)
	if provider, err := newClient(t, w.URL).Scan(t.Context(), w.scan()); err != nil || provider != "p1" {
		t.Errorf("by receipts alone: %q, %v", provider, err)
	}
}
