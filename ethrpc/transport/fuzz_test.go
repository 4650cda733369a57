package transport_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
)

// An answer that passes the check has one message for every call and nothing else.
func FuzzAnswer(f *testing.F) {
	f.Add(`[{"jsonrpc":"2.0","id":1,"result":"0x539"},{"jsonrpc":"2.0","id":2,"result":null}]`)
	f.Add(`[{"id":2,"result":1},{"id":1,"error":{"code":-32000,"message":"header not found"}}]`)
	f.Add(`[{"id":1,"result":1},{"id":1,"result":2}]`)
	f.Add(`[{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"batch too large"}}]`)
	f.Add(`{"error":{"code":"x"}}`)
	f.Add("<html>")
	f.Add("null")
	f.Add(`{"id":1,"result":{}}`)
	f.Add(`{"id":"1","result":"\u001b"}`)
	f.Fuzz(func(t *testing.T, body string) {
		if err := transport.CheckSingle([]byte(body), "1"); err != nil {
			fit.Error(t, err, 1000)
		} else {
			var one struct{ ID int }
			if err := json.Unmarshal([]byte(body), &one); err != nil || one.ID != 1 {
				t.Errorf("%q passes for the answer to 1", body)
			}
		}
		err := transport.CheckAnswer([]byte(body), "1", "2")
		if err != nil {
			fit.Error(t, err, 1000)
			return
		}
		var got []struct {
			ID            int
			Result, Error json.RawMessage
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil || len(got) != 2 || got[0].ID+got[1].ID != 3 || got[0].ID*got[1].ID != 2 {
			t.Errorf("%q passes for the answers to 1 and 2", body)
		}
	})
}

const canary = "c4n4ry-0123456789"

// FuzzProviderError checks that a provider's message is shown cut and without secrets, and not classified as two contradictory
// kinds.
func FuzzProviderError(f *testing.F) {
	for _, s := range []string{"", "KEY", "header not found", "missing trie node KEY", "query returned more than 10000 results", "daily request count exceeded, request rate limited: block range", "batch too large",
		"execution reverted: \x1b[2J", "invalid argument 1: block not found", strings.Repeat("x", 190) + "KEY", strings.Repeat(" ", 4090) + "KEY", `{"error":"KEY"}`, "\xff", "the method eth_getProof does not exist/is not available"} {
		f.Add(-32000, s, 429)
		f.Add(-32601, s, 503)
		f.Add(3, s, 301)
	}
	f.Fuzz(func(t *testing.T, code int, text string, status int) {
		text = strings.ReplaceAll(text, "KEY", canary)
		is, said := transport.Answered(code, text, canary)
		fit.Error(t, said, 1200, canary[:8], canary[len(canary)-8:])
		lower := strings.ToLower(text)
		switch {
		case is.Pruned && code == -32601, is.FormRefused && is.UnknownBlock, is.TooWide && strings.Contains(lower, "rate limit"),
			is.Revert && code != 3 && !strings.Contains(lower, "revert") && !strings.Contains(lower, "invalid") && !strings.Contains(lower, "out of gas") && !strings.Contains(lower, "stack") && !strings.Contains(lower, "opcode"):
			t.Errorf("%d %q is taken for %+v", code, text, is)
		}
		is, refused := transport.Refused(status, []byte(text), canary)
		fit.Error(t, refused, 1200, canary[:8], canary[len(canary)-8:])
		if is.Pruned || is.UnknownBlock || is.FormRefused || is.Revert || is.Transient != (status == 429 || status == 503) {
			t.Errorf("HTTP status %d %q is taken for %+v", status, text, is)
		}
	})
}
