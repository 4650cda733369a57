package logs_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// refuse answers refused ranges with an error object, whose message may name the range.
func refuse(code int, message func(from, to uint64, logs int) string) rpcfault.Fault {
	return rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		from, to, ok := asksLogs(c)
		if !ok || a.Error != nil {
			return
		}
		var logs []json.RawMessage
		_ = json.Unmarshal(a.Result, &logs)
		if m := message(from, to, len(logs)); m != "" {
			a.Result, a.Error = nil, &rpcfault.Error{Code: code, Message: m}
		}
	}}
}

// atMost50 serves at most 50 blocks at once.
func atMost50(code int, words string) rpcfault.Fault {
	return refuse(code, func(from, to uint64, _ int) string {
		if to-from >= 50 {
			return words
		}
		return ""
	})
}

// inPlace answers requests for logs of more than 50 blocks instead of the node.
func inPlace(f func(w http.ResponseWriter, r *http.Request)) rpcfault.Fault {
	return rpcfault.Fault{HTTP: func(w http.ResponseWriter, r *http.Request, calls []rpcfault.Call, _ bool) bool {
		from, to, ok := asksLogs(calls[0])
		if !ok || to-from < 50 {
			return false
		}
		f(w, r)
		return true
	}}
}

func TestScanReadsAllWhateverTheLimits(t *testing.T) {
	w := newLogWorld(t)
	status := func(code int, body string) rpcfault.Fault {
		return inPlace(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, body, code) })
	}
	for _, tt := range []struct {
		name     string
		fault    rpcfault.Fault
		requests int // at most, including the two that check blocks
		timeout  time.Duration
	}{
		{"no limit", rpcfault.Fault{}, 4, 0},
		{"batches are refused", rpcfault.NoBatches, 20, 0},
		{"logs come in another order", rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
			var logs []json.RawMessage
			if _, _, ok := asksLogs(c); ok && json.Unmarshal(a.Result, &logs) == nil {
				slices.Reverse(logs)
				a.Result, _ = json.Marshal(logs)
			}
		}}, 4, 0},
		{"too many results", refuse(-32005, func(from, to uint64, logs int) string {
			if logs > 10 {
				return "query returned more than 10 results"
			}
			return ""
		}), 60, 0},
		{"too many results in other words", refuse(-32602, func(from, to uint64, logs int) string {
			if logs > 10 {
				return "logs matched by query exceeds limit of 10"
			}
			return ""
		}), 60, 0},
		{"an answer larger than geth hands on", refuse(-32003, func(from, to uint64, logs int) string {
			if logs > 10 {
				return "response too large"
			}
			return ""
		}), 60, 0},
		{"blocks, as geth says it", atMost50(-32000, "block range is too wide"), 60, 0},
		{"blocks, with the code of a rate limit", atMost50(-32005, "exceeds limit of 50"), 60, 0},
		{"blocks in thousands", atMost50(-32000, "max is 1k blocks"), 60, 0},
		{"a free tier", atMost50(35, "ranges over 50 blocks are not supported on freetier"), 60, 0},
		{"a range too large", atMost50(-32600, "block range too large"), 60, 0},
		{"the head is passed", atMost50(-32602, "block range extends beyond current head block"), 60, 0},
		{"words of no known kind", atMost50(-32603, "computer says no"), 60, 0},
		{"a range is suggested in words", refuse(-32602, func(from, to uint64, _ int) string {
			if to-from >= 50 {
				return fmt.Sprintf("query exceeds max results 20000, retry with the range %d-%d", from, from+49)
			}
			return ""
		}), 40, 0},
		{"a range is suggested in hex", refuse(-32602, func(from, to uint64, _ int) string {
			if to-from >= 50 {
				return fmt.Sprintf("Log response size exceeded. Based on your parameters, this block range should work: [0x%x, 0x%x]", from, from+49)
			}
			return ""
		}), 40, 0},
		{"a wrong range is suggested", atMost50(-32602, "retry with the range 1000000-1000001"), 60, 0},
		{"an HTTP status for the range", status(400, `{"error":{"message":"block range is too wide"}}`), 60, 0},
		{"an HTTP status without words", status(413, ""), 80, 0},
		{"an HTTP status with words", status(500, "query returned more than 50 results"), 60, 0},
		{"a gateway that does not wait", status(504, ""), 120, 0},
		{"an answer without end", inPlace(func(rw http.ResponseWriter, r *http.Request) { rpcfault.Huge.HTTP(rw, r, nil, false) }), 60, 0},
		{"no answer in time", inPlace(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), 120, 300 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.Proxy.Set(tt.fault)
			before := w.Proxy.Requests()
			c, err := ethrpc.New(ethrpc.Options{ChainID: 1337, Tags: []ethrpc.BlockTag{ethrpc.Latest}, BatchSize: 10, RetryDelay: time.Millisecond, Verify: ethrpc.VerifyOff,
				Providers: []ethrpc.Provider{{Name: "p1", URL: sanitize.NewSecret(w.URL), Timeout: tt.timeout}}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if by, err := c.Scan(t.Context(), w.scan()); err != nil || by != "p1" {
				t.Fatalf("Scan = %q, %v", by, err)
			}
			w.complete(t)
			if n := w.Proxy.Requests() - before; n > tt.requests {
				t.Errorf("%d requests, want at most %d", n, tt.requests)
			}
			// A status that refuses a range must not count as a refusal of batches.
			w.Proxy.Set(rpcfault.Fault{})
			before = w.Proxy.Requests()
			at, err := c.Pin(t.Context(), ethrpc.PinRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(t.Context(), at, []ethrpc.Query{{Contract: w.KMS.Address(), Devices: []common.Hash{device}}}, ethrpc.ReadOptions{}); err != nil {
				t.Fatal(err)
			}
			if n := w.Proxy.Requests() - before; n > 2 && tt.fault.Name != rpcfault.NoBatches.Name {
				t.Errorf("afterwards a read takes %d requests, want 2", n)
			}
		})
	}
}

// ranges counts how often each range of logs is asked for.
func (w *logWorld) ranges() map[[2]uint64]int {
	var mu sync.Mutex
	asked := map[[2]uint64]int{}
	w.Proxy.Watch(func(c rpcfault.Call) {
		if from, to, ok := asksLogs(c); ok {
			mu.Lock()
			asked[[2]uint64{from, to}]++
			mu.Unlock()
		}
	})
	return asked
}

// The error code is also that of a rate limit, which would cause a retry of the same call.
func TestARefusedRangeIsNotAskedAgain(t *testing.T) {
	w := newLogWorld(t)
	asked := w.ranges()
	w.Proxy.Set(atMost50(-32005, "query returned more than 10000 results"))
	if _, err := newClient(t, w.URL).Scan(t.Context(), w.scan()); err != nil {
		t.Fatal(err)
	}
	w.complete(t)
	for r, n := range asked {
		if n > 1 {
			t.Errorf("%v was asked for %d times", r, n)
		}
	}
}

func TestASuggestedRangeIsAskedNext(t *testing.T) {
	w := newLogWorld(t)
	asked := w.ranges()
	w.Proxy.Set(refuse(-32602, func(from, to uint64, _ int) string {
		if from == 0 && to > 122 {
			return "retry with the range 0-122"
		}
		return ""
	}))
	if _, err := newClient(t, w.URL).Scan(t.Context(), w.scan()); err != nil {
		t.Fatal(err)
	}
	w.complete(t)
	if asked[[2]uint64{0, 122}] == 0 {
		t.Errorf("asked for %v, want 0 to 122 among it", asked)
	}
}

// TestAnAnswerThatIsTooLargeIsSoonSmallEnough limits the number of answers that are too large, since each takes the node long.
func TestAnAnswerThatIsTooLargeIsSoonSmallEnough(t *testing.T) {
	w := newLogWorld(t)
	var tooLarge atomic.Int64
	w.Proxy.Set(refuse(-32003, func(_, _ uint64, logs int) string {
		if logs > 10 {
			tooLarge.Add(1)
			return "response too large"
		}
		return ""
	}))
	if _, err := newClient(t, w.URL).Scan(t.Context(), w.scan()); err != nil {
		t.Fatal(err)
	}
	w.complete(t)
	if n := tooLarge.Load(); n > 1 {
		t.Errorf("%d answers were too large", n)
	}
}
